"""Kills, breaks and cuts the power of a small run in every way there is, and counts broken promises.

    python benchmarks/crash.py                                        the whole campaign, 20 minutes on two free cores
    python benchmarks/crash.py --instants 40 --every 10 --cuts 5      a quick one

Needs Linux and `strace`. Each trial plays the real command line on a scripted engine that notes what it was sent, goes
on with `tokenmill resume`, and compares record, engine log and final file with the calm run. The exit code is 0 if no
promise was broken.
"""

from __future__ import annotations

import argparse
import random
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

# In place of this folder, where the name `crash` would be this file; so mypy can't find it either.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from crash.power import Loss, Recording, survive  # type: ignore[import-not-found] # noqa: E402
from crash.scene import Calm, Instant, Scene, Story  # type: ignore[import-not-found] # noqa: E402
from crash.steps import BROKEN, FAMILIES, FULL, KILL, SESSION, Family, Strike, kill_before_output, numbers, struck  # type: ignore[import-not-found] # noqa: E402
from crash.workers import driver_killed, local_scene, workers_killed  # type: ignore[import-not-found] # noqa: E402

KINDS = ("lost", "repeated", "changed", "resent", "unrecorded", "orphan", "file", "leftover", "exit")
FAULTS = {"kill": KILL, "ENOSPC": FULL, "EIO": BROKEN}
#: Steps that only a run's end has; a resume makes them, too.
ENDING = (Family("fsync"), Family("rename"), Family("write"))


@dataclass
class Tally:
    """What one kind of trial came to."""

    trials: int = 0
    most_resent: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, name: str, story: Story) -> None:
        self.trials += 1
        self.most_resent = max(self.most_resent, story.resent)
        for fault in story.faults:
            self.faults[fault.partition(":")[0]] += 1
            self.examples.append(f"{name}: {fault}")


class Bench:
    """Scenes for as many workers as there are, and the tallies."""

    def __init__(self, place: Path, jobs: int, seed: int) -> None:
        self.place, self.seed = place, seed
        self.tallies: dict[str, Tally] = {}
        self._lock = threading.Lock()
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(jobs)

    def scene(self, rows: int, slots: int, delay: float = 0.003) -> tuple[Scene, Calm]:
        """This worker's own scene of that size, with its calm run."""
        held: dict[tuple[int, float], tuple[Scene, Calm]] = self._own.__dict__.setdefault("scenes", {})
        if (rows, delay) not in held:
            scene = Scene(self.place / f"{threading.get_ident()}-{rows}-{delay}", rows=rows, slots=slots, delay=delay)
            held[rows, delay] = scene, scene.calm()
        return held[rows, delay]

    def play(self, group: str, trials: Iterable[Callable[[Tally], None]]) -> None:
        """Plays trials on all workers and shows what they came to."""
        tally = self.tallies.setdefault(group, Tally())
        started = time.monotonic()
        waiting = [self._pool.submit(trial, tally) for trial in trials]
        for trial in waiting:
            trial.result()
        counts = "  ".join(f"{tally.faults[kind]:>{len(kind)}}" for kind in KINDS)
        took = time.monotonic() - started
        print(f"{group:28} {tally.trials:6}  {counts}  {tally.most_resent:9}  {took:6.0f} s", flush=True)
        for example in tally.examples[:10]:
            print(f"    {example[:400]}", flush=True)

    def add(self, tally: Tally, name: str, story: Story) -> None:
        with self._lock:
            tally.add(name, story)


def kill_instants(bench: Bench, count: int, *, durability: str, nested: int = 1) -> list[Callable[[Tally], None]]:
    """Kills at random instants; `nested` kills in a row, the later ones of resumes."""

    def trial(number: int, tally: Tally) -> None:
        scene, calm = bench.scene(100, 8)
        chance = random.Random(f"{bench.seed} {durability} {nested} {number}")
        scene.wipe()
        story = Story(scene, calm)
        for _ in range(nested):
            words = scene.next_words()
            instant = scene.instant(chance, calm.seconds, scene.rows - len(scene.look().answers))
            story.act([*words, "--durability", durability], kill=instant)
        story.finish()
        bench.add(tally, f"instant {number}", story)

    return [partial(trial, number) for number in range(count)]


def strike_steps(bench: Bench, fault: str, every: int, start: str) -> list[Callable[[Tally], None]]:
    """A fault at every step of a run, or of the resume of one that was killed halfway, or just before its output."""

    def trial(family: Family, tally: Tally) -> None:
        scene, calm = bench.scene(16, 4)
        saved = None if start == "run" else killed(scene, start)
        for number in numbers(every):
            strike = Strike(FAULTS[fault], family, number)
            story = struck(scene, calm, strike, saved)
            if story is None:
                return
            bench.add(tally, str(strike), story)

    return [partial(trial, family) for family in (FAMILIES if start == "run" else (*SESSION, *ENDING))]


def killed(scene: Scene, start: str) -> Path:
    """A run that was killed when half of its rows were answered, or when all were and its output had no name yet."""
    saved: Path = scene.folder.with_name(f"{scene.folder.name}-{start}")
    if not saved.exists():
        scene.wipe()
        if start == "half":
            scene.play(scene.run_words(), kill=Instant(scene.rows, 0.0))
        else:
            kill_before_output(scene)
        scene.save(saved)
    return saved


def cut_power(bench: Bench, cuts: int, *, tapes: int) -> list[Callable[[Tally], None]]:
    """Recorded runs, and resumes of killed ones, cut at moments all over them, with all kinds of loss."""

    def trial(number: int, tally: Tally) -> None:
        scene, calm = bench.scene(60, 4, 0.02)
        scene.wipe()
        if number % 2:
            scene.play(scene.run_words(), kill=Instant(scene.rows, 0.0))
        recording = Recording.of(scene, scene.next_words(), bench.place / f"tape-{number}")
        done = 0
        for cut in recording.cuts(cuts, bench.seed + number):
            recording.advance(done, cut)
            done = cut + 1
            for kind in Loss.KINDS:
                story = survive(scene, calm, recording, cut, Loss(kind, cut))
                bench.add(tally, f"tape {number} step {cut} losing {kind}", story)

    return [partial(trial, number) for number in range(tapes)]


def hurt_workers(bench: Bench, count: int) -> list[Callable[[Tally], None]]:
    """Engine `local` on the bundled model: kills of its worker in turn with kills of its driver."""
    own = threading.local()

    def trial(number: int, tally: Tally) -> None:
        if not hasattr(own, "held"):
            scene = local_scene(bench.place / f"{threading.get_ident()}-local")
            own.held = scene, scene.calm()
        chance = random.Random(f"{bench.seed} worker {number}")
        story = driver_killed(*own.held, chance) if number % 2 else workers_killed(*own.held, chance, kills=2)
        bench.add(tally, f"worker {number}", story)

    return [partial(trial, number) for number in range(count)]


def campaign(bench: Bench, chosen: argparse.Namespace) -> None:
    print(f"{'':28} trials  {'  '.join(KINDS)}  most sent again  time")
    bench.play("kill", kill_instants(bench, chosen.instants, durability="full"))
    bench.play("kill, durability process", kill_instants(bench, chosen.instants // 10, durability="process"))
    bench.play("kill three times", kill_instants(bench, chosen.instants // 10, durability="full", nested=3))
    for fault in chosen.faults:
        bench.play(f"{fault} at a step", strike_steps(bench, fault, chosen.every, "run"))
        bench.play(f"{fault}, resume of a half", strike_steps(bench, fault, chosen.every, "half"))
        bench.play(f"{fault}, resume of all", strike_steps(bench, fault, chosen.every, "all"))
    if chosen.cuts:
        bench.play("power loss", cut_power(bench, chosen.cuts, tapes=4))
    if chosen.workers:
        bench.play("kill of a worker, its driver", hurt_workers(bench, chosen.workers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instants", type=int, default=300, help="random instants of a run to kill it at")
    parser.add_argument("--every", type=int, default=1, help="strike at every N-th durable step")
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=list(FAULTS), help="what strikes a step")
    parser.add_argument("--cuts", type=int, default=12, help="moments at which four tapes lose their power; 0 for none")
    parser.add_argument("--workers", type=int, default=30, help="runs of engine local that are hurt; 0 without torch")
    parser.add_argument("--jobs", type=int, default=2, help="trials at the same time")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crash-") as place:
        bench = Bench(Path(place), chosen.jobs, chosen.seed)
        campaign(bench, chosen)
    trials = sum(tally.trials for tally in bench.tallies.values())
    broken = sum(tally.faults.total() for tally in bench.tallies.values())
    print(f"{trials} trials, {broken} broken promises: {'FAILED' if broken else 'all kept'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
