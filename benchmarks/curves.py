"""Makespan of the sentences workload on servers of every kind, in virtual time, against the lower bound.

    python benchmarks/curves.py            the table
    python benchmarks/curves.py --draws 20 mean makespans over answers that are longer or shorter than the prompt says

Needs a few seconds. `bound` is the least that any schedule needs with 12 requests in flight; `auto` has to stay within
1.12 of it and within 1.03 of the best of the other columns, though it knows nothing of the server beforehand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean

# What is swept is shared with the tests.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from schedule.sweep import (  # type: ignore[import-not-found] # noqa: E402
    CURVES,
    FIXED,
    IN_FLIGHT,
    MOST,
    bound,
    play_on,
    sentences,
)

CHOICES = [*FIXED, ("pull", "packed"), ("auto", None)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=0, help="seeded draws of answers that differ from the prompt")
    parser.add_argument("--spread", type=float, default=0.1, help="relative spread of the answers in a draw")
    options = parser.parse_args()
    draws = [sentences(options.spread, seed) for seed in range(options.draws)] or [sentences()]
    for name, curve in CURVES.items():
        least = fmean(bound(curve, rows) for rows in draws)
        print(f"\n{name}: bound {least:.2f} s\n{'in flight':>26}" + "".join(f"{count:>9}" for count in IN_FLIGHT))
        means = {}
        for strategy, order in CHOICES:
            line = [
                fmean(play_on(curve, strategy, order, count, rows).makespan for rows in draws) for count in IN_FLIGHT
            ]
            means[strategy, order] = line
            print(f"{strategy + ', ' + (order or 'packed'):>26}" + "".join(f"{seconds:>9.2f}" for seconds in line))
        best = min(min(means[choice]) for choice in FIXED)
        auto = means["auto", None][IN_FLIGHT.index(MOST)]
        print(f"  auto with up to {MOST}: {auto / least:.3f} of the bound, {auto / best:.3f} of the best by hand")


if __name__ == "__main__":
    main()
