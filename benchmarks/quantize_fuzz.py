"""A million headers of GGUF and safetensors files that lie: nothing but a refusal, quickly, in bounded memory.

    python benchmarks/quantize_fuzz.py                       a million cases on two processes
    python benchmarks/quantize_fuzz.py --cases 20000 --jobs 1 --seed 7

Each number is a GGUF file and a safetensors file with one to four changes, written to memory (/dev/shm) and read; a
GGUF file that is taken for good is planned, too. What counts as broken: any exception but ours, more than a second of
processor time, a hang, or more memory than twice the file and 64 MiB, which the kernel refuses (RLIMIT_AS). Then come
files of some megabytes that are as large as they say. The exit code is 1 if anything broke.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# In place of this folder, as the name `quant` isn't a package beside it.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from quant.fuzzing import Fuzz  # type: ignore[import-not-found] # noqa: E402
from quant.mutations import LARGE  # type: ignore[import-not-found] # noqa: E402

#: Processor seconds of a case at most.
SECONDS = 1.0
#: Numbers that a process takes at once, and faults that are printed.
SHARE, SHOWN = 2000, 20
MEMORY = Path("/dev/shm")


def play(numbers: range) -> tuple[list[str], Counter[str], float]:
    """The faults of some numbers, what became of their files, and the slowest one's seconds."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        fuzz = Fuzz(Path(folder), SECONDS)
        faults = [fault for number in numbers for fault in fuzz.number(number)]
    counts = Counter({f"{kind} read": count for kind, count in fuzz.accepted.items()})
    counts.update({f"{kind} refused": count for kind, count in fuzz.refused.items()})
    return faults, counts, fuzz.slowest


def play_large(name: str) -> list[str]:
    """What is wrong with one large file."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        fault = Fuzz(Path(folder), SECONDS).check(name.split(",")[0], LARGE[name]())
    return [f"{name}: {fault}"] if fault else []


def shares(first: int, count: int) -> Iterator[range]:
    for begin in range(first, first + count, SHARE):
        yield range(begin, min(begin + SHARE, first + count))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000, help="files in all, half of each format")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other files")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    chosen = parser.parse_args()
    started, faults, counts, slowest = time.monotonic(), list[str](), Counter[str](), 0.0
    first, each = chosen.seed << 32, -(-chosen.cases // 2)
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        for found, counted, slow in pool.imap_unordered(play, shares(first, each)):
            faults += found
            counts.update(counted)
            slowest = max(slowest, slow)
            done = counts.total() + len(faults)
            if done % (50 * SHARE) < 2 * SHARE:
                print(f"{done:,} files, {done / (time.monotonic() - started):,.0f} a second", flush=True)
    took = time.monotonic() - started
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        faults += [fault for found in pool.imap(play_large, LARGE) for fault in found]
    for fault in faults[:SHOWN]:
        print(f"  {fault}")
    print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    print(f"{2 * each:,} changed files in {took:.0f} s on {chosen.jobs} processes, {2 * each / took:,.0f} a second")
    print(f"the slowest took {1000 * slowest:.0f} ms of a processor; {len(LARGE)} large files")
    print(f"{len(faults)} broken: {'FAILED' if faults else 'all refused or read'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
