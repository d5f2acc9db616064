"""Kills runs with a recipe at random instants and at every durable step, and counts broken promises.

    python benchmarks/pipeline_kills.py                          100 instants and every step, 45 minutes on two cores
    python benchmarks/pipeline_kills.py --kills 10 --every 20    a quick one

Needs Linux and, for the steps, `strace`. The recipe has samples, rounds and a judge, and the scripted engine notes what
it was sent. Each trial plays the real command line, kills it (SIGKILL) at an instant, or at the n-th write, sync,
rename, truncation or removal of a file, goes on with `tokenmill resume`, and compares: no prompt may be sent again
after its answer was recorded, nothing that was recorded may be lost or changed, and at the end all files of the data
set, the card but for times and costs, and all answers, items, scores and endings of the record must be those of the
calm run.
The exit code is 0 if no promise was broken. A campaign that was interrupted goes on: finished trials are kept in a file
of the cache folder that belongs to one state of the source.
"""

from __future__ import annotations

import argparse
import random
import shutil
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
# In place of this folder, as the name `crash` would be a file of it.
sys.path[0] = str(TESTS)

from crash.data_sets import DataSet, half_done, killed  # type: ignore[import-not-found] # noqa: E402
from crash.scene import Calm  # type: ignore[import-not-found] # noqa: E402
from crash.steps import FAMILIES, KILL, SESSION, Family, Strike, numbers, struck  # type: ignore[import-not-found] # noqa: E402

KINDS = ("lost", "repeated", "changed", "resent", "unrecorded", "file", "leftover", "exit")
#: Steps that a resume makes.
OF_RESUME = (*SESSION, Family("fsync"), Family("rename"), Family("write"))

Told = list[tuple[str, Outcome]]


class Scenes:
    """A scene for each worker."""

    def __init__(self, place: Path, rows: int) -> None:
        self.place, self.rows = place, rows
        self._own = threading.local()

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


def at_instants(scenes: Scenes, count: int, kills: int, seed: int) -> Iterator[Trial]:
    """As many kills in a row as `kills`, at instants that the seed draws."""

    def play(number: int) -> Told:
        chance = random.Random(f"{seed} {kills} {number}")
        return [(f"instant {number}", killed(*scenes.scene(), chance, kills))]

    return (Trial(f"instant {number}", partial(play, number)) for number in range(count))


def at_steps(scenes: Scenes, family: Family, every: int, *, resumed: bool) -> Iterator[Trial]:
    """A kill at every n-th step of one kind, to the last there is."""

    def play(strike: Strike) -> Told:
        scene, calm = scenes.scene()
        story = struck(scene, calm, strike, scenes.half() if resumed else None)
        return [] if story is None else [(str(strike), story)]

    strikes = (Strike(KILL, family, number) for number in numbers(every))
    return (Trial(str(strike), partial(play, strike)) for strike in strikes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="random instants of a run to kill it at")
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th durable step; 0 for none")
    parser.add_argument("--rows", type=int, default=12, help="input rows of a run")
    parser.add_argument("--jobs", type=int, default=2, help="trials at the same time")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    sources = [HERE, HERE.with_name("trials.py"), *(TESTS / "crash").glob("*.py")]
    kept = kept_file(f"pipeline-kills-{chosen.rows}-rows-seed-{chosen.seed}", sources)
    with tempfile.TemporaryDirectory(prefix="pipeline-kills-") as place, Campaign(kept, KINDS, chosen.jobs) as campaign:
        scenes = Scenes(Path(place), chosen.rows)
        campaign.play("kill", [at_instants(scenes, chosen.kills, 1, chosen.seed)])
        campaign.play("kill three times", [at_instants(scenes, chosen.kills // 10, 3, chosen.seed)])
        if chosen.every and shutil.which("strace") is not None:
            of_run = [at_steps(scenes, family, chosen.every, resumed=False) for family in FAMILIES]
            campaign.play("kill at a step", of_run)
            of_resume = [at_steps(scenes, family, chosen.every, resumed=True) for family in OF_RESUME]
            campaign.play("kill at a step of a resume", of_resume)
        elif chosen.every:
            print("kill at a step: n/a, strace isn't installed")
        return campaign.verdict()


if __name__ == "__main__":
    sys.exit(main())
