"""The order of readings: interleaved by repeats, drawn from a seed, and the same again after an interruption."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenmill.bench.cell import Cell
from tokenmill.bench.order import in_order, left

CELLS = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(
    lambda stages: [Cell(group="g", factors={"n": number}, stage=stage) for number, stage in enumerate(stages)]
)
REPEATS, SEEDS = st.integers(1, 5), st.integers(0, 2**32)


@given(CELLS, REPEATS, SEEDS)
def test_each_repeat_holds_every_cell_once(cells: list[Cell], repeats: int, seed: int) -> None:
    """Within a stage, no cell is read again before all others were; and a stage begins when the one before is done."""
    order = list(in_order(cells, repeats, seed))
    expected = []
    for stage in sorted({cell.stage for cell in cells}):
        keys = {cell.key for cell in cells if cell.stage == stage}
        expected += [(stage, repeat, keys) for repeat in range(repeats)]

    found = []
    for stage, repeat, keys in expected:
        turn, order = order[: len(keys)], order[len(keys) :]
        assert {each for _, each in turn} == {repeat}
        found.append((stage, repeat, {cell.key for cell, _ in turn}))
    assert found == expected
    assert order == []


@given(CELLS, REPEATS, SEEDS, st.data())
def test_what_is_left_keeps_its_order(cells: list[Cell], repeats: int, seed: int, data: st.DataObject) -> None:
    """Whatever was done already, in whatever order, the rest comes as it would have."""
    order = [(cell.key, repeat) for cell, repeat in in_order(cells, repeats, seed)]
    done = data.draw(st.sets(st.sampled_from(order)))

    rest = [(cell.key, repeat) for cell, repeat in left(cells, repeats, seed, done)]

    assert rest == [each for each in order if each not in done]


def test_the_order_is_drawn_for_each_repeat_and_seed() -> None:
    """No cell has a place of its own: repeats differ, seeds differ, and the same seed gives the same order."""
    cells = [Cell(group="g", factors={"n": number}) for number in range(12)]
    orders = [[(cell.key, repeat) for cell, repeat in in_order(cells, 5, seed)] for seed in (0, 0, 1)]
    turns = {tuple(key for key, _ in orders[0][first : first + 12]) for first in range(0, 60, 12)}

    assert orders[0] == orders[1] != orders[2]
    assert len(turns) == 5
