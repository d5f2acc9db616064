"""Plays ten million requests on ten thousand nodes with strategy `pull`, and says whether the targets are met.

    python benchmarks/hosts.py                                       some minutes, and about 300 MB
    python benchmarks/hosts.py --nodes 1000 --rows 1000000           a tenth of it
    python benchmarks/hosts.py --losses 0.02 --paces 40,60 --slots 4 unequal nodes, of which some are lost and return

Targets: the makespan is within 1.02 times the lower bound, all of it takes under 600 seconds of processor time (so 60
microseconds a request at ten million, which scales with `--rows`) and under 2 GB of memory at its peak, and no request
is left over. The answers are those of the sentences workload, over and over: 10 tokens a sentence.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys

from tokenmill.driver.options import Settings
from tokenmill.driver.plan_hosts import Losses, play_crowd
from tokenmill.schedule.simulate import SimNode
from tokenmill.workload.builtin import SENTENCES

RATIO, SECONDS_A_ROW, MEMORY = 1.02, 60e-6, 2e9
TOKENS_A_SENTENCE = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--slots", type=int, default=1, help="requests that each node answers at the same time")
    parser.add_argument("--paces", default="50", help="tokens per second of a request, of the nodes in turn")
    parser.add_argument("--strategy", default="pull")
    parser.add_argument("--losses", type=float, default=0.0, help="the share of the nodes that is lost once")
    parser.add_argument("--back", type=float, default=60.0, help="seconds after which a lost node returns")
    given = parser.parse_args()
    kinds = [SimNode(slots=given.slots, speed=float(pace)) for pace in given.paces.split(",")]
    crowd = play_crowd(
        Settings(strategy=given.strategy),
        kinds,
        given.nodes,
        [TOKENS_A_SENTENCE * count for count in SENTENCES],
        given.rows,
        Losses(share=given.losses, back=given.back),
        seed=0,
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    found = {name: getattr(crowd, name) for name in crowd.__struct_fields__}
    print(json.dumps(found | {"cpu_in_all": cpu, "peak_bytes": memory}, indent=1))
    verdicts = {
        f"makespan within {RATIO} x the bound: {crowd.ratio:.5f}": crowd.ratio <= RATIO,
        f"{given.rows:,} rows in {SECONDS_A_ROW * given.rows:.0f} s of processor time: {cpu:.1f} s": (
            cpu <= SECONDS_A_ROW * given.rows
        ),
        f"peak memory under {MEMORY / 1e9:.0f} GB: {memory / 1e9:.3f} GB": memory < MEMORY,
        f"no row left over: {crowd.unfinished}": crowd.unfinished == 0,
    }
    for text, is_met in verdicts.items():
        print("pass" if is_met else "FAIL", text)
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
