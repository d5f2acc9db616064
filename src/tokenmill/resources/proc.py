"""What the files under /proc say, as text. Nothing is opened here."""

from __future__ import annotations

from msgspec import Struct

#: Places in /proc/PID/stat, counted from the field after the name: state is 0.
_USER, _SYSTEM, _BORN = 11, 12, 19
#: Of the first line of /proc/stat: time is spent on us in these, while idle, iowait and steal are not our work, and
#: guest time is in user time already.
_WORKING = ("user", "nice", "system", "irq", "softirq")
_COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class Ticks(Struct, frozen=True):
    """Processor time of a process, in ticks, and the tick at which it was born, which no other of its number shares."""

    spent: int
    born: int


class Held(Struct, frozen=True):
    """Memory of a process in bytes: now, and the most it ever had. A process that is ending has neither."""

    rss: int | None
    peak: int | None


def read_ticks(stat: str) -> Ticks:
    """From /proc/PID/stat. The name stands in brackets and may itself hold brackets, spaces and line ends."""
    fields = stat[stat.rindex(")") + 1 :].split()
    return Ticks(int(fields[_USER]) + int(fields[_SYSTEM]), int(fields[_BORN]))


def read_held(status: str) -> Held:
    """From /proc/PID/status. The kernel escapes line ends in the name, so no name can pose as another line."""
    sizes = {}
    for line in status.splitlines():
        label, _, rest = line.partition(":")
        if label in ("VmRSS", "VmHWM"):
            number, unit = rest.split()
            if unit != "kB":
                raise ValueError(f"{label} is in {unit}, not in kB")
            sizes[label] = int(number) * 1024
    return Held(sizes.get("VmRSS"), sizes.get("VmHWM"))


def read_machine(stat: str) -> int:
    """Ticks in which any core of the machine worked, from /proc/stat."""
    words = stat.split("\n", 1)[0].split()
    if not words or words[0] != "cpu":
        raise ValueError("its first line isn't about all cores")
    spent = dict(zip(_COLUMNS, map(int, words[1:]), strict=False))
    return sum(spent[name] for name in _WORKING)
