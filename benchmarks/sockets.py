"""Makespan of the sentences workload over real sockets, on servers of every kind, against the bound and the best cell.

    python benchmarks/sockets.py                              the whole sweep, about 15 minutes
    python benchmarks/sockets.py --curves "4 slots,falling"   a part of it, a fresh table

The twin of `curves.py`, whose servers, bound and workload these are, with a sentence in a tenth of a second: each run
is the command line against a process of `tokenmill.testing`, and its makespan is that of its own certificate, opening
the node included. `auto` is given no number in flight. Targets: its median is at most 1.15 of the bound (the best that
the server can do at any number in flight) and at most 1.05 of the best median of the sweep, and in those same runs
never more than one request waits inside the server. As in the tests of the twin no time to settle is granted: that
counts from the first request on.

Runs are idle for most of their time, so several go side by side, in random order, repeat by repeat. What that does to
the figures is measured too: the cells with the shortest runs are run again alone. Finished runs are kept in a file, so
a sweep that was interrupted goes on; the file belongs to one state of the source. Some cells are measured once because
they can't differ by more than the milliseconds between requests:

- one request at a time is the same on every server;
- requests that all run at once are the same on every server with as many hard slots;
- `pull` sends in one order, in which servers start, so a server with hard slots does the same at any larger number;
- a server with one slot is busy all the time whoever asks, if it is asked for two.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from kept import keep, kept_file, read_kept
from tokenmill.schedule.curve import Curve
from tokenmill.testing import Behaviour, FaultServer
from tokenmill.testing import Curve as Bend

TESTS = Path(__file__).resolve().parents[1] / "tests"
# What is swept is shared with the tests.
sys.path[0] = str(TESTS)

from schedule.sweep import (  # type: ignore[import-not-found] # noqa: E402
    CURVES,
    FIRST_TOKEN,
    IN_FLIGHT,
    bound,
    play_on,
    sentences,
)

#: Seconds of a sentence, of which the virtual ones take 1, and its words.
SENTENCE, WORDS = 0.1, 11
CHOICES = [
    ("sequential", "file"),
    ("static", "file"),
    ("stealing", "file"),
    ("pull", "file"),
    ("pull", "longest-first"),
]
SERVERS = ["1 slot", "2 slots", "4 slots", "12 slots", "falling", "knee at 7"]
OF_BOUND, OF_BEST, WAITING = 1.15, 1.05, 1
#: More than any server of the sweep runs.
ANY = 64
SEED = 20261121


@dataclass(frozen=True, order=True)
class Cell:
    """One way to run on one server; `in_flight` 0 leaves the number to the strategy, and its order with it."""

    curve: str
    strategy: str
    order: str
    in_flight: int


@dataclass(frozen=True)
class Measured:
    """One run: seconds of its makespan and of wall time, CPU seconds of client and server, and the server's view.

    `beside`: how many runs went on at the same time. `trail`: seconds, running and waiting at each change, for `auto`.
    """

    cell: Cell
    repeat: int
    beside: int
    makespan: float
    wall: float
    client: float
    server: float
    waiting: int
    in_flight: int
    trail: list[list[float]]


def cells(curves: Iterable[str]) -> list[Cell]:
    found = []
    for curve in curves:
        found += [Cell(curve, *CHOICES[0], 1)]
        found += [Cell(curve, *choice, number) for choice in CHOICES[1:] for number in IN_FLIGHT]
        found += [Cell(curve, "auto", "", 0)]
    return found


def measured_as(cell: Cell, curves: Sequence[str]) -> Cell:
    """The cell that is measured in place of this one, see above."""
    hard = sorted((name for name in curves if is_hard(CURVES[name])), key=lambda name: CURVES[name].slots or 0)
    if cell.strategy == "sequential":
        return dataclasses.replace(cell, curve=curves[0])
    if cell.strategy == "auto" or cell.curve not in hard:
        return cell
    slots = CURVES[cell.curve].slots or 0
    if slots == 1:
        return Cell(cell.curve, "pull", "file", IN_FLIGHT[0])
    if cell.in_flight <= slots:
        alike = next(name for name in hard if (CURVES[name].slots or 0) >= cell.in_flight)
        return dataclasses.replace(cell, curve=alike)
    if cell.strategy == "pull":
        return dataclasses.replace(cell, in_flight=next(number for number in IN_FLIGHT if number > slots))
    return cell


def is_hard(curve: Curve) -> bool:
    return not curve.serial and not curve.coherence


def behaviour(curve: Curve) -> Behaviour:
    return Behaviour(
        slots=curve.slots or ANY,
        rate=WORDS / SENTENCE,
        first_token=FIRST_TOKEN * SENTENCE,
        curve=Bend(serial=curve.serial, coherence=curve.coherence),
    )


def run(cell: Cell, repeat: int, beside: int) -> Measured:
    """One run of the command line against a fresh server."""
    with (
        tempfile.TemporaryDirectory(prefix="tokenmill-sockets-") as folder,
        FaultServer(behaviour(CURVES[cell.curve])) as server,
    ):
        words = ["--strategy", cell.strategy, "--runs-dir", folder, "--json", "--quiet"]
        if cell.in_flight:
            words += ["--order", cell.order, "--slots", str(cell.in_flight)]
        command = [sys.executable, "-m", "tokenmill", "run", "sentences", "--node", server.url, *words]
        before, began = cpu_of(server.pid), time.monotonic()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=said)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            wall = time.monotonic() - began
            said.seek(0)
            facts: dict[str, Any] = json.loads(said.read() or b"{}")
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; its words are above")
        state, trail = server.state(), server.trail()
        if state.answered != facts["rows"] or state.asked != state.answered:
            raise SystemExit(f"{cell}: {state.asked} requests for {facts['rows']} rows; no makespan to compare")
        return Measured(
            cell=cell,
            repeat=repeat,
            beside=beside,
            makespan=facts["certificate"]["metrics"]["makespan"]["value"],
            wall=wall,
            client=used.ru_utime + used.ru_stime,
            server=cpu_of(server.pid) - before,
            waiting=max(waiting for _, _, waiting in trail),
            in_flight=state.max_in_flight,
            trail=[[round(at, 4), *counts] for at, *counts in trail] if cell.strategy == "auto" else [],
        )


def cpu_of(pid: int) -> float:
    """CPU seconds of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Kept:
    """Finished runs, in memory and in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: dict[tuple[Cell, int, int], Measured] = {}
        for data in read_kept(path):
            self._know(Measured(**data | {"cell": Cell(**data["cell"])}))

    def add(self, one: Measured) -> None:
        self._know(one)
        keep(self._path, dataclasses.asdict(one))

    def _know(self, one: Measured) -> None:
        self.runs[one.cell, one.repeat, one.beside] = one

    def of(self, cell: Cell, beside: int, repeats: int) -> list[Measured]:
        return [self.runs[cell, repeat, beside] for repeat in range(repeats) if (cell, repeat, beside) in self.runs]

    def makespan(self, cell: Cell, beside: int, repeats: int) -> float:
        return median(one.makespan for one in self.of(cell, beside, repeats))


def sweep(wanted: Collection[Cell], repeats: int, beside: int, kept: Kept) -> None:
    """All runs that aren't kept yet, repeat by repeat, the cells of each in an order of its own."""
    rng = Random(SEED)
    rows = sentences()
    queue: list[tuple[Cell, int]] = []
    for repeat in range(repeats):
        order = sorted(wanted)
        rng.shuffle(order)
        queue += [(cell, repeat) for cell in order if (cell, repeat, beside) not in kept.runs]
    virtual = [play_on(CURVES[c.curve], c.strategy, c.order or None, c.in_flight or ANY, rows) for c, _ in queue]
    seconds = sum(SENTENCE * one.makespan + 1.5 for one in virtual) / beside
    print(f"{len(queue)} runs, {beside} side by side, about {seconds / 60:.0f} minutes", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(beside) as pool:
        waiting = [pool.submit(run, cell, repeat, beside) for cell, repeat in queue]
        try:
            for number, done in enumerate(as_completed(waiting), 1):
                kept.add(done.result())
                if number % 50 == 0:
                    print(f"{number} of {len(queue)}", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class Verdict:
    """How `auto` did on one server; seconds, and the cell that was best by hand."""

    curve: str
    bound: float
    auto: float
    least: float
    most: float
    best: float
    best_cell: str
    waiting: int
    in_flight: int

    @property
    def holds(self) -> tuple[bool, bool, bool]:
        return self.auto <= OF_BOUND * self.bound, self.auto <= OF_BEST * self.best, self.waiting <= WAITING


def judge(curve: str, curves: Sequence[str], kept: Kept, beside: int, repeats: int) -> Verdict:
    mine = [cell for cell in cells([curve]) if cell.strategy != "auto"]
    medians = {cell: kept.makespan(measured_as(cell, curves), beside, repeats) for cell in mine}
    best = min(medians, key=lambda cell: medians[cell])
    auto = kept.of(Cell(curve, "auto", "", 0), beside, repeats)
    spans = [one.makespan for one in auto]
    return Verdict(
        curve=curve,
        bound=SENTENCE * bound(CURVES[curve], sentences(), ANY),
        auto=median(spans),
        least=min(spans),
        most=max(spans),
        best=medians[best],
        best_cell=f"{best.strategy}, {best.order}, {best.in_flight} in flight",
        waiting=max(one.waiting for one in auto),
        in_flight=max(one.in_flight for one in auto),
    )


def show(verdict: Verdict, curves: Sequence[str], kept: Kept, beside: int, repeats: int) -> None:
    """The table of one server; a figure in brackets was measured in another cell that can't differ."""
    print(f"\n{verdict.curve}: bound {verdict.bound:.2f} s\n{'in flight':>26}" + "".join(f"{n:>9}" for n in IN_FLIGHT))
    for strategy, order in CHOICES:
        line = f"{strategy + ', ' + order:>26}"
        for number in (1,) if strategy == "sequential" else IN_FLIGHT:
            cell = Cell(verdict.curve, strategy, order, number)
            alike = measured_as(cell, curves)
            figure = f"{kept.makespan(alike, beside, repeats):.2f}"
            line += f"{figure if alike == cell else f'({figure})':>9}"
        print(line)
    verdicts = ["pass" if holds else "fail" for holds in verdict.holds]
    print(f"{'auto':>26}{verdict.auto:>9.2f}   ({verdict.least:.2f} to {verdict.most:.2f})")
    print(f"  {verdicts[0]}  {verdict.auto / verdict.bound:.3f} of the bound (at most {OF_BOUND})")
    print(f"  {verdicts[1]}  {verdict.auto / verdict.best:.3f} of the best, {verdict.best_cell} (at most {OF_BEST})")
    print(
        f"  {verdicts[2]}  {verdict.waiting} waited inside the server at most (at most {WAITING}); "
        f"{verdict.in_flight} in flight"
    )


def compare(alone: Iterable[Cell], kept: Kept, beside: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Median makespans of the same cells, side by side with others and alone."""
    return {
        f"{cell.strategy} on {cell.curve}": (kept.makespan(cell, beside, repeats), kept.makespan(cell, 1, repeats))
        for cell in alone
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", default=",".join(SERVERS), help=f"some of: {', '.join(CURVES)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=10, help="runs side by side")
    parser.add_argument("--kept", type=Path, help="file of finished runs; default one in the user's cache folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as JSON too")
    given = parser.parse_args()
    curves = [name.strip() for name in given.curves.split(",")]
    if unknown := [name for name in curves if name not in CURVES]:
        raise SystemExit(f"--curves {unknown[0]!r}: no such server; known: {', '.join(CURVES)}")
    kept = Kept(given.kept or kept_file("sockets", [Path(__file__), TESTS / "schedule" / "sweep.py"]))
    beside, repeats = given.at_once, given.repeats
    sweep({measured_as(cell, curves) for cell in cells(curves)}, repeats, beside, kept)
    quickest = min(curves, key=lambda name: float(bound(CURVES[name], sentences(), ANY)))
    alone = [Cell(quickest, "auto", "", 0), measured_as(Cell(quickest, *CHOICES[-1], IN_FLIGHT[-1]), curves)]
    sweep(alone, repeats, 1, kept)
    verdicts = [judge(curve, curves, kept, beside, repeats) for curve in curves]
    for verdict in verdicts:
        show(verdict, curves, kept, beside, repeats)
    crowded = [one for one in kept.runs.values() if one.beside == beside]
    shares = [
        sum(getattr(one, side) for one in crowded) / sum(one.wall for one in crowded) * beside / (os.cpu_count() or 1)
        for side in ("client", "server")
    ]
    effect = compare(alone, kept, beside, repeats)
    print(f"\nclients used {shares[0]:.2f} of the cores, servers {shares[1]:.2f}, {beside} runs side by side")
    for name, (among, by_itself) in effect.items():
        print(f"  {name}: {among:.3f} s side by side, {by_itself:.3f} s alone ({among / by_itself - 1:+.1%})")
    facts = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"medians of {repeats}; {facts}; {datetime.datetime.now(datetime.UTC).date()}")
    if given.json:
        found = {
            "machine": facts,
            "verdicts": [dataclasses.asdict(one) | {"holds": one.holds} for one in verdicts],
            "share_of_cores": shares,
            "side_by_side_and_alone": effect,
            "runs": [dataclasses.asdict(one) for one in kept.runs.values()],
        }
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    if not all(all(verdict.holds) for verdict in verdicts):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
