"""Waiting for what SLURM does in its own time; a wait ends with what is waited for, or fails loudly."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from tokenmill.testing.slurm import SlurmCluster

#: Seconds after which something hangs; far beyond what anything takes.
PATIENCE = 120.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def until(what: Callable[[], object], told: Callable[[], object] = str) -> None:
    """Looks until it is so."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


def until_ended(cluster: SlurmCluster, number: str, *states: str) -> str:
    """Waits until a job has one of these states, else any that is an end; returns it."""
    seen = ""

    def has_come() -> bool:
        nonlocal seen
        seen = cluster.run("squeue", "-h", "-j", number, "-t", "all", "-o", "%T").strip()
        return seen in (states or ENDED)

    until(has_come, lambda: f"job {number} is {seen}\n{cluster.logs()}")
    return seen


def until_gone(pids: list[int]) -> None:
    """Waits until none of these processes runs; those that are nobody's children any more are waited for too."""
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        came = poll.poll(PATIENCE * 1000)
        os.close(watched)
        assert came, f"process {pid} is still there: {Path(f'/proc/{pid}/cmdline').read_text()}"
