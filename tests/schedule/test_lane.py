from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenmill.schedule.lane import Lane
from tokenmill.schedule.order import rank_by_length, row_of


@given(st.lists(st.one_of(st.integers(0, 30), st.sampled_from(["front", "back", "drain"])), max_size=120))
def test_lane_is_a_sorted_list_with_two_ends(moves: list[int | str]) -> None:
    """The front gives the smallest rank, the back the greatest, also for rows that left and came back."""
    lane, model = Lane(), set()
    for move in moves:
        if isinstance(move, int):
            if move not in model:
                lane.push(move)
                model.add(move)
        elif move == "drain":
            assert lane.drain() == sorted(model)
            model.clear()
        elif model:
            row = lane.pop_front() if move == "front" else lane.pop_back()
            assert row == (min(model) if move == "front" else max(model))
            model.discard(row)
        assert len(lane) == len(model)
    assert lane.drain() == sorted(model)


@given(st.floats(0, 1e7), st.integers(0, 2**32 - 1))
def test_a_rank_carries_its_row(length: float, row: int) -> None:
    """Any row below 2**32 comes out of its rank again."""
    assert row_of(rank_by_length(row, length)) == row
