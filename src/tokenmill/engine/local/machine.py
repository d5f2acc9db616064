"""What of this machine a process may use: cores, memory, number formats; never what the whole host has.

A container sees all cores of its host and is throttled, or killed, when it believes them.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from pathlib import Path

from msgspec import Struct

_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")


class Machine(Struct, frozen=True, kw_only=True):
    """What a worker may use where it runs: cores, bytes of memory, and whether bfloat16 is quick there."""

    host: str
    cores: int
    memory: int
    fast_bf16: bool


def this_machine() -> Machine:
    """What this process may use."""
    return Machine(host=socket.gethostname(), cores=usable_cores(), memory=usable_memory(), fast_bf16=has_fast_bf16())


def usable_cores(cpus: Path = _CPUS, cgroup: Path = _CGROUP) -> int:
    """Physical cores this process may run on, no more than its CPU quota; at least 1.

    Two threads of one core share its arithmetic units: a second busy thread there only adds waiting.
    """
    cores = len(physical_cores(cpus))
    quota = _cpu_quota(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def physical_cores(cpus: Path = _CPUS) -> list[list[int]]:
    """The physical cores this process may run on, each with those of its logical processors that it may use."""
    if not hasattr(os, "sched_getaffinity"):
        import psutil  # here, as runs without a local model do without it

        return [[number] for number in range(int(psutil.cpu_count(logical=False) or 1))]
    cores: dict[str, list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        cores.setdefault(_siblings(cpus, cpu), []).append(cpu)
    return list(cores.values())


def usable_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that can be taken without swapping, no more than the memory limit leaves."""
    import psutil

    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no such file, or the word "max"
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        available = min(available, max(0, limit - used))
    return available


def has_fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bfloat16 itself; elsewhere it is emulated and slower than fp32."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return not words.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def _siblings(cpus: Path, cpu: int) -> str:
    """A name for the physical core of a logical one; its own number where the kernel doesn't tell."""
    try:
        return (cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cpu_quota(cgroup: Path) -> float | None:
    """Cores' worth of time the control group grants, None if unlimited."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None
