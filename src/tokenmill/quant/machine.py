"""What of this machine a quantization may use: free memory and processors, never more than its container grants."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY = Path("/proc/meminfo")


def free_memory(meminfo: Path = _MEMORY, cgroup: Path = _CGROUP) -> int | None:
    """Bytes that can be taken without swapping; None where the system doesn't say."""
    free: list[int] = []
    with suppress(OSError):
        if found := re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE):
            free.append(1024 * int(found[1]))
    with suppress(OSError, ValueError):  # no such file, or the word "max"
        limit = int((cgroup / "memory.max").read_text())
        free.append(max(0, limit - int((cgroup / "memory.current").read_text())))
    return min(free, default=None)


def cores(cgroup: Path = _CGROUP) -> int:
    """Processors this process may run on, no more than its quota; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)
