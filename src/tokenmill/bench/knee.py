"""How much load one node takes: a closed loop by the number in flight, and an open loop by the rate of arrivals.

Every cell is one step of load. The closed loop is measured first, in all repeats, for the rates of the open loop may be
shares of its best. Each step has a warm-up that doesn't count and a window that does. Without a node, the node is a
script with four slots, so the shapes can be seen on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from tokenmill.bench.arrivals import CONSTANT, POISSON, rate_of, read_times
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.folder import SweepFolder
from tokenmill.bench.knee_charts import charts_of
from tokenmill.bench.knee_findings import findings_of, kept_knee, knee_of
from tokenmill.bench.knee_step import Plan, measure_step, node_facts, open_input
from tokenmill.bench.numbers import numbers_in, words_in
from tokenmill.bench.step import Limits
from tokenmill.bench.table import Row
from tokenmill.driver.meaning import keep_paces
from tokenmill.driver.options import absolute, named_nodes
from tokenmill.errors import UsageError
from tokenmill.record.atomic import make_folder
from tokenmill.record.folder import runs_folder
from tokenmill.report.facts import DevicePace, Pace
from tokenmill.report.plots import Chart

CLOSED, OPEN = "closed loop", "open loop"
IN_FLIGHT, RATE = "in flight", "rate"
#: The rate at which a recording was made.
AS_RECORDED = "recorded"
#: A node that takes 10 ms to the first of 32 tokens and 4 ms for each further one, four requests at a time.
SCRIPT = f"""capacity = 4
first_token = 0.01
per_token = 0.004
tokens = 32
answer = "{" ".join(["w"] * 32)}"
"""


class KneeOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is swept."""

    node: Annotated[str, Meta(description="The node, as for run; default: a script with four slots.")] = ""
    model: Annotated[str, Meta(description="A model folder, 'demo', or the name that the node knows.")] = ""
    source: Annotated[str, Meta(description="A file of prompts or a built-in set; default: short prompts.")] = ""
    widths: Annotated[str, Meta(description="Closed loop: requests in flight, separated by commas.")] = "1,2,4,8,16"
    rates: Annotated[
        str, Meta(description="Open loop: requests a second, or shares of the closed loop's best; 'none' for no such.")
    ] = "50%,70%,90%,110%"
    arrivals: Annotated[str, Meta(description="poisson, constant, or a file of times in seconds, one a line.")] = (
        POISSON
    )
    arrivals_seed: Annotated[int, Meta(description="Arrivals are drawn from it, anew for each repeat.")] = 0
    seconds: Annotated[float, Meta(description="Length of a step's window.", gt=0)] = 4.0
    warm_up: Annotated[float, Meta(description="Seconds of load before it that don't count.", ge=0)] = 1.0
    patience: Annotated[float, Meta(description="Seconds that answers are waited for after it.", gt=0)] = 60.0
    ttft: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Limit for goodput: TTFT in ms.")] = None
    tpot: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Limit for goodput: TPOT in ms.")] = None
    max_tokens: Annotated[int, Meta(description="Longest answer, in tokens.", ge=1)] = 32
    slots: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Slots that the node is opened with; default: the widest.")
    ] = None
    runs_dir: Annotated[str, Meta(description="Where the knee and paces are kept; as for run.")] = ""
    no_store: Annotated[bool, Meta(description="Keep neither beside the runs.")] = False


class KneeSuite:
    """The suite."""

    name = "knee"
    unit = "request in flight"
    varied = IN_FLIGHT
    example = "--node http://localhost:11434 --model llama3.2 --widths 1,2,4,8 --rates 50%,90% --ttft 500"
    options = KneeOptions
    columns = (
        ("tok/s", "tokens_per_second"),
        ("answers/s", "requests_per_second"),
        ("p50", "latency_p50"),
        ("p95", "latency_p95"),
        ("p99", "latency_p99"),
        ("TTFT p50", "ttft"),
        ("p95", "ttft_p95"),
        ("TPOT p50", "tpot_p50"),
        ("due/s", "offered"),
        ("goodput", "goodput"),
        ("queue", "queue_wait"),
        ("growth", "growth"),
        ("trend", "trend"),
        ("success", "success"),
        ("speedup", "speedup"),
        ("width", "width"),
        ("TPOT p95", "tpot_p95"),
        ("late", "sent_late"),
        ("init", "loading"),
        ("memory", "memory"),
    )

    def prepare(self, options: KneeOptions, folder: Path) -> None:
        _check(options)
        if not _is_real(options):
            _script_path(folder).write_text(SCRIPT, encoding="utf-8")

    def cells(self, options: KneeOptions) -> list[Cell]:
        _check(options)
        widths = numbers_in("--widths", options.widths)
        closed = [
            Cell(group=CLOSED, factors={IN_FLIGHT: width}, workers=width, is_baseline=width == widths[0])
            for width in widths
        ]
        shape = options.arrivals if options.arrivals in (POISSON, CONSTANT) else AS_RECORDED
        opened = [
            Cell(group=f"{OPEN}, {shape}", factors={RATE: word}, workers=number, stage=1)
            for word, number in _rates(options)
        ]
        return closed + opened

    def measure(self, options: KneeOptions, cell: Cell, folder: Path) -> Reading:
        readings = SweepFolder(folder).readings()
        is_closed = cell.group == CLOSED
        asked = Plan(
            node=_node(options, folder),
            model=options.model or None,
            source=options.source,
            max_tokens=options.max_tokens,
            slots=options.slots or max(numbers_in("--widths", options.widths)),
            width=int(cell.factors[IN_FLIGHT]) if is_closed else None,
            arrivals=options.arrivals,
            rate=0.0 if is_closed else _rate(cell, readings),
            seed=f"{options.arrivals_seed} {sum(each.cell == cell.key for each in readings)}",
            seconds=options.seconds,
            warm_up=options.warm_up,
            patience=options.patience,
            limits=limits_of(options),
        )
        reading, paces = measure_step(cell, asked)
        if is_closed and paces and _is_kept(options):
            keep_paces(_runs(options), paces)
        return reading

    def findings(self, options: KneeOptions, rows: Sequence[Row]) -> list[str]:
        closed = [row for row in rows if row.cell.group == CLOSED]
        opened = [row for row in rows if row.cell.group != CLOSED]
        return findings_of(closed, opened, IN_FLIGHT, limits_of(options))

    def charts(self, options: KneeOptions, rows: Sequence[Row]) -> list[Chart]:  # noqa: ARG002 - the protocol's
        return list(charts_of(rows, IN_FLIGHT))

    def conclude(self, options: KneeOptions, rows: Sequence[Row]) -> list[str]:
        """Keeps the knee with the best paces of the same host, device and model, where bounds of runs look."""
        if not _is_kept(options):
            return []
        knee = knee_of([row for row in rows if row.cell.group == CLOSED], IN_FLIGHT)
        if knee is None or knee.load is None:
            return ["no knee was seen, so none is kept"]
        facts = node_facts(_node(options, Path()), options.model or None, options.slots)
        place = DevicePace(host=facts.host, device=facts.device, digest=facts.digest, pace=Pace())
        runs = _runs(options)
        keep_paces(runs, (place,), kept_knee(knee, rows, IN_FLIGHT))
        return [f"the knee is kept with the paces of {facts.model} on {facts.host}, {facts.device}, in {runs}"]


SUITE = KneeSuite()


def limits_of(options: KneeOptions) -> Limits:
    return Limits(
        ttft=None if options.ttft is None else options.ttft / 1000,
        tpot=None if options.tpot is None else options.tpot / 1000,
    )


def _check(options: KneeOptions) -> None:
    """Raises `UsageError` for what can't be swept, before anything is sent."""
    numbers_in("--widths", options.widths)
    if options.arrivals not in (POISSON, CONSTANT):
        read_times(Path(options.arrivals))
    _rates(options)
    if options.source:
        with open_input(options.source, options.max_tokens):
            pass


def _rates(options: KneeOptions) -> list[tuple[str, float]]:
    """Each rate as it is written, and as a number: requests a second, or a share."""
    found: dict[str, float] = {}
    for word in words_in(options.rates):
        if word == "none":
            continue
        if word == AS_RECORDED:
            number = _recorded_rate(options)
            word = f"{number:.6g}/s"
        else:
            number = _positive(word.removesuffix("%"))
            word = f"{number:g} %" if word.endswith("%") else f"{number:g}/s"
            number = number / 100 if word.endswith("%") else number
        found[word] = number
    return sorted(found.items(), key=lambda each: (each[0].endswith("%"), each[1]))


def _recorded_rate(options: KneeOptions) -> float:
    if options.arrivals in (POISSON, CONSTANT):
        raise UsageError("--rates recorded: goes with a file of times; name one with --arrivals")
    return rate_of(read_times(Path(options.arrivals)))


def _positive(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise UsageError(f"--rates: {word!r} is no rate; give requests a second or shares, such as 0.5,2 or 50%,90%")
    return number


def _rate(cell: Cell, readings: Sequence[Reading]) -> float:
    """Requests a second of an open step; a share is one of the closed loop's best, the mean of its repeats."""
    word = str(cell.factors[RATE])
    if not word.endswith("%"):
        return cell.workers
    seen: dict[str, list[float]] = {}
    for each in readings:
        if each.cell.startswith(CLOSED) and each.is_whole:
            seen.setdefault(each.cell, []).append(each.extra["requests_per_second"])
    best = max((sum(rates) / len(rates) for rates in seen.values()), default=0.0)
    if best <= 0:
        raise UsageError(f"the closed loop has no answer to take {word} of; give --rates in requests a second")
    return cell.workers * best


def _is_real(options: KneeOptions) -> bool:
    return bool(options.node or options.model)


def _is_kept(options: KneeOptions) -> bool:
    """What a script shows is kept with the sweep alone: its answers, and so its digest, don't tell how fast it is."""
    return _is_real(options) and not options.no_store and not options.node.startswith("scripted:")


def _node(options: KneeOptions, folder: Path) -> str:
    if not _is_real(options):
        return f"scripted:{_script_path(folder)}"
    nodes = named_nodes(options.model or None, (options.node,) if options.node else ())
    if len(nodes) > 1:
        raise UsageError(f"--model {options.model} and --node {options.node} are two nodes; name one of them")
    return nodes[0]


def _runs(options: KneeOptions) -> Path:
    runs = runs_folder(Path(absolute(options.runs_dir)) if options.runs_dir else None)
    make_folder(runs)
    return runs


def _script_path(folder: Path) -> Path:
    return (folder / "server.toml").absolute()
