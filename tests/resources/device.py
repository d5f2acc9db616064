"""GPUs as NVML would show them, by script: what each answers, or that it doesn't know the question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar


class NotSupported(Exception):
    """What NVML raises for everything it can't do."""


@dataclass
class Rates:
    gpu: int


@dataclass
class Memory:
    used: int
    total: int


@dataclass
class Card:
    """One GPU; None is a question that it doesn't support. Each look takes the next of `powers` and `energies`."""

    name: str = "Test 80"
    uuid: str = "GPU-1111"
    busy: int | None = 50
    memory: tuple[int, int] | None = (2 << 30, 80 << 30)
    powers: list[int] = field(default_factory=list)
    energies: list[int] = field(default_factory=list)


class ScriptedNvml:
    """The part of NVML that is used."""

    NVMLError: type[Exception] = NotSupported

    def __init__(self, *cards: Card, broken: str = "") -> None:
        self.cards = cards
        self.broken = broken
        self.is_open = False

    def nvmlInit(self) -> None:
        if self.broken:
            raise NotSupported(self.broken)
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetName(self, handle: Card) -> str:
        return handle.name

    def nvmlDeviceGetUUID(self, handle: Card) -> str:
        return handle.uuid

    def nvmlDeviceGetUtilizationRates(self, handle: Card) -> Rates:
        return Rates(known(handle.busy))

    def nvmlDeviceGetMemoryInfo(self, handle: Card) -> Memory:
        return Memory(*known(handle.memory))

    def nvmlDeviceGetPowerUsage(self, handle: Card) -> int:
        return known(handle.powers.pop(0) if handle.powers else None)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Card) -> int:
        return known(handle.energies.pop(0) if handle.energies else None)


Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    if value is None:
        raise NotSupported("Not Supported")
    return value
