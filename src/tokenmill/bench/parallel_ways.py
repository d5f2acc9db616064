"""What the ways to answer a set of texts are called in cells, tables and findings."""

from __future__ import annotations

MODE, RANKS = "mode", "ranks"
BASELINE, DP, TP, DEEPSPEED = "baseline", "dp", "tp", "deepspeed"
#: The baseline, and what is often taken for it.
SINGLE, ONE_THREAD = "one process", "one process with one thread"


def group_of(size: int) -> str:
    """Cells on data of this size; the number comes first."""
    return f"{size} text{'s' if size > 1 else ''}"
