"""Frames and messages: whatever arrives is a message or a `WireError`, however it was split."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.engine.local import wire
from tokenmill.request import Message, Request, Sampling

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
REQUESTS = st.builds(
    Request,
    row=st.integers(0, 2**40),
    custom_id=TEXT,
    prompt=st.none() | TEXT,
    messages=st.lists(st.builds(Message, TEXT, TEXT), max_size=3).map(tuple),
    sampling=st.builds(Sampling, max_tokens=st.none() | st.integers(1, 99), stop=st.lists(TEXT, max_size=2).map(tuple)),
)
TO_WORKER = st.one_of(
    st.builds(wire.Hello, TEXT),
    st.builds(wire.Submit, st.integers(0, 2**63), REQUESTS, st.integers(0, 2**63 - 1)),
    st.builds(wire.Cancel, st.integers(0, 2**63)),
)


def split(data: bytes, chooser: random.Random) -> list[bytes]:
    """The bytes in pieces of any size."""
    cuts = sorted(chooser.randrange(len(data) + 1) for _ in range(chooser.randrange(8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(st.lists(TO_WORKER, max_size=5), st.randoms(use_true_random=False))
def test_messages_survive_any_split_of_the_stream(messages: list[wire.ToWorker], chooser: random.Random) -> None:
    """What was sent is what is received, wherever the bytes are cut on their way."""
    frames = wire.Frames()
    stream = b"".join(wire.encode(message) for message in messages)

    bodies = [body for piece in split(stream, chooser) for body in frames.feed(piece)]

    assert [wire.to_worker(body) for body in bodies] == messages
    frames.finish()


@given(st.builds(wire.Stepped, st.integers(0, 99), st.lists(st.builds(wire.Piece, st.integers(0, 99), TEXT, st.just(1)),
                                                            max_size=4).map(tuple)))  # fmt: skip
def test_a_step_survives_the_way(stepped: wire.Stepped) -> None:
    """All pieces of a step arrive in one message, as they were."""
    (body,) = wire.Frames().feed(wire.encode(stepped))

    assert wire.from_worker(body) == stepped


@given(st.lists(TO_WORKER, min_size=1, max_size=3), st.data())
def test_a_cut_stream_is_an_error(messages: list[wire.ToWorker], data: st.DataObject) -> None:
    """A stream that ends inside a frame is reported, never taken for the end of the conversation."""
    sizes = [len(wire.encode(message)) for message in messages]
    ends = {sum(sizes[:count]) for count in range(len(sizes) + 1)}
    kept = data.draw(st.integers(0, sum(sizes)).filter(lambda size: size not in ends))
    frames = wire.Frames()
    frames.feed(b"".join(wire.encode(message) for message in messages)[:kept])

    with pytest.raises(wire.WireError, match="into a frame"):
        frames.finish()


@given(st.binary(max_size=200))
def test_garbage_is_an_error(data: bytes) -> None:
    """Bytes that are no message end in a `WireError` or in a message, in nothing else."""
    frames = wire.Frames()
    with contextlib.suppress(wire.WireError):
        for body in frames.feed(data):
            assert isinstance(wire.to_worker(body), wire.ToWorker)
        frames.finish()


@given(TO_WORKER, st.data())
def test_a_damaged_message_is_an_error_or_another_message(message: wire.ToWorker, data: st.DataObject) -> None:
    """One changed byte can't raise anything but a `WireError`."""
    body = bytearray(wire.encode(message)[wire.HEADER :])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.to_worker(bytes(body)), wire.ToWorker)


def test_an_oversized_frame_is_refused_by_its_length_alone() -> None:
    """The limit holds before a single byte of the frame has come."""
    with pytest.raises(wire.WireError, match="4294967295 bytes"):
        wire.Frames().feed(b"\xff\xff\xff\xff")


def test_an_oversized_message_is_not_sent() -> None:
    """Who would send more than the other side takes is told so before sending."""
    request = Request(row=0, custom_id="a", prompt="x" * (wire.MAX_FRAME + 1))

    with pytest.raises(wire.WireError, match="the limit is"):
        wire.encode(wire.Submit(0, request, 0))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(row=0, custom_id="a", prompt="\ud800"), "isn't Unicode"),
        (Request(row=0, custom_id="a", prompt="a", sampling=Sampling(seed=2**70)), "64 bits"),
    ],
)
def test_what_has_no_encoding_is_an_error(request_: Request, words: str) -> None:
    """A lone surrogate or an endless number is named instead of crashing the sender."""
    with pytest.raises(wire.WireError, match=words):
        wire.encode(wire.Submit(0, request_, 0))


@pytest.mark.parametrize(
    "body",
    [
        b"\x82\xa4type\xa7stepped\xa6pieces\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xa5hello\xa1x" + b"\x91" * 100_000,
        b"\xdb\xff\xff\xff\xff",
        b"\x82\xa4type\xa5hello\xa5token\xa2\xff\xff",
    ],
    ids=["endless list", "deep nesting", "endless text", "not UTF-8"],
)
def test_hostile_bodies_are_errors(body: bytes) -> None:
    """Sizes that lie and nesting without end are refused without taking memory or the stack."""
    for decode in (wire.to_worker, wire.from_worker):
        with pytest.raises(wire.WireError):
            decode(body)


def test_a_message_for_the_other_side_is_refused() -> None:
    """A worker's message means nothing to a worker."""
    body = wire.encode(wire.Loaded())[wire.HEADER :]

    with pytest.raises(wire.WireError, match="loaded"):
        wire.to_worker(body)
