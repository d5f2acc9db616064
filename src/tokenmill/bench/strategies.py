"""Which strategy, and with how many requests in flight: the same prompts, sent in different orders to the same nodes.

The workload is that of the sentences study by default. With `--engine scripted` the node is a script that takes a fixed
time for each sentence and really runs as many requests as `--slots` says, so what a strategy makes of a server can be
seen on any machine; each number of slots is a group of its own. With nodes, the group is those nodes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.measured_run import measure_run
from tokenmill.bench.numbers import names_in, numbers_in, words_in
from tokenmill.bench.table import Row
from tokenmill.driver.options import absolute, is_served, settled_node
from tokenmill.errors import UsageError
from tokenmill.schedule.choose import STRATEGIES as KNOWN
from tokenmill.workload import Spec, scan
from tokenmill.workload.spec import STDIN

BOUNDLESS = "inf"
#: Tokens of a sentence of the script: enough to see first tokens apart from ends.
TOKENS = 4
#: The most sentences that the workload asks for.
MOST = 30


class StrategiesOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is swept."""

    source: Annotated[str, Meta(description="A file of prompts or a built-in set; default: sentences.")] = "sentences"
    engine: Annotated[str, Meta(description="'scripted': a server that is a script, with --slots real slots.")] = ""
    model: Annotated[str, Meta(description="A model folder, 'demo', or the name that the nodes know.")] = ""
    node: Annotated[tuple[str, ...], Meta(description="Where to run, as for run; may be given again.")] = ()
    strategies: Annotated[str, Meta(description="Strategies, separated by commas.")] = (
        "sequential,static,stealing,pull,auto"
    )
    widths: Annotated[str, Meta(description="Requests in flight (for each node), separated by commas.")] = (
        "1,2,4,6,8,12"
    )
    slots: Annotated[str, Meta(description="Real slots of the scripted server; 'inf' for no limit.")] = "1,4,inf"
    sentence: Annotated[
        float, Meta(description="Seconds that the scripted server takes for a sentence.", gt=0, le=3600)
    ] = 0.01
    max_tokens: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Longest answer, in tokens.")] = None
    limit: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Take only the first N rows.")] = None


class Strategies:
    """The suite."""

    name = "strategies"
    unit = "request in flight"
    varied = "in flight"
    example = "--engine scripted --slots 1,4,inf"
    options = StrategiesOptions

    def settled(self, options: StrategiesOptions, where: Path) -> StrategiesOptions:  # noqa: ARG002 - the protocol's
        """The files named hold in any working folder, and the input was read once: a bad one costs no reading."""
        self.cells(options)
        if options.source == STDIN:
            raise UsageError("--source -: each reading reads the prompts again, standard input can't be; name a file")
        is_folder = options.model not in ("", "demo") and not any(map(is_served, options.node))
        options = replace(
            options,
            source=absolute(options.source),
            model=absolute(options.model) if is_folder else options.model,
            node=tuple(map(settled_node, options.node)),
        )
        with TemporaryDirectory(prefix="tokenmill-bench-") as spool:
            if not list(scan(Spec(source=options.source, limit=options.limit), Path(spool))):
                raise UsageError(f"--source {options.source}: no prompt is in it; name another file")
        return options

    def prepare(self, options: StrategiesOptions, folder: Path) -> None:
        for slots in _capacities(options) if options.engine else ():
            _script_path(folder, slots).write_text(script_of(slots, options.sentence), encoding="utf-8")

    def cells(self, options: StrategiesOptions) -> list[Cell]:
        if options.engine not in ("", "scripted"):
            raise UsageError(f"--engine {options.engine!r}: known is scripted; name others with --model or --node")
        if options.engine and (options.model or options.node):
            raise UsageError("--engine scripted is a node of its own; leave out --model and --node")
        names = names_in("--strategies", options.strategies, KNOWN)
        widths = numbers_in("--widths", options.widths)
        groups = [_named(slots) for slots in _capacities(options)] if options.engine else [""]
        found = [cell for group in groups for name in names for cell in _cells(group, name, widths)]
        if not found:
            raise UsageError(
                f"--widths {options.widths}: {names[0]} needs 2 or more in flight; give a list such as 1,2,4"
            )
        return found

    def measure(self, options: StrategiesOptions, cell: Cell, folder: Path) -> Reading:
        node = f"scripted:{_script_path(folder, cell.group.split()[0])}" if options.engine else ""
        given = {"max_tokens": options.max_tokens, "limit": options.limit, "model": options.model or None}
        slots = int(cell.factors["in flight"]) if cell.factors["strategy"] != "sequential" else None
        return measure_run(
            cell,
            folder,
            options.source,
            strategy=cell.factors["strategy"],
            slots=slots,
            nodes=(node,) if node else options.node,
            **{name: value for name, value in given.items() if value is not None},
        )

    def findings(self, options: StrategiesOptions, rows: Sequence[Row]) -> list[str]:  # noqa: ARG002 - the protocol's
        groups = dict.fromkeys(row.cell.group for row in rows)
        return [
            sentence for group in groups for sentence in _finding(group, [r for r in rows if r.cell.group == group])
        ]


SUITE = Strategies()


def script_of(slots: str, sentence: float) -> str:
    """The script of a server that writes N sentences in N times `sentence` seconds, `slots` requests at a time."""
    lines = [f"per_token = {sentence / TOKENS}"]
    if slots != BOUNDLESS:
        lines.append(f"capacity = {slots}")
    for number in range(1, MOST + 1):
        text = " ".join(["w"] * (TOKENS * number))
        lines += ["[[rule]]", f'match = "\\\\b{number} sentence"', f'answer = "{text}"', f"tokens = {TOKENS * number}"]
    script = "\n".join(lines) + "\n"
    tomllib.loads(script)
    return script


def _capacities(options: StrategiesOptions) -> list[str]:
    found = words_in(options.slots)
    if not found:
        raise UsageError("--slots: an empty list; give one such as 1,4,inf")
    for each in found:
        if each != BOUNDLESS:
            numbers_in("--slots", each)
    return found


def _named(slots: str) -> str:
    return f"{slots} slot" if slots == "1" else f"{slots} slots"


def _script_path(folder: Path, slots: str) -> Path:
    return (folder / f"server-{slots}.toml").absolute()


def _cells(group: str, strategy: str, widths: Sequence[int]) -> list[Cell]:
    if strategy == "sequential":
        return [Cell(group=group, factors={"strategy": strategy, "in flight": 1}, is_baseline=True)]
    if strategy == "auto":  # finds the number itself
        most = max(widths)
        return [Cell(group=group, factors={"strategy": strategy, "in flight": most}, workers=most)]
    return [
        Cell(group=group, factors={"strategy": strategy, "in flight": width}, workers=width)
        for width in widths
        if width > 1
    ]


def _finding(group: str, rows: Sequence[Row]) -> list[str]:
    """The quickest cell of a group, and whether what it brings is shown."""
    start = f"{group}: " if group else ""
    whole = [row for row in rows if row.seconds.value is not None]
    if not whole:
        kinds = ", ".join(f"{kind} ({count})" for row in rows[:1] for kind, count in row.failed.items())
        return [f"{start}no cell was answered whole{f'; failures: {kinds}' if kinds else ''}"]
    best = min(whole, key=lambda row: row.seconds.value or 0.0)
    said = [f"{start}quickest is {best.cell.title}: {best.seconds.value:.3g} s"]
    if best.claim is not None:
        said[0] += f", {best.claim} against one at a time"
    claims = [row.claim for row in whole if row.claim is not None]
    if claims and all(claim.finding in ("no difference", "worse") for claim in claims):
        said.append(f"{start}parallelism does not pay here: no cell was shown to be quicker than one at a time")
    smallest = [row for row in whole if _is_as_good(row, best)]
    few = min(smallest, key=lambda row: row.cell.workers)
    if few is not best:
        said.append(f"{start}{few.cell.title} is within 3 % of it with fewer in flight: {few.seconds.value:.3g} s")
    return said


def _is_as_good(row: Row, best: Row) -> bool:
    return (row.seconds.value or 0.0) <= 1.03 * (best.seconds.value or 0.0)
