"""How ranks on one host share its cores: divided whole, each pinned to its part.

Threads of several processes that may run anywhere push each other off the cores, and each barrier of one then waits
for the other. Logical processors of one physical core stay together.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

#: Logical processors, with commas between, to which a rank binds itself.
CORES_VARIABLE = "TOKENMILL_CORES"
#: Set where ranks divide among themselves what all of them may use, as under torchrun, which knows no cores.
SHARE_VARIABLE = "TOKENMILL_SHARE_CORES"


def divide(cores: Sequence[Sequence[int]], ranks: int) -> list[list[int]]:
    """The logical processors of each rank; `cores` lists those of each physical core.

    With more ranks than cores several ranks have the same one.
    """
    if ranks > len(cores):
        return [sorted(cores[rank % len(cores)]) for rank in range(ranks)]
    bounds = [len(cores) * rank // ranks for rank in range(ranks + 1)]
    return [sorted(cpu for core in cores[first:last] for cpu in core) for first, last in itertools.pairwise(bounds)]


def place(cpus: Sequence[int], gpu: str | None = None) -> str:
    """Where a rank computes, in words: `core 3`, `cores 0-3, 8`, or `GPU 1`."""
    if gpu is not None:
        return f"GPU {gpu}"
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], cpu]
        else:
            spans.append([cpu])
    listed = ", ".join("-".join(map(str, span)) for span in spans)
    return f"core{'s' if len(cpus) > 1 else ''} {listed}"


def pin(cpus: Sequence[int]) -> None:
    """Binds this process, and all threads it will have, where the system can do that."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(cpus) & os.sched_getaffinity(0) or set(cpus))


def pin_as_told(told: str) -> None:
    """By the text of `CORES_VARIABLE`."""
    pin([int(cpu) for cpu in told.split(",") if cpu.strip().isdigit()])
