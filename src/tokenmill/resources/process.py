"""Reads how much processor time and memory a process has taken so far."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from msgspec import Struct

from tokenmill.footprint import Ended, OwnProcess
from tokenmill.resources.proc import Ticks, read_held, read_machine, read_ticks

PROC = Path("/proc")
NO_PROC = "this system has no /proc to read it from"
NO_END = "the session ended by force"


class Seen(Struct, frozen=True, kw_only=True):
    """One look at a process; None is what couldn't be read. `cpu` is in seconds since it began."""

    born: int | None = None
    cpu: float | None = None
    rss: int | None = None
    peak: int | None = None
    reason: str = ""


def look(pid: int, proc: Path = PROC) -> Seen:
    """Looks at a process; one that is gone, or hidden from us, is seen with nothing but the reason."""
    folder = proc / str(pid)
    try:
        ticks = read_ticks(_text(folder / "stat"))
        held = read_held(_text(folder / "status"))
    except FileNotFoundError:
        return Seen(reason="it is gone" if (proc / "stat").exists() else NO_PROC)
    except ProcessLookupError:
        return Seen(reason="it is gone")
    except (OSError, ValueError, IndexError) as error:
        return Seen(reason=f"{folder} can't be read ({_words(error)})")
    return Seen(born=ticks.born, cpu=_seconds(ticks), rss=held.rss, peak=held.peak)


def machine_seconds(proc: Path = PROC) -> float | str:
    """Seconds for which cores of this machine have worked since it started, or why that isn't known."""
    try:
        return read_machine(_text(proc / "stat")) / tick_rate()
    except FileNotFoundError:
        return NO_PROC
    except (OSError, ValueError, KeyError) as error:
        return f"{proc / 'stat'} can't be read ({_words(error)})"


def own_peak() -> int:
    """The most memory this process ever held: the mark of the program itself where the kernel keeps one.

    What `getrusage` says may be the parent's, from before this program was loaded, so it comes second.
    """
    seen = look(os.getpid())
    if seen.peak is not None:
        return seen.peak
    return Ended.of(resource.getrusage(resource.RUSAGE_SELF)).peak_rss


def peak_of(process: OwnProcess, seen: int | None, inherited: int | None) -> tuple[int | None, str]:
    """The most memory a process held, or None with the reason.

    `inherited` is what its parent had held at most when this process was first seen. The kernel counts that to the
    child too, so below it `ru_maxrss` says nothing of the child, and the mark last read from it is all there is.
    """
    end: Ended | None = process.end
    if end is None:
        return None, NO_END
    if inherited is None or end.peak_rss > inherited:
        return end.peak_rss, ""
    if seen is None:
        return None, "it ended before it was looked at, and held less than its parent had"
    return seen, ""


def tick_rate() -> int:
    """Ticks in a second of processor time."""
    return os.sysconf("SC_CLK_TCK")


def _seconds(ticks: Ticks) -> float:
    return ticks.spent / tick_rate()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _words(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or type(error).__name__)
