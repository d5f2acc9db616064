"""Kills runs with a recipe at random instants and at every durable step, and counts broken promises.

    python benchmarks/pipeline_kills.py                          100 instants and every step, half an hour
    python benchmarks/pipeline_kills.py --kills 10 --every 20    a quick one

Needs Linux and, for the steps, `strace`. The recipe has samples, rounds and a judge, and the scripted engine notes what
it was sent. Each trial plays the real command line, kills it (SIGKILL) at an instant, or at the n-th write, sync,
rename, truncation or removal of a file, goes on with `tokenmill resume`, and compares: no prompt may be sent again
after its answer was recorded, nothing that was recorded may be lost or changed, and at the end all files of the data
set, the card but for times and costs, and all answers, items, scores and endings of the record must be those of the
calm run.
The exit code is 0 if no promise was broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

# In place of this folder, as the name `crash` would be a file of it.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from crash.data_sets import DataSet, half_done, killed  # type: ignore[import-not-found] # noqa: E402
from crash.scene import Calm, Story  # type: ignore[import-not-found] # noqa: E402
from crash.steps import FAMILIES, KILL, SESSION, Family, Strike, numbers, struck  # type: ignore[import-not-found] # noqa: E402

KINDS = ("lost", "repeated", "changed", "resent", "unrecorded", "file", "leftover", "exit")
#: Faults that are shown in full.
SHOWN = 10
#: Steps that a resume makes.
OF_RESUME = (*SESSION, Family("fsync"), Family("rename"), Family("write"))


@dataclass
class Tally:
    """What one kind of trial came to; `resent` counts prompts that were in flight at a kill and were sent again."""

    trials: int = 0
    resent: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, name: str, story: Story) -> None:
        self.trials += 1
        self.resent += story.resent
        for fault in story.faults:
            self.faults[fault.partition(":")[0]] += 1
            self.examples.append(f"{name}: {fault}")


class Bench:
    """A scene for each worker, and the trials that they share."""

    def __init__(self, place: Path, workers: int, rows: int, seed: int) -> None:
        self.place, self.rows, self.seed = place, rows, seed
        self.trials = self.broken = 0
        self._own = threading.local()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers)

    def scene(self) -> tuple[DataSet, Calm]:
        """This worker's scene, with its calm run."""
        if not hasattr(self._own, "held"):
            scene = DataSet(self.place / str(threading.get_ident()), rows=self.rows)
            self._own.held = scene, scene.calm()
        held: tuple[DataSet, Calm] = self._own.held
        return held

    def half(self) -> Path:
        """A run of this worker's scene that was killed halfway."""
        if not hasattr(self._own, "half"):
            scene, _ = self.scene()
            self._own.half = half_done(scene, scene.folder.with_name(f"{scene.folder.name}-half"))
        saved: Path = self._own.half
        return saved

    def add(self, tally: Tally, name: str, story: Story) -> None:
        with self._lock:
            tally.add(name, story)

    def play(self, group: str, trials: Iterable[Callable[[Tally], None]]) -> None:
        """Plays trials on all workers and shows what they came to."""
        tally, started = Tally(), time.monotonic()
        for trial in [self._pool.submit(each, tally) for each in trials]:
            trial.result()
        counts = "  ".join(f"{tally.faults[kind]:>{len(kind)}}" for kind in KINDS)
        took = time.monotonic() - started
        print(f"{group:28} {tally.trials:6}  {counts}  {tally.resent:10}  {took:6.0f} s", flush=True)
        for example in tally.examples[:SHOWN]:
            print(f"    {example[:400]}", flush=True)
        self.trials += tally.trials
        self.broken += tally.faults.total()


def at_instants(bench: Bench, count: int, kills: int) -> list[Callable[[Tally], None]]:
    def trial(number: int, tally: Tally) -> None:
        chance = random.Random(f"{bench.seed} {kills} {number}")
        bench.add(tally, f"instant {number}", killed(*bench.scene(), chance, kills))

    return [partial(trial, number) for number in range(count)]


def at_steps(bench: Bench, every: int, *, resumed: bool) -> list[Callable[[Tally], None]]:
    """A kill at every n-th step of each kind; a family of steps is one worker's."""

    def trial(family: Family, tally: Tally) -> None:
        scene, calm = bench.scene()
        saved = bench.half() if resumed else None
        for number in numbers(every):
            strike = Strike(KILL, family, number)
            story = struck(scene, calm, strike, saved)
            if story is None:
                return
            bench.add(tally, str(strike), story)

    return [partial(trial, family) for family in (OF_RESUME if resumed else FAMILIES)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="random instants of a run to kill it at")
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th durable step; 0 for none")
    parser.add_argument("--rows", type=int, default=12, help="input rows of a run")
    parser.add_argument("--jobs", type=int, default=2, help="trials at the same time")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pipeline-kills-") as place:
        bench = Bench(Path(place), chosen.jobs, chosen.rows, chosen.seed)
        print(f"{'':28} trials  {'  '.join(KINDS)}  sent again  time")
        bench.play("kill", at_instants(bench, chosen.kills, 1))
        bench.play("kill three times", at_instants(bench, chosen.kills // 10, 3))
        if chosen.every and shutil.which("strace") is not None:
            bench.play("kill at a step", at_steps(bench, chosen.every, resumed=False))
            bench.play("kill at a step of a resume", at_steps(bench, chosen.every, resumed=True))
        elif chosen.every:
            print("kill at a step: n/a, strace isn't installed")
    print(f"{bench.trials} trials, {bench.broken} broken promises: {'FAILED' if bench.broken else 'all kept'}")
    return 1 if bench.broken else 0


if __name__ == "__main__":
    sys.exit(main())
