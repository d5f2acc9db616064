"""Energy of processors and their memory, as Linux shows it under /sys/class/powercap.

A package holds its cores and graphics, so only the package counts of these; memory (`dram`) lies beside it. `psys`, the
whole board, holds the packages and is left out, and so is the second door to the same counters (`intel-rapl-mmio`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

POWERCAP = Path("/sys/class/powercap")
#: Joules of one count: the files are in microjoules.
STEP = 1e-6


class Zone(Struct, frozen=True):
    """One counter. `range` is the largest value before it begins again; `fault` says why it can't be read."""

    name: str
    path: Path
    range: int | None = None
    fault: str = ""


def zones(root: Path = POWERCAP) -> list[Zone]:
    """The counters that together are all processors and their memory, each once."""
    found = []
    for folder in sorted(root.glob("intel-rapl:*")):
        name = _name(folder)
        if name.startswith("package") or (name == "dram" and folder.name.count(":") == 2):
            shown = name if name != "dram" else f"dram {folder.name.split(':')[1]}"
            found.append(_zone(folder, shown))
    return found


def read(zone: Zone) -> int | None:
    """The counter now, or None."""
    try:
        return int((zone.path / "energy_uj").read_text())
    except (OSError, ValueError):
        return None


def why_none(root: Path = POWERCAP) -> str:
    """Why there are no zones at all."""
    if not root.is_dir():
        return f"{root} isn't there: this system shows no energy counters of its processors, as most virtual machines"
    return f"{root} has no counter of a processor package"


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


def _zone(folder: Path, name: str) -> Zone:
    fault, limit = "", None
    for kind, text in _files(folder):
        if isinstance(text, OSError):
            fault = fault or why(folder / kind, text)
        elif kind == "max_energy_range_uj":
            limit = int(text) if text.strip().isdigit() else None
    return Zone(name, folder, limit, fault)


def _files(folder: Path) -> Iterator[tuple[str, str | OSError]]:
    for kind in ("energy_uj", "max_energy_range_uj"):
        try:
            yield kind, (folder / kind).read_text()
        except OSError as error:
            yield kind, error


def why(path: Path, error: OSError) -> str:
    """Why a counter can't be read, and what helps where rights are all that is missing."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may be read by root only; ask for: chmod a+r {path}"
    return f"{path} can't be read ({error.strerror})"
