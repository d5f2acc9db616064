"""Kills, breaks and cuts the power of a small run in every way there is, and counts broken promises.

    python benchmarks/crash.py                                        the whole campaign, 20 minutes on two free cores
    python benchmarks/crash.py --instants 40 --every 10 --cuts 5      a quick one

Needs Linux and `strace`. Each trial plays the real command line on a scripted engine that notes what it was sent, goes
on with `tokenmill resume`, and compares record, engine log and final file with the calm run. The exit code is 0 if no
promise was broken. A campaign that was interrupted goes on: finished trials are kept in a file of the cache folder that
belongs to one state of the source.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from kept import kept_file
from trials import Campaign, Outcome, Trial

HERE = Path(__file__).resolve()
TESTS = HERE.parents[1] / "tests"
# In place of this folder, where the name `crash` would be this file; so mypy can't find it either.
sys.path[0] = str(TESTS)

from crash.power import Loss, Recording, survive  # type: ignore[import-not-found] # noqa: E402
from crash.scene import Calm, Instant, Scene, Story  # type: ignore[import-not-found] # noqa: E402
from crash.steps import BROKEN, FAMILIES, FULL, KILL, SESSION, Family, Strike, kill_before_output, numbers, struck  # type: ignore[import-not-found] # noqa: E402
from crash.workers import driver_killed, local_scene, workers_killed  # type: ignore[import-not-found] # noqa: E402

KINDS = ("lost", "repeated", "changed", "resent", "unrecorded", "orphan", "file", "leftover", "exit")
FAULTS = {"kill": KILL, "ENOSPC": FULL, "EIO": BROKEN}
#: Steps that only a run's end has; a resume makes them, too.
ENDING = (Family("fsync"), Family("rename"), Family("write"))


Told = list[tuple[str, Outcome]]


class Scenes:
    """Scenes for as many workers as there are."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._own = threading.local()

    def scene(self, rows: int, slots: int, delay: float = 0.003) -> tuple[Scene, Calm]:
        """This worker's own scene of that size, with its calm run."""
        held: dict[tuple[int, float], tuple[Scene, Calm]] = self._own.__dict__.setdefault("scenes", {})
        if (rows, delay) not in held:
            scene = Scene(self.place / f"{threading.get_ident()}-{rows}-{delay}", rows=rows, slots=slots, delay=delay)
            held[rows, delay] = scene, scene.calm()
        return held[rows, delay]

    def local(self) -> tuple[Scene, Calm]:
        """This worker's own scene of engine `local` on the bundled model, with its calm run."""
        if not hasattr(self._own, "local"):
            scene = local_scene(self.place / f"{threading.get_ident()}-local")
            self._own.local = scene, scene.calm()
        held: tuple[Scene, Calm] = self._own.local
        return held


def kill_instants(
    scenes: Scenes, count: int, seed: int, *, durability: str = "full", nested: int = 1
) -> Iterator[Trial]:
    """Kills at random instants; `nested` kills in a row, the later ones of resumes."""

    def play(number: int) -> Told:
        scene, calm = scenes.scene(100, 8)
        chance = random.Random(f"{seed} {durability} {nested} {number}")
        scene.wipe()
        story = Story(scene, calm)
        for _ in range(nested):
            words = scene.next_words()
            instant = scene.instant(chance, calm.seconds, scene.rows - len(scene.look().answers))
            story.act([*words, "--durability", durability], kill=instant)
        story.finish()
        return [(f"instant {number}", story)]

    return (Trial(f"instant {number}", partial(play, number)) for number in range(count))


def strike_steps(scenes: Scenes, fault: str, every: int, start: str) -> Iterator[Iterator[Trial]]:
    """A fault at every step of a run, or of the resume of one that was killed halfway, or just before its output."""

    def play(strike: Strike) -> Told:
        scene, calm = scenes.scene(16, 4)
        story = struck(scene, calm, strike, None if start == "run" else killed(scene, start))
        return [] if story is None else [(str(strike), story)]

    def line(family: Family) -> Iterator[Trial]:
        strikes = (Strike(FAULTS[fault], family, number) for number in numbers(every))
        return (Trial(str(strike), partial(play, strike)) for strike in strikes)

    return (line(family) for family in (FAMILIES if start == "run" else (*SESSION, *ENDING)))


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


def cut_power(scenes: Scenes, cuts: int, seed: int, *, tapes: int) -> Iterator[Trial]:
    """Recorded runs, and resumes of killed ones, cut at moments all over them, with all kinds of loss."""

    def play(number: int) -> Iterator[tuple[str, Outcome]]:
        scene, calm = scenes.scene(60, 4, 0.02)
        scene.wipe()
        if number % 2:
            scene.play(scene.run_words(), kill=Instant(scene.rows, 0.0))
        recording = Recording.of(scene, scene.next_words(), scenes.place / f"tape-{number}")
        done = 0
        for cut in recording.cuts(cuts, seed + number):
            recording.advance(done, cut)
            done = cut + 1
            for kind in Loss.KINDS:
                yield f"tape {number} step {cut} losing {kind}", survive(scene, calm, recording, cut, Loss(kind, cut))

    return (Trial(f"tape {number}, {cuts} cuts", partial(play, number)) for number in range(tapes))


def hurt_workers(scenes: Scenes, count: int, seed: int) -> Iterator[Trial]:
    """Engine `local` on the bundled model: kills of its worker in turn with kills of its driver."""

    def play(number: int) -> Told:
        chance = random.Random(f"{seed} worker {number}")
        held = scenes.local()
        story = driver_killed(*held, chance) if number % 2 else workers_killed(*held, chance, kills=2)
        return [(f"worker {number}", story)]

    return (Trial(f"worker {number}", partial(play, number)) for number in range(count))


def play(campaign: Campaign, scenes: Scenes, chosen: argparse.Namespace) -> None:
    seed, few = chosen.seed, chosen.instants // 10
    campaign.play("kill", [kill_instants(scenes, chosen.instants, seed)])
    campaign.play("kill, durability process", [kill_instants(scenes, few, seed, durability="process")])
    campaign.play("kill three times", [kill_instants(scenes, few, seed, nested=3)])
    for fault in chosen.faults:
        campaign.play(f"{fault} at a step", strike_steps(scenes, fault, chosen.every, "run"))
        campaign.play(f"{fault}, resume of a half", strike_steps(scenes, fault, chosen.every, "half"))
        campaign.play(f"{fault}, resume of all", strike_steps(scenes, fault, chosen.every, "all"))
    if chosen.cuts:
        campaign.play("power loss", [cut_power(scenes, chosen.cuts, seed, tapes=4)])
    if chosen.workers:
        campaign.play("kill of a worker, its driver", [hurt_workers(scenes, chosen.workers, seed)])


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
    kept = kept_file(f"crash-seed-{chosen.seed}", [HERE, HERE.with_name("trials.py"), *(TESTS / "crash").glob("*.py")])
    with tempfile.TemporaryDirectory(prefix="crash-") as place, Campaign(kept, KINDS, chosen.jobs) as campaign:
        play(campaign, Scenes(Path(place)), chosen)
        return campaign.verdict()


if __name__ == "__main__":
    sys.exit(main())
