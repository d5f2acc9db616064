"""Plays thousands of random fault schedules on virtual time and counts broken promises.

    python benchmarks/schedules.py                          10,000, and 2,000 in which all must end: 1 minute
    python benchmarks/schedules.py --schedules 500 --liveness 100
    python benchmarks/schedules.py --seed 77                one schedule, with every event and what was done
    python benchmarks/schedules.py --seed 77 --merciful     one of those in which all must end

A schedule is a run of up to 60 rows on up to 6 nodes with outages, crashes, poison, full, silent, failing, flapping and
misconfigured servers, slow ones, and late answers; see `tokenmill.schedule.ordeal` for what must hold in each. The exit
code is 0 if no promise was broken; the seed of each schedule that broke one is printed.
"""

from __future__ import annotations

import argparse
import sys
import time

from tokenmill.schedule.ordeal import Ordeal, broken_promises, draw, play

SHOWN = 20


def judge(ordeal: Ordeal) -> tuple[int, list[str]]:
    """Plays it; returns the attempts it took and what was broken, an assertion of the simulator among it."""
    try:
        result = play(ordeal)
    except AssertionError as error:
        return 0, [f"the simulator refused: {error}"]
    return len(result.attempts), broken_promises(ordeal, result)


def play_many(seeds: range, *, merciful: bool) -> int:
    """Plays a schedule per seed and prints what it came to; returns how many broke a promise."""
    kind = "schedules in which all must end" if merciful else "schedules"
    started, attempts, broken = time.monotonic(), 0, 0
    for seed in seeds:
        took, faults = judge(draw(seed, merciful=merciful))
        attempts += took
        broken += bool(faults)
        if faults and broken <= SHOWN:
            print(f"seed {seed}{' --merciful' if merciful else ''}: {'; '.join(faults)}", flush=True)
    seconds = time.monotonic() - started
    print(f"{len(seeds):,} {kind}: {broken} broken, {attempts:,} attempts, {seconds:.0f} s", flush=True)
    return broken


def show(seed: int, *, merciful: bool) -> int:
    """Prints every event of one schedule with what the strategy did."""
    ordeal = draw(seed, merciful=merciful)
    print(ordeal)
    result = play(ordeal, keep_log=True)
    for event, actions in result.log:
        print(event, "->", actions)
    for note in result.notes:
        print(note)
    faults = broken_promises(ordeal, result)
    print("\n".join(faults) or "every promise was kept")
    return len(faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many to play")
    parser.add_argument("--liveness", type=int, default=2_000, help="how many to play in which all rows must end")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="show this one schedule instead")
    parser.add_argument("--merciful", action="store_true", help="with --seed: one in which all rows must end")
    given = parser.parse_args()
    if given.seed is not None:
        return min(1, show(given.seed, merciful=given.merciful))
    broken = play_many(range(given.first, given.first + given.schedules), merciful=False)
    broken += play_many(range(given.first, given.first + given.liveness), merciful=True)
    return min(1, broken)


if __name__ == "__main__":
    sys.exit(main())
