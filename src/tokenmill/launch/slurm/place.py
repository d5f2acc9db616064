"""Where things of a SLURM run lie in its folder, which every node sees."""

from __future__ import annotations

import os
from pathlib import Path

#: Set for what a batch script of ours starts.
ELEMENT_VARIABLE = "TOKENMILL_SLURM_ELEMENT"
#: The process that holds the ranks of this element, and the namespace in which it has that number.
RANKS_VARIABLE = "TOKENMILL_SLURM_RANKS"
JOIN = "join.json"


def slurm_folder(folder: Path) -> Path:
    return folder / "slurm"


def script_file(folder: Path) -> Path:
    return slurm_folder(folder) / "job.sh"


def job_file(folder: Path) -> Path:
    """Which job works on the run."""
    return slurm_folder(folder) / "job.json"


def join_file(folder: Path) -> Path:
    """How ranks find the driver."""
    return slurm_folder(folder) / JOIN


def log_pattern(folder: Path, *, is_array: bool) -> str:
    """What SLURM makes the name of a log from."""
    return f"{slurm_folder(folder)}/".replace("%", "%%") + ("%A_%a.log" if is_array else "%j.log")


def logs(folder: Path) -> list[Path]:
    """The logs of all jobs so far, the one that was written to last at the end."""
    found = [(path.stat().st_mtime_ns, path) for path in slurm_folder(folder).glob("*.log")]
    return [path for _, path in sorted(found)]


def is_inside() -> bool:
    """Whether this process is part of an allocation."""
    return "SLURM_JOB_ID" in os.environ
