"""NVIDIA GPUs through NVML, the library of their driver.

Everything may be missing: the Python library, the driver, a GPU, or one of the figures on this model. Each of these is
a reason that is shown in place of a number. `Nvml` is the part of the library that is used here.
"""

# ruff: noqa: N802  # names of NVML

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from msgspec import Struct

DRIVER = Path("/proc/driver/nvidia/version")
Value = TypeVar("Value")


class Nvml(Protocol):
    """What is asked of NVML, by the names it has there. All of it raises `NVMLError`."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetName(self, handle: Any) -> str: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int: ...


class Reading(Struct, frozen=True, kw_only=True):
    """One look at a GPU. `busy` is percent of time in which it worked, `counter` millijoules since its driver began."""

    busy: float | None
    memory: int | None
    total: int | None
    watts: float | None
    counter: int | None
    reasons: dict[str, str]


class Gpus:
    """The GPUs of this machine that this process may use; `reason` says why there are none."""

    def __init__(self, nvml: Nvml | str, visible: str | None = None) -> None:
        self.names: list[str] = []
        self.reason = ""
        self._handles: list[Any] = []
        self._nvml: Nvml | None = None
        if isinstance(nvml, str):
            self.reason = nvml
            return
        try:
            nvml.nvmlInit()
            self._nvml = nvml
            self._choose(nvml, visible)
        except nvml.NVMLError as error:
            self.reason = f"NVML says: {error}"

    def _choose(self, nvml: Nvml, visible: str | None) -> None:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        uuids = [nvml.nvmlDeviceGetUUID(handle) for handle in handles]
        for index in chosen(visible, uuids):
            self._handles.append(handles[index])
            self.names.append(f"GPU {index} ({nvml.nvmlDeviceGetName(handles[index])})")
        if not handles:
            self.reason = "the driver has no GPU"
        elif not self._handles:
            self.reason = "CUDA_VISIBLE_DEVICES names no whole GPU of this machine"

    def read(self, number: int) -> Reading:
        """Looks at one of them; what it doesn't tell is None, with the reason by name."""
        nvml, handle = self._nvml, self._handles[number]
        assert nvml is not None, "there are handles only of an open library"
        reasons: dict[str, str] = {}

        def ask(name: str, question: Callable[[Any], Value]) -> Value | None:
            try:
                return question(handle)
            except nvml.NVMLError as error:
                reasons[name] = f"NVML says: {error}"
                return None

        rates = ask("busy", nvml.nvmlDeviceGetUtilizationRates)
        memory = ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        milliwatts = ask("watts", nvml.nvmlDeviceGetPowerUsage)
        return Reading(
            busy=None if rates is None else float(rates.gpu),
            memory=None if memory is None else int(memory.used),
            total=None if memory is None else int(memory.total),
            watts=None if milliwatts is None else milliwatts / 1000,
            counter=ask("counter", nvml.nvmlDeviceGetTotalEnergyConsumption),
            reasons=reasons,
        )

    def close(self) -> None:
        """Gives the library back; what it thinks of that changes nothing any more."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                self.reason = f"NVML says: {error}"


def open_gpus() -> Gpus:
    """The GPUs that CUDA_VISIBLE_DEVICES shows, or all; takes a second where the driver has to be woken."""
    return Gpus(load(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def load(driver: Path = DRIVER) -> Nvml | str:
    """The library, or why it isn't there."""
    try:
        import pynvml
    except ImportError:
        if driver.exists():
            return "nvidia-ml-py isn't installed; install it with: pip install 'tokenmill[bench]'"
        return "there is no driver of an NVIDIA GPU here, and other GPUs aren't measured"
    return cast(Nvml, pynvml)


def chosen(visible: str | None, uuids: Sequence[str]) -> list[int]:
    """Places of the GPUs that CUDA_VISIBLE_DEVICES names, by number or by the beginning of their UUID.

    As CUDA does, it stops at the first name that fits none. Numbers follow the bus, as NVML's do.
    """
    if visible is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for name in map(str.strip, visible.split(",")):
        if name.isdecimal() and int(name) < len(uuids):
            found.append(int(name))
        elif name and any(uuid.startswith(name) for uuid in uuids):
            found.append(next(place for place, uuid in enumerate(uuids) if uuid.startswith(name)))
        else:
            break
    return list(dict.fromkeys(found))
