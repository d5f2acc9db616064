"""Shared by the tests of strategies: telling a story of events, and workloads to tell it about."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from tokenmill.event import (
    FINAL_KINDS,
    RETRYABLE_KINDS,
    Action,
    Answer,
    Arrived,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    NodeUp,
    Resized,
    group_of,
)
from tokenmill.schedule import Strategy
from tokenmill.schedule.simulate import Faults, Mishap, Outage, SimNode, SimRow

#: Sentences asked for by the 30 prompts of the sentences workload, in file order.
SENTENCES = [30, 29, 10, 7, 26, 25, 6, 3, 22, 21, 4, 8, 18, 23, 17, 2, 16, 20, 15, 1, 14, 24, 13, 5, 12, 27, 11, 9]
SENTENCES += [19, 28]


def play(strategy: Strategy, *events: Event) -> list[list[Action]]:
    """The actions that each event caused."""
    return [strategy.on_event(event) for event in events]


def arrive(*rows: int, length: float = 1.0, group: int = 0, time: float = 0.0) -> list[Event]:
    return [Arrived(time, row, length, group) for row in rows]


def finished(row: int, node: int = 0, *, lease: int = 1, time: float = 1.0, tokens: int = 1) -> Finished:
    answer = Answer(text="", finish_reason="stop", prompt_tokens=1, output_tokens=tokens)
    return Finished(time, row, node, lease, answer)


def failed(row: int, node: int = 0, kind: str = "transient", *, lease: int = 1, time: float = 1.0) -> Failed:
    return Failed(time, row, node, lease, kind, "told so")


def cancelled(row: int, node: int = 0, *, lease: int = 1, time: float = 1.0) -> Cancelled:
    return Cancelled(time, row, node, lease)


def up(node: int = 0, slots: int = 1, look_ahead: int = 0, *, time: float = 0.0) -> NodeUp:
    return NodeUp(time, node, slots, look_ahead)


def resized(node: int = 0, slots: int = 1, look_ahead: int = 0, *, time: float = 1.0) -> Resized:
    return Resized(time, node, slots, look_ahead)


def sent(actions: Sequence[Action]) -> list[tuple[int, int]]:
    """(row, node) of each dispatch."""
    return [(action.row, action.node) for action in actions if isinstance(action, Dispatch)]


def numbered(lengths: Sequence[int]) -> list[SimRow]:
    return [SimRow(row=row, tokens=tokens) for row, tokens in enumerate(lengths)]


moments = st.floats(0, 60, allow_nan=False).map(lambda moment: round(moment, 1))


@st.composite
def workloads(draw: st.DrawFn) -> list[SimRow]:
    """Rows that arrive at any time, with predictions that may be far off."""
    count = draw(st.integers(1, 25))
    return [
        SimRow(
            row=row,
            tokens=draw(st.integers(1, 40)),
            length=draw(st.none() | st.floats(0.5, 400)),
            group=group_of(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
            arrives=draw(st.just(0.0) | moments),
        )
        for row in range(count)
    ]


@st.composite
def fleets(draw: st.DrawFn) -> list[SimNode]:
    """Some nodes; only the first is sure to come back after a crash."""
    first = draw(_nodes(st.floats(0.1, 30)))
    return [first, *draw(st.lists(_nodes(st.none() | st.floats(0.1, 300)), max_size=3))]


def _nodes(restart: st.SearchStrategy[float | None]) -> st.SearchStrategy[SimNode]:
    return st.builds(
        SimNode,
        slots=st.integers(1, 4),
        look_ahead=st.integers(0, 3),
        speed=st.sampled_from([0.5, 1.0, 8.0]),
        overhead=st.sampled_from([0.0, 0.25]),
        restart=restart,
    )


@st.composite
def scripts(draw: st.DrawFn, rows: Sequence[SimRow], nodes: Sequence[SimNode]) -> Faults:
    """Any mix of outages, failed attempts, late answers and poison; the first node isn't lost for ever."""
    outages = []
    for _ in range(draw(st.integers(0, 4))):
        node = draw(st.integers(0, len(nodes) - 1))
        down = draw(moments)
        back = draw(st.floats(0.1, 200)) if node == 0 else draw(st.none() | st.floats(0.1, 200))
        outages.append(Outage(node=node, down=down, up=None if back is None else down + back))
    number = st.integers(0, len(rows) - 1)
    mishap = st.builds(
        Mishap,
        row=number,
        kind=st.sampled_from((*RETRYABLE_KINDS, *FINAL_KINDS, "unreachable", "busy")),
        lease=st.integers(1, 4),
        part=st.sampled_from([0.0, 0.5, 1.0]),
        late=st.none() | st.floats(0.0, 20.0),
    )
    return Faults(
        outages=outages,
        mishaps=draw(st.lists(mishap, max_size=8, unique_by=lambda one: (one.row, one.lease))),
        poison=frozenset(draw(st.sets(number, max_size=2))),
    )
