"""Runs written by hand, and random ones, as the report sees them."""

from __future__ import annotations

from hypothesis import strategies as st

from tokenmill.event import Attempt
from tokenmill.report.facts import DevicePace, NodeFacts, Pace, RunFacts, Session, Span

FOREVER = 1e6


def attempt(
    row: int,
    start: float,
    seconds: float,
    *,
    tokens: int = 100,
    node: int = 0,
    session: int = 0,
    outcome: str = "answered",
    lease: int = 1,
    prompt: int = 0,
    read: float = 0.0,
    width: float = 0.0,
    chunks: int | None = None,
) -> Attempt:
    """One attempt that is read for `read` seconds and then written evenly until `start + seconds`."""
    answered = outcome == "answered"
    pieces = (tokens if chunks is None else chunks) if answered else 0
    return Attempt(
        row=row,
        lease=lease,
        node=node,
        session=session,
        outcome=outcome,
        dispatched=start,
        finished=start + seconds,
        first_token=start + read if answered else None,
        prompt_tokens=prompt,
        output_tokens=tokens if answered else 0,
        itl_sum=seconds - read if pieces > 1 else 0.0,
        itl_max=(seconds - read) / (pieces - 1) if pieces > 1 else 0.0,
        chunks=pieces,
        width_mean=width if answered else 0.0,
        width_max=int(width) if answered else 0,
        kind="" if answered else "transient",
    )


def node(slots: int, *, load: float = 0.0, name: str = "a", device: str = "cpu", **more: object) -> NodeFacts:
    """A node that loads from 0 for `load` seconds and is up from then on."""
    loads = (Span(0, 0.0, load),) if load else ()
    known = {"model": "m", "digest": "d", "loads": loads, "up": (Span(0, load, FOREVER),), **more}
    return NodeFacts(name=name, slots=slots, device=device, **known)


def facts(rows: int, *nodes: NodeFacts, **more: object) -> RunFacts:
    """A run in one session whose rows were all there at the start."""
    known = {
        "sessions": (Session(0.0, FOREVER),),
        "width_asked": sum(one.slots for one in nodes),
        "answered": rows,
        **more,
    }
    return RunFacts(nodes=nodes, rows_total=rows, **known)


def stored(**pace: float) -> tuple[DevicePace, ...]:
    """A pace known from before of the device and model that `node` has."""
    return (DevicePace(host="localhost", device="cpu", digest="d", pace=Pace(**pace)),)


def waves(rows: int, slots: int, *, start: float = 0.0, seconds: float = 10.0, width: float = 0.0) -> list[Attempt]:
    """Rows of 100 tokens in waves of `slots`, each wave as long as `seconds`."""
    return [
        attempt(row, start + row // slots * seconds, seconds, width=width or float(min(slots, rows)))
        for row in range(rows)
    ]


_seconds = st.floats(0, 50, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def runs(draw: st.DrawFn) -> tuple[RunFacts, list[Attempt]]:
    """Any run at all: several nodes, devices and sessions, failures, overlaps, unknown first tokens and paces."""
    sessions = tuple(
        Session(start, start + draw(_seconds)) for start in draw(st.lists(_seconds, min_size=1, max_size=3))
    )
    nodes = tuple(
        NodeFacts(
            name=f"n{index}",
            model="m",
            digest=draw(st.sampled_from("de")),
            device=draw(st.sampled_from(["cpu", "gpu"])),
            slots=draw(st.integers(1, 4)),
            loads=tuple(draw(st.lists(_spans(len(sessions)), max_size=2))),
            up=tuple(draw(st.lists(_spans(len(sessions)), max_size=2))),
            cooling=tuple(draw(st.lists(_spans(len(sessions)), max_size=1))),
        )
        for index in range(draw(st.integers(1, 3)))
    )
    attempts = draw(st.lists(_attempts(len(nodes), len(sessions)), max_size=25))
    pace = Pace(
        prefill=draw(st.sampled_from([0.0, 5.0, 500.0])),
        decode=draw(st.sampled_from([0.0, 5.0, 500.0])),
        single_stream=draw(st.sampled_from([0.0, 0.01, 1.0])),
        width=draw(st.sampled_from([0.0, 8.0])),
    )
    known = (DevicePace(host="localhost", device="cpu", digest="d", pace=pace),)
    return (
        RunFacts(nodes=nodes, sessions=sessions, width_asked=4, rows_total=30, answered=20, stored=known),
        attempts,
    )


def _spans(sessions: int) -> st.SearchStrategy[Span]:
    return st.builds(
        lambda session, start, length: Span(session, start, start + length),
        st.integers(0, sessions - 1),
        _seconds,
        _seconds,
    )


@st.composite
def _attempts(draw: st.DrawFn, nodes: int, sessions: int) -> Attempt:
    sent, length = draw(_seconds), draw(_seconds)
    first = draw(st.none() | st.floats(0, 1))
    tokens = draw(st.integers(0, 60))
    return Attempt(
        row=draw(st.integers(0, 29)),
        lease=draw(st.integers(1, 3)),
        node=draw(st.integers(0, nodes - 1)),
        session=draw(st.integers(0, sessions - 1)),
        outcome=draw(st.sampled_from(["answered", "answered", "answered", "failed", "cancelled", "lost"])),
        dispatched=sent,
        finished=sent + length,
        first_token=None if first is None else sent + first * length,
        prompt_tokens=draw(st.integers(0, 200)),
        output_tokens=tokens,
        chunks=draw(st.sampled_from([0, 1, tokens])),
        itl_sum=length,
        itl_max=length / 2,
        width_mean=draw(st.sampled_from([0.0, 1.0, 3.5])),
        width_max=4,
    )
