"""What a model takes on stated devices, and how long an input would take there: arithmetic, and the run's own strategy.

Nothing is measured and nobody is asked. Sizes follow from the configuration; times from a pace that was measured once
or is stated, and without one they are n/a with the reason. Each copy of a layout is a node of the simulation, whose
pace by the number of requests is that of `tokenmill.plan.step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.driver.figures import read_figures
from tokenmill.driver.options import Settings, make_strategy
from tokenmill.driver.plan_hosts import best_rate
from tokenmill.driver.plan_run import PLAYED, Work, sample_of
from tokenmill.driver.plan_words import answers_of, assumed_of
from tokenmill.errors import UsageError
from tokenmill.plan.figures import speed_of
from tokenmill.plan.gpus import Gpus, count_of, memory_of
from tokenmill.plan.layout import MOST_SEQUENCES, Copy, Layout, layouts, why_not, widths
from tokenmill.plan.shape import FORMATS, Shape
from tokenmill.plan.step import Link, read_once, reading_rate, step
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import SimNode, SimRow, simulate

#: Rows that are played, at least; with many places so many rounds of them.
MOST_PLAYED, ROUNDS = 10 * PLAYED, 8


class Asked(Struct, frozen=True, kw_only=True):
    """What to plan for. `pace`: tokens per second of one request alone on one device with all of the model on it.

    The number format is `dtype`, `tp` the only width to look at, `paced_by` says where the pace is from.
    """

    shape: Shape
    dtype: str
    groups: tuple[Gpus, ...]
    link: Link | None = None
    pace: float | None = None
    paced_by: str = ""
    tp: int | None = None


class Placed(Struct, frozen=True, kw_only=True):
    """One layout; sizes in bytes of the device with the least room, times in seconds, rates in tokens per second.

    `batch`: sequences that run at the same time on one copy, each as long as the longest; `kv_tokens` fit on one copy.
    `alone` and `together`: one request on one copy, and all copies with full batches. `between`: the part of a full
    step that goes into communication. What is None is n/a, and `note` says why.
    """

    name: str
    tp: int
    stages: int
    replicas: int
    idle: int
    weights: float
    activations: float
    room: float
    kv_token: float
    kv_tokens: int
    batch: int
    alone: float | None = None
    together: float | None = None
    between: float | None = None
    makespan: float | None = None
    bound: float | None = None
    note: str = ""


class GpuPlan(Struct, frozen=True, kw_only=True):
    """What was found; sizes in bytes. `even` and `left_even` are the shares of a device, were all things divisible.

    `left`: what all devices together have beside one copy of the weights; `sequences` of `tokens` each (the longest of
    the input) would fit in there, were it one memory. `refused` says of layouts that can't be why.
    """

    model: str
    source: str
    dtype: str
    parameters: int
    passed: int
    weights: float
    kv_token: int
    devices: int
    memory: int
    even: float
    left: float
    left_even: float
    tokens: int
    sequences: int
    rows: int | None
    prompt_tokens: int | None
    output_tokens: int | None
    strategy: str
    paced_by: str
    layouts: tuple[Placed, ...]
    refused: tuple[str, ...]
    answers: tuple[str, ...]
    assumes: tuple[str, ...]


def plan_gpus(asked: Asked, work: Work | None, settings: Settings, seed: int = 0) -> GpuPlan:
    """Compares the ways to lay the model over the devices; without `work` their sizes alone.

    Raises:
        UsageError: the width that was asked for divides nothing.
    """
    asked = asked if work is None else with_pace(asked, work)
    shape, groups = asked.shape, asked.groups
    _check_width(asked)
    tokens = longest_of(shape, work)
    found, refused = layouts(shape, asked.dtype, groups, tokens, asked.tp)
    placed = _without_idlers([(layout, place(asked, layout, tokens, work, settings, seed)) for layout in found])
    placed.sort(key=lambda each: (each.makespan is None, each.makespan, -each.batch * each.replicas, each.idle))
    weights, memory, devices = shape.parameters * FORMATS[asked.dtype][0], memory_of(groups), count_of(groups)
    kv_token = shape.kv_token(FORMATS[asked.dtype][1])
    left = max(0.0, memory - weights)
    plan = GpuPlan(
        model=shape.name,
        source=shape.source,
        dtype=asked.dtype,
        parameters=shape.parameters,
        passed=shape.passed,
        weights=weights,
        kv_token=kv_token,
        devices=devices,
        memory=memory,
        even=weights / devices,
        left=left,
        left_even=left / devices,
        tokens=tokens,
        sequences=int(left / kv_token / tokens),
        rows=len(work.rows) if work else None,
        prompt_tokens=work.prompt_tokens if work else None,
        output_tokens=work.output_tokens if work else None,
        strategy=settings.routing,
        paced_by=asked.paced_by,
        layouts=tuple(placed),
        refused=tuple(refused),
        answers=(),
        assumes=(),
    )
    return replace(plan, answers=tuple(answers_of(plan)), assumes=tuple(assumed_of(plan, asked)))


def _without_idlers(placed: Sequence[tuple[Layout, Placed]]) -> list[Placed]:
    """Leaving a kind of devices idle is told of only where it is quicker than all that leave none."""
    kept = [each for layout, each in placed if not layout.only]
    for layout, each in placed:
        others = [other.makespan for other in kept if other.tp == each.tp and other.makespan is not None]
        if layout.only and each.makespan is not None and each.makespan < min(others, default=inf):
            kept.append(each)
    return kept


def stored_pace(name: str, runs: Path) -> tuple[float, str] | None:
    """The pace of one request alone that was last measured of a model of this name, and where it is from."""
    kept = [each for each in read_figures(runs) if name in (each.model, each.model.removesuffix(":latest"))]
    for figure in sorted(kept, key=lambda each: each.checked, reverse=True):
        speed = speed_of(figure)
        if speed is not None:
            return speed.alone, f"nodes check of {figure.day} on {figure.node}, taken as one such device with it all"
    return None


def with_pace(asked: Asked, work: Work) -> Asked:
    """The pace as the bandwidth at which a device reads the weights, keys and values for it, where none is stated."""
    if asked.pace is None or any(group.bandwidth for group in asked.groups):
        return asked
    kept = _mean(work) * asked.shape.kv_token(FORMATS[asked.dtype][1])
    bandwidth = asked.pace * (read_once(asked.shape, asked.dtype) + kept)
    return replace(asked, groups=tuple(replace(group, bandwidth=bandwidth) for group in asked.groups))


def place(asked: Asked, layout: Layout, tokens: int, work: Work | None, settings: Settings, seed: int) -> Placed:
    """One layout with what it holds and, as far as the paces are known, how long it takes."""
    tightest = min((copy.tightest for copy in layout.copies), key=lambda each: each.device.memory - each.weights)
    batch = min(copy.batch(tokens) for copy in layout.copies)
    if settings.slots is not None:
        batch = min(batch, settings.slots)
    placed = Placed(
        name=layout.name,
        tp=layout.tp,
        stages=layout.stages,
        replicas=layout.replicas,
        idle=layout.idle,
        weights=tightest.weights,
        activations=tightest.activations(batch),
        room=tightest.device.memory - tightest.weights,
        kv_token=tightest.kv_token,
        kv_tokens=min(copy.kv_tokens for copy in layout.copies),
        batch=batch,
    )
    why = _timeless(asked, layout, work)
    if why:
        return replace(placed, note=why)
    assert work is not None
    nodes = nodes_of_layout(asked, layout, work, len(work.rows), settings)
    rates = sum(best_rate(node) for node in nodes)
    longest = max(row.tokens for row in work.rows) / max(node.speed for node in nodes)
    bound = max(longest, work.output_tokens / rates)
    full = step(asked.shape, asked.dtype, layout.copies[0], nodes[0].slots, _mean(work), asked.link)
    return replace(
        placed,
        alone=max(node.speed for node in nodes),
        together=rates,
        between=full.between / full.total,
        makespan=max(bound, _makespan(nodes, work, settings, seed)),
        bound=bound,
    )


def nodes_of_layout(asked: Asked, layout: Layout, work: Work, rows: int, settings: Settings) -> list[SimNode]:
    """One simulated node for each copy. No more run there at a time than there are rows for it."""
    share, tokens = ceil(rows / layout.replicas), longest_of(asked.shape, work)
    nodes: list[SimNode] = []
    for copy in layout.copies:
        slots = min(copy.batch(tokens), share, settings.slots or MOST_SEQUENCES)
        nodes += [_node(asked, copy, slots, work)] * copy.times
    return nodes


def _node(asked: Asked, copy: Copy, slots: int, work: Work) -> SimNode:
    """Its pace with one request and with all slots is that of the step; in between it is on the line."""
    one = step(asked.shape, asked.dtype, copy, 1, _mean(work), asked.link).total
    full = step(asked.shape, asked.dtype, copy, slots, _mean(work), asked.link).total
    serial = (full / one - 1) / (slots - 1) if slots > 1 else 0.0
    reading = reading_rate(asked.shape, copy)
    # Prompts are read one after the other, however many wait: at full load each costs the clock of all its slots.
    alike = slots / (1 + serial * (slots - 1))
    overhead = alike * work.prompt_tokens / len(work.rows) / reading if reading else 0.0
    return SimNode(slots=slots, speed=1 / one, overhead=overhead, curve=Curve(slots=slots, serial=serial))


def _makespan(nodes: Sequence[SimNode], work: Work, settings: Settings, seed: int) -> float:
    """All rows are played, or of a long input two parts, from which follows how long the rest takes."""
    most = max(MOST_PLAYED, ROUNDS * sum(node.slots for node in nodes))
    if len(work.rows) <= most:
        return _time(nodes, work.rows, settings, seed)
    many, few = sample_of(work.rows, most), sample_of(work.rows, most // 2)
    long, short = _time(nodes, many, settings, seed), _time(nodes, few, settings, seed)
    tokens, less = (sum(row.tokens for row in part) for part in (many, few))
    return long + (long - short) / (tokens - less) * (work.output_tokens - tokens)


def _time(nodes: Sequence[SimNode], rows: Sequence[SimRow], settings: Settings, seed: int) -> float:
    names = [f"copy-{number}" for number in range(1, len(nodes) + 1)]
    strategy, _ = make_strategy(replace(settings, hedge=False), len(rows), seed, names=names)
    played = simulate(strategy, rows, nodes, keep_attempts=False)
    assert not played.unfinished
    return played.makespan


def _mean(work: Work) -> float:
    """Tokens of keys and values that a sequence has on average while it is written."""
    return (work.prompt_tokens + work.output_tokens / 2) / len(work.rows)


def longest_of(shape: Shape, work: Work | None) -> int:
    """Tokens of the longest prompt and answer together; without an input what the model is made for at most."""
    return min(shape.context, work.longest) if work is not None else shape.context


def _timeless(asked: Asked, layout: Layout, work: Work | None) -> str:
    """Why no time can be told; empty if it can."""
    if work is None:
        return "n/a without an input; name it with --requests"
    if not all(group.bandwidth for group in asked.groups):
        return "n/a: no pace is stored or stated; give --bandwidth, such as 616GB/s, or --pace"
    if asked.link is None and any(copy.devices > 1 for copy in layout.copies):
        return "n/a: devices that work together need a link; give its rate with --link, such as 12GB/s"
    return ""


def _check_width(asked: Asked) -> None:
    if asked.tp is None:
        return
    largest = max(group.count for group in asked.groups)
    if asked.tp > largest:
        raise UsageError(f"--tp {asked.tp}: there are {largest} equal devices at most; ask for no more than that")
    reason = why_not(asked.shape, asked.tp)
    if reason:
        fitting = " or ".join(map(str, widths(asked.shape, largest)))
        raise UsageError(f"--tp {asked.tp}: {reason}; take {fitting}")
