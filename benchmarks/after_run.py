"""How often a run that bears its verdict out is told to contradict it: the check after a trial, in virtual time.

Two nodes of one processor are equally fast alone and together, so that whatever the trial chose, nothing contradicts
it. The pace of the processor wanders: its logarithm is a first-order autoregressive process with a standard deviation
and a correlation time, so turns that follow one another are alike. What is counted are the runs whose check raises an
alarm, and, beside them, how often it does if the processor gets slower for good after the trial.

    python benchmarks/after_run.py [--runs 200] [--noise 0.05] [--memory 30]
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import exp, sqrt
from random import Random

from tokenmill.schedule import make
from tokenmill.schedule.choose import trials_of
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import SimNode, SimRow, simulate

#: Rows of a run: 200 turns and some more. Seconds between two steps of the pace.
ROWS, STEP = 3000, 2.0
#: A run with this many rows takes as long, in seconds, when nothing wanders; the pace is drawn for twice that.
LENGTH = ROWS * 2.5
#: Seconds after which the processor gets slower in the other set of runs: the trial has ended by then.
LATER = 600.0


def pace(noise: float, memory: float, loss: float, seed: int) -> tuple[tuple[float, Curve], ...]:
    """The behaviour of the processor over time: full with one request, and wandering by `noise` within `memory` s."""
    random = Random(f"{seed} wanders")
    kept = exp(-STEP / memory)
    level, changes = random.gauss(0, noise), []
    for number in range(int(2 * LENGTH / STEP)):
        later = loss if number * STEP >= LATER else 0.0
        changes.append((number * STEP, Curve(slots=1, serial=1.0, slowness=exp(level) / (1 - later))))
        level = kept * level + random.gauss(0, noise * sqrt(1 - kept**2))
    return tuple(changes)


def run(noise: float, memory: float, loss: float, seed: int) -> tuple[bool, bool]:
    """Whether a run came to a verdict, and whether it was told to be contradicted."""
    random = Random(f"{seed} rows")
    curve, wanders = Curve(slots=1, serial=1.0), pace(noise, memory, loss, seed)
    node = SimNode(slots=8, speed=25, overhead=0.1, curve=curve, device="cpu", changes=wanders)
    rows = [SimRow(row=row, tokens=random.randint(20, 100)) for row in range(ROWS)]
    strategy = make("auto", groups=[(0, 1)], seed=seed)
    simulate(strategy, rows, [node, node])
    (trial,) = trials_of(strategy)
    return trial.verdict is not None and trial.verdict.is_measured, bool(trial.contradiction)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.0, 0.02, 0.05, 0.1])
    parser.add_argument("--memory", type=float, nargs="*", default=[5.0, 30.0, 120.0])
    parser.add_argument("--loss", type=float, nargs="*", default=[0.0, 0.1, 0.2])
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    print("noise  memory  loss  runs with a verdict  alarms")
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for noise in chosen.noise:
            for memory in chosen.memory[: len(chosen.memory) if noise else 1]:
                for loss in chosen.loss:
                    found = list(pool.map(partial(run, noise, memory, loss), range(chosen.runs)))
                    told = [alarm for judged, alarm in found if judged]
                    share = sum(told) / len(told) if told else 0.0
                    print(f"{noise:5.2f} {memory:5.0f} s {loss:5.2f} {len(told):20} {share:7.1%}", flush=True)


if __name__ == "__main__":
    main()
