"""Readers of both APIs: any split of the bytes gives the same answer, and a part of them gives none."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http.asking import ask
from engine.http.raw import DONE
from tokenmill.engine.http.ollama_stream import OllamaReader
from tokenmill.engine.http.openai_stream import OpenAIReader
from tokenmill.engine.http.reading import Reader
from tokenmill.errors import EngineError
from tokenmill.event import FAILURE_KINDS
from tokenmill.request import Completion, Usage

TEXTS = st.lists(st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()), min_size=1, max_size=6)


def openai_bytes(texts: list[str]) -> bytes:
    chunks: list[dict[str, object]] = [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    chunks += [{"delta": {"content": text}, "finish_reason": None} for text in texts]
    chunks.append({"delta": {}, "finish_reason": "stop"})
    events = [msgspec.json.encode({"id": "c1", "choices": [{"index": 0, **chunk}]}) for chunk in chunks]
    usage = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(texts)}}
    events.append(msgspec.json.encode(usage))
    return b"".join(b"data: " + event + b"\n\n" for event in events) + DONE


def ollama_bytes(texts: list[str]) -> bytes:
    lines: list[dict[str, object]] = [
        {"message": {"role": "assistant", "content": text}, "done": False} for text in texts
    ]
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": len(texts), "load_duration": 5}
    lines.append({"message": {"role": "assistant", "content": ""}, **end})
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


APIS = {"openai": (OpenAIReader, openai_bytes), "ollama": (OllamaReader, ollama_bytes)}
BOTH = pytest.mark.parametrize("api", APIS)


def read(reader: Reader, parts: list[bytes]) -> tuple[str, Completion]:
    texts: list[str] = []
    for part in parts:
        texts += reader.feed(part)
    texts += reader.close()
    return "".join(texts), reader.finish()


def outcome(reader: Reader, parts: list[bytes]) -> str:
    """`answered`, or the class of the failure."""
    try:
        read(reader, parts)
    except EngineError as error:
        return error.kind
    return "answered"


@BOTH
@given(texts=TEXTS, cuts=st.lists(st.integers(min_value=0), max_size=12))
def test_any_split_gives_the_same_answer(api: str, texts: list[str], cuts: list[int]) -> None:
    """An answer doesn't depend on how its bytes are split."""
    make, encode = APIS[api]
    data = encode(texts)
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]

    split = read(make(ask(), None), [data[start:end] for start, end in pairwise(bounds)])

    assert split == read(make(ask(), None), [data])
    assert split == ("".join(texts), Completion("stop", Usage(9, len(texts))))


@BOTH
@given(texts=TEXTS, share=st.floats(0, 1, exclude_max=True))
def test_a_part_is_no_answer(api: str, texts: list[str], share: float) -> None:
    """A stream that ends anywhere before its finish reason is no answer, and never an error of ours."""
    make, encode = APIS[api]
    data = encode(texts)
    end = data.index(b'"finish_reason":"stop"') if api == "openai" else data.index(b'"done":true')

    with pytest.raises(EngineError) as caught:
        read(make(ask(), None), [data[: int(end * share)]])

    assert caught.value.kind == "transient"


@BOTH
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_failure(api: str, data: bytes) -> None:
    """Bytes that are no answer fail with a known class, whatever they are."""
    make, _ = APIS[api]

    with pytest.raises(EngineError) as caught:
        read(make(ask(), None), [data, b"\n\n"])

    assert caught.value.kind in FAILURE_KINDS


@BOTH
@given(texts=TEXTS, place=st.integers(min_value=0), value=st.integers(0, 255))
def test_a_flipped_byte_is_no_crash(api: str, texts: list[str], place: int, value: int) -> None:
    """A byte changed anywhere gives an answer or a failure with a known class, and never another error."""
    make, encode = APIS[api]
    data = bytearray(encode(texts))
    data[place % len(data)] = value

    assert outcome(make(ask(), None), [bytes(data)]) in ("answered", *FAILURE_KINDS)


def events(*parts: dict[str, object]) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(part) + b"\n\n" for part in parts) + DONE


def said(content: object = None, finish: str | None = None, **more: object) -> dict[str, object]:
    return {"id": "1", "choices": [{"index": 0, "delta": {"content": content, **more}, "finish_reason": finish}]}


def test_both_names_of_reasoning() -> None:
    """Reasoning text under either name is kept out of the answer and flagged."""
    for name in ("reasoning_content", "reasoning"):
        text, end = read(OpenAIReader(ask(), None), [events(said(**{name: "hm"}), said("yes"), said(None, "stop"))])
        assert text == "yes"
        assert "reasoning" in end.flags
        assert end.usage.output_tokens == 2  # a piece each


def test_content_in_parts_is_joined() -> None:
    """Content that comes as typed parts is the text of its text parts."""
    parts = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []}, {"type": "text", "text": "b"}]

    assert read(OpenAIReader(ask(), None), [events(said(parts, "stop"))])[0] == "ab"


def test_a_refusal_is_filtered() -> None:
    """A model that refuses instead of answering is a named failure with its words."""
    with pytest.raises(EngineError, match="the model refused: I can't") as caught:
        read(OpenAIReader(ask(), None), [events(said(refusal="I can't"), said(None, "stop"))])

    assert caught.value.kind == "filtered"


def test_other_choices_are_not_this_answer() -> None:
    """Only the first choice is the answer."""
    other = {"id": "1", "choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}

    assert read(OpenAIReader(ask(), None), [events(said("yes"), other, said(None, "stop"))])[0] == "yes"


def test_ids_that_differ_are_flagged() -> None:
    """A stream whose parts carry several ids may be mixed from answers, and says so."""
    other = {**said(" b", "stop"), "id": "2"}

    assert "ids_differ" in read(OpenAIReader(ask(), None), [events(said("a"), other)])[1].flags


def test_text_after_the_end_fails() -> None:
    """Text after the finish reason is no part of a right answer."""
    with pytest.raises(EngineError, match="after its finish reason"):
        read(OpenAIReader(ask(), None), [events(said("a", "stop"), said("b"))])


@pytest.mark.parametrize("count", ["-1", "1e400", "1e18", "0.5", "null", "99999999999999999999999999"])
def test_impossible_counts_are_unknown(count: str) -> None:
    """Counts that can't be are treated as unsaid."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":%s,"completion_tokens":%s}}\n\n' % ((count.encode(),) * 2)
    stream = events(said("a", "stop")).removesuffix(DONE) + usage

    if outcome(OpenAIReader(ask(), None), [stream]) != "transient":  # a number beyond any format is no JSON for us
        _, end = read(OpenAIReader(ask(), None), [stream])
        assert set(end.flags) == {"prompt_tokens_estimated", "usage_estimated"}


def test_a_load_shows() -> None:
    """An Ollama answer tells whether the model was loaded for it; finding a loaded one doesn't count."""
    for nanoseconds, loaded in ((101_397_084, False), (2_000_000_000, True)):
        reader = OllamaReader(ask(), None)
        read(reader, [b'{"message":{"content":"a"},"done":true,"load_duration":%d}' % nanoseconds])
        assert reader.loaded is loaded
