"""In which order readings are taken: repeat by repeat, and within a repeat at random.

A machine warms up, throttles and is used by others, so cells that are measured one after the other differ by when they
were. Each repeat holds every cell once, in an order drawn anew from the seed; reading i of one cell and reading i of
another were taken near each other and form a pair. Cells of a later stage wait for all repeats of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from random import Random

from tokenmill.bench.cell import Cell


def in_order(cells: Sequence[Cell], repeats: int, seed: int) -> Iterator[tuple[Cell, int]]:
    """Every cell once for each repeat, interleaved; the same seed gives the same order."""
    for stage in sorted({cell.stage for cell in cells}):
        for repeat in range(repeats):
            drawn = [cell for cell in cells if cell.stage == stage]
            Random(f"{seed} {repeat}").shuffle(drawn)
            for cell in drawn:
                yield cell, repeat


def left(cells: Sequence[Cell], repeats: int, seed: int, done: Collection[tuple[str, int]]) -> list[tuple[Cell, int]]:
    """What of it hasn't been done yet, in the same order."""
    return [(cell, repeat) for cell, repeat in in_order(cells, repeats, seed) if (cell.key, repeat) not in done]
