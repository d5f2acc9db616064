"""A process of this machine that somebody else waits for, so that nobody tells us what it took.

The kernel's own marks are read once more in the moment before the process is told to leave: what it does after that is
its end. Of one that is killed only what was sampled before is known.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from tokenmill.footprint import Ended
from tokenmill.resources.process import look


class Glimpse:
    """One such process, as what a session's footprint takes in."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.end: Ended | None = None
        self._born = look(pid).born

    def part(self) -> None:
        """Looks for the last time; nothing if the process is gone, or its number another's by now."""
        seen = look(self.pid)
        if self.end is None and seen.born == self._born and seen.peak is not None and seen.cpu is not None:
            self.end = Ended(peak_rss=seen.peak, cpu_seconds=seen.cpu)

    def kill(self) -> None:
        """Ends the process, unless it is gone; whoever got its number since is left alone."""
        if look(self.pid).born == self._born:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)
