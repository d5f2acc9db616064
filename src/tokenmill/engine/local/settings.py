"""What a worker will be started with: the user's options, and for the rest what suits model and machine.

Decided once for each engine: a worker that is started again must not find other slots because less memory is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.engine.local.autotp import check_divisible
from tokenmill.engine.local.folder import ModelFolder, resolve
from tokenmill.engine.local.machine import Machine, this_machine
from tokenmill.engine.local.memory import ELEMENT_BYTES, MemoryPlan, count_weights, plan_memory
from tokenmill.engine.local.sharding import check_size
from tokenmill.engine.local.wire import DEEPSPEED, Load
from tokenmill.errors import UsageError
from tokenmill.model.config import ModelConfig

#: Up to this many numbers a model is computed in fp32: it is fast enough there, and its answers are then the
#: same whatever else is in the batch.
SMALL = 50_000_000
#: Up to this many numbers one thread is as quick as all cores: the matrices are too small to be worth dividing, and
#: threads that wait for each other in every one of them crawl as soon as another program wants a core.
TINY = 10_000_000
#: Sequences at the same time. More gain little on a CPU, as its arithmetic is busy by then.
SLOTS = 32
#: Tokens of KV memory each of the default slots should find at least.
SLOT_TOKENS = 256
#: KV memory takes this part of what the weights leave free, so that a second node or program still finds room.
KV_SHARE = 4
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An engine before it is opened."""

    folder: ModelFolder
    load: Load
    facts: EngineFacts


def make_plan(node: Node, options: EngineOptions, machine: Machine | None = None) -> Plan:
    """Reads the model's folder and settles everything left open; raises `TokenmillError` for what can't work.

    `machine` is what the worker has, or each of its ranks; None for this one.
    """
    machine = machine or this_machine()
    place = f"node {node.name!r}"
    _check(place, options)
    path = resolve(node.target)
    folder = ModelFolder(path)
    _check_ranks(place, folder, options)
    dtype = options.dtype or choose_dtype(folder.config, fast_bf16=machine.fast_bf16)
    kv_memory = options.kv_memory
    if kv_memory is None:
        if options.device not in (None, "cpu"):
            raise UsageError(
                f"{place}: device {options.device!r} needs its KV memory named, as free memory there isn't known "
                "before loading; add --kv-memory, such as 8G"
            )
        kv_memory = spare_memory(place, folder.config, dtype, machine.memory, options.tp) // KV_SHARE
    memory = plan_slots(folder.config, dtype, options, kv_memory)
    load = Load(
        folder=str(path.absolute()),
        digest=folder.digest,
        dtype=dtype,
        device=options.device or "cpu",
        threads=options.threads or choose_threads(folder.config, machine.cores),
        slots=memory.slots,
        context=memory.context,
        kv_memory=memory.kv_bytes,
        tp=options.tp,
        tp_engine=options.tp_engine,
    )
    facts = EngineFacts(
        model=path.resolve().name if Path(node.target).expanduser().exists() else node.target,
        digest=f"{folder.digest}-{dtype}",
        slots=memory.slots,
        look_ahead=memory.slots,
        context=memory.context,
        memory=memory.total_bytes,
        host=machine.host,
        device=load.device,
    )
    return Plan(folder=folder, load=load, facts=facts)


def choose_threads(config: ModelConfig, cores: int) -> int:
    """All cores that the worker may use, but one thread for a tiny model."""
    return 1 if count_weights(config) <= TINY else cores


def choose_dtype(config: ModelConfig, *, fast_bf16: bool) -> str:
    """`bf16` for a large model if the CPU computes it natively, else `fp32`."""
    return "bf16" if fast_bf16 and count_weights(config) > SMALL else "fp32"


def spare_memory(place: str, config: ModelConfig, dtype: str, usable: int, ranks: int = 1) -> int:
    """Bytes that `usable` leaves beside the weights, or one rank's share of them; refuses what doesn't fit."""
    weights = count_weights(config, ranks) * ELEMENT_BYTES[dtype]
    if weights >= usable:
        raise UsageError(
            f"{place}: the weights need {weights:,} bytes as {dtype}{' on each rank' if ranks > 1 else ''} "
            f"and {usable:,} are free; "
            "free memory, take a smaller model or dtype bf16"
        )
    return usable - weights


def plan_slots(config: ModelConfig, dtype: str, options: EngineOptions, kv_memory: int) -> MemoryPlan:
    """The slots asked for, or as many of the default as have room for a fair answer."""
    if options.slots is not None:
        return plan_memory(config, dtype, options.slots, options.context, kv_memory, options.tp)
    most = plan_memory(config, dtype, SLOTS, options.context, kv_memory, options.tp)
    slots = most.kv_tokens // min(most.context, SLOT_TOKENS)
    return plan_memory(config, dtype, max(1, min(SLOTS, slots)), options.context, kv_memory, options.tp)


def _check_ranks(place: str, folder: ModelFolder, options: EngineOptions) -> None:
    try:
        if options.tp_engine == DEEPSPEED:
            check_divisible(folder.path, options.tp)
        check_size(folder.config, options.tp)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


def _check(place: str, options: EngineOptions) -> None:
    if options.dtype is not None and options.dtype not in ELEMENT_BYTES:
        raise UsageError(
            f"{place}: dtype {options.dtype!r} isn't known to engine local; known: {', '.join(ELEMENT_BYTES)}"
        )
    if options.device is not None and options.device not in DEVICES:
        raise UsageError(f"{place}: device {options.device!r} isn't known to engine local; known: {', '.join(DEVICES)}")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"{place}: threads is {options.threads}; give at least 1")
