"""Slots, the queue and the model in memory, in virtual time."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.testing.line import Line


class Caller(Struct, eq=False):
    model: str = "m"
    num_ctx: int = 4096


def line_with(*callers: Caller, slots: int = 1, load: float = 0.0) -> Line:
    line = Line(slots, 2, load)
    line.preload("m", 4096, -100.0)
    line.waiting.extend(callers)
    return line


def started(line: Line, now: float) -> list[tuple[object, float, bool]]:
    found = []
    while (next_one := line.next(now)) is not None:
        found.append(next_one)
    return found


def test_first_come_first_served() -> None:
    """As many start as there are slots, in order, and the next when one leaves."""
    first, second, third = Caller(), Caller(), Caller()
    line = line_with(first, second, third, slots=2)
    assert [caller for caller, _, _ in started(line, 0)] == [first, second]
    line.leave(first)
    assert [caller for caller, _, _ in started(line, 1)] == [third]


def test_the_queue_has_a_limit() -> None:
    """There is room while a slot is free, and then for as many as the queue takes."""
    line = line_with(slots=1)
    assert line.has_room
    line.waiting.extend([Caller(), Caller(), Caller()])
    started(line, 0)
    assert not line.has_room


def test_a_cold_model_is_waited_for_by_all() -> None:
    """The first loads it; those who come meanwhile begin at the same moment and load nothing."""
    line = Line(2, None, 5.0)
    line.waiting.extend([Caller(), Caller()])
    assert [(ready, loads) for _, ready, loads in started(line, 1.0)] == [(6.0, True), (6.0, False)]


def test_another_context_reloads_the_model() -> None:
    """A request with another num_ctx waits until nobody uses the model, and then loads it again."""
    usual, other = Caller(), Caller(num_ctx=8192)
    line = line_with(usual, other, slots=2, load=3.0)
    assert [caller for caller, _, _ in started(line, 0)] == [usual]
    line.leave(usual)
    assert started(line, 1.0) == [(other, 4.0, True)]


def test_an_unused_model_expires() -> None:
    """A model leaves memory when its time is over, not while it is used, and never with a negative time."""
    caller = Caller()
    line = line_with(caller)
    started(line, 0)
    line.keep(0, 5)
    assert line.holds(100) is not None
    line.leave(caller)
    line.keep(100, 5)
    assert line.holds(104) is not None
    line.keep(104, -1)
    assert line.holds(10_000) is not None
    line.keep(10_000, 0)
    assert line.holds(10_000) is None


def test_more_slots_serve_more_and_fewer_let_finish() -> None:
    """A change of slots starts those who wait, or starts nobody until enough have left."""
    callers = [Caller() for _ in range(4)]
    line = line_with(*callers)
    assert len(started(line, 0)) == 1
    line.slots = 3
    assert len(started(line, 0)) == 2
    line.slots = 1
    line.leave(callers[0])
    assert started(line, 0) == []
