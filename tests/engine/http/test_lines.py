"""Streams are cut into the same events however their bytes arrive, in time linear in their length."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.engine.http.lines import NdjsonDecoder, SseDecoder
from tokenmill.errors import EngineError

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [b"", b":", b": keep-alive", b"data: a", b"data:b", b"data:  c", b"data", b"data: {}", b"event: x", b"id: 1", b"x"]
)
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=30).map(lambda parts: b"".join(line + end for line, end in parts))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def fed(decoder: SseDecoder | NdjsonDecoder, parts: list[bytes]) -> list[bytes]:
    return [event for part in parts for event in decoder.feed(part)] + decoder.close()


@given(STREAMS, st.lists(st.integers(min_value=0), max_size=20))
def test_any_split_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    """Server-sent events don't depend on how their bytes are split."""
    whole = fed(SseDecoder(), [data])

    assert fed(SseDecoder(), pieces(data, cuts)) == whole
    assert fed(SseDecoder(), [data[index : index + 1] for index in range(len(data))]) == whole


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=20))
def test_any_bytes_split_anyhow(data: bytes, cuts: list[int]) -> None:
    """Bytes that are no stream at all are cut the same way by both decoders, whatever the split."""
    for make in (SseDecoder, NdjsonDecoder):
        assert fed(make(), pieces(data, cuts)) == fed(make(), [data])


def test_the_kinds_of_lines() -> None:
    """Comments, names and ids are no data, several data lines are one event, and one blank after the colon goes."""
    stream = b"\xef\xbb\xbf: hi\n\nevent: x\nid: 7\ndata: one\ndata:two\ndata\n\ndata:  three\r\n\r\ndata: lost\n"

    assert fed(SseDecoder(), [stream]) == [b"one\ntwo\n", b" three"]


def test_the_last_line_of_ndjson_may_lack_its_end() -> None:
    """A JSON text a line; blank lines are skipped and the last needs no line end."""
    assert fed(NdjsonDecoder(), [b'{"a":1}\r\n\n {"b"', b":2}"]) == [b'{"a":1}', b' {"b":2}']


@pytest.mark.parametrize("make", [SseDecoder, NdjsonDecoder])
def test_a_line_has_a_largest_size(make: type[SseDecoder] | type[NdjsonDecoder]) -> None:
    """A line longer than the cap fails as soon as it is, whether it comes whole or in crumbs."""
    with pytest.raises(EngineError, match="more than 100 bytes"):
        fed(make(100), [b"data: " + b"x" * 200])
    with pytest.raises(EngineError, match="more than 100 bytes"):
        fed(make(100), [b"x"] * 101)
    with pytest.raises(EngineError, match="more than 100 bytes"):
        fed(make(100), [b"x" * 60, b"x" * 60 + b"\n"])


def test_an_event_of_many_lines_has_a_largest_size() -> None:
    """Data lines that never end their event are refused once they are too many."""
    with pytest.raises(EngineError, match="one event of more than 1000 bytes"):
        fed(SseDecoder(1000), [b"data: x\n"] * 1000)


def test_crumbs_cost_no_more_than_their_number() -> None:
    """A million single bytes of one line are kept as they came and joined once."""
    decoder = NdjsonDecoder(1 << 21)

    for _ in range(1_000_000):
        assert decoder.feed(b"x") == []
    assert decoder.feed(b"\n") == [b"x" * 1_000_000]
