"""What the server sends has every field of the documented transcripts, with the type it has there.

The fields are those of the examples in Ollama's `docs/api.md` (generate, chat, tags, show, ps) and of OpenAI's API
reference (chat completion, its chunks, completion, model, error).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testing.asking import MODEL, ask, ask_json, chat, events, native_lines
from tokenmill.testing import Behaviour, FaultServer, Status

PROMPT = {"model": MODEL, "prompt": "Why is the sky blue?"}
COUNTS = {
    "total_duration": int,
    "load_duration": int,
    "prompt_eval_count": int,
    "prompt_eval_duration": int,
    "eval_count": int,
    "eval_duration": int,
}
PART = {"model": str, "created_at": str, "done": bool}
GENERATED = {**PART, "response": str}
CHATTED = {**PART, "message": {"role": str, "content": str}}
END = {**COUNTS, "done_reason": str}
DETAILS = {"format": str, "family": str, "families": list, "parameter_size": str, "quantization_level": str}
LISTED = {"name": str, "size": int, "digest": str, "details": DETAILS}
SHOWN = {
    "modelfile": str,
    "parameters": str,
    "template": str,
    "details": DETAILS,
    "model_info": {
        "general.architecture": str,
        "general.file_type": int,
        "general.parameter_count": int,
        "general.quantization_version": int,
        "llama.block_count": int,
        "llama.context_length": int,
        "llama.embedding_length": int,
    },
}
NOTHING = type(None)
USAGE = {"prompt_tokens": int, "completion_tokens": int, "total_tokens": int}
FRAME = {"id": str, "object": str, "created": int, "model": str, "choices": list}
CHOICE = {"index": int, "logprobs": NOTHING, "finish_reason": str}
MESSAGE = {"role": str, "content": str, "refusal": NOTHING}
ERROR = {"message": str, "type": str, "param": NOTHING}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with FaultServer(Behaviour(chunks=3, fault=(Status(match="fail", status=500),))) as server:
        yield server.url


def lacks(value: Any, shape: dict[str, Any], inside: str = "") -> list[str]:
    """Fields of the shape that the value doesn't have with that type."""
    found = []
    for name, kind in shape.items():
        if isinstance(kind, dict):
            found += lacks(value.get(name, {}), kind, f"{inside}{name}.")
        elif type(value.get(name, ...)) is not kind:
            found.append(f"{inside}{name}")
    return found


def test_native_transcripts(url: str) -> None:
    """Generate and chat, streamed, whole, loading and unloading."""
    *parts, last = native_lines(ask(url, "/api/generate", PROMPT)[2])
    assert [lacks(part, GENERATED) for part in parts] == [[]] * 3
    assert lacks(last, {**GENERATED, **END, "context": list}) == []
    assert (
        lacks(ask_json(url, "/api/generate", {**PROMPT, "stream": False}), {**GENERATED, **END, "context": list}) == []
    )
    *parts, last = native_lines(ask(url, "/api/chat", chat("Why?"))[2])
    assert [lacks(part, CHATTED) for part in parts] == [[]] * 3
    assert lacks(last, {**CHATTED, **END}) == []
    assert lacks(ask_json(url, "/api/chat", chat("Why?", stream=False)), {**CHATTED, **END}) == []
    loaded = ask_json(url, "/api/chat", {"model": MODEL, "messages": []})
    unloaded = ask_json(url, "/api/generate", {"model": MODEL, "keep_alive": 0})
    assert lacks(loaded, {**CHATTED, "done_reason": str}) == lacks(unloaded, {**GENERATED, "done_reason": str}) == []
    assert (loaded["done_reason"], unloaded["done_reason"]) == ("load", "unload")


def test_native_listings(url: str) -> None:
    """Tags, show and ps."""
    ask(url, "/api/generate", PROMPT)
    assert lacks(ask_json(url, "/api/tags")["models"][0], {**LISTED, "modified_at": str}) == []
    assert (
        lacks(ask_json(url, "/api/ps")["models"][0], {**LISTED, "model": str, "expires_at": str, "size_vram": int})
        == []
    )
    assert lacks(ask_json(url, "/api/show", {"model": MODEL}), SHOWN) == []
    assert lacks(ask_json(url, "/api/generate", {**PROMPT, "model": "none"}), {"error": str}) == []


def test_openai_transcripts(url: str) -> None:
    """Chat completions whole and in chunks, completions, models, errors."""
    whole = ask_json(url, "/v1/chat/completions", chat("Why?"))
    assert lacks(whole, {**FRAME, "usage": USAGE, "system_fingerprint": str}) == []
    assert lacks(whole["choices"][0], {**CHOICE, "message": MESSAGE}) == []
    body = chat("Why?", stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = events(ask(url, "/v1/chat/completions", body)[2])
    assert [lacks(chunk, {**FRAME, "usage": NOTHING}) for chunk in chunks] == [[]] * 5
    assert lacks(chunks[0]["choices"][0], {"delta": {"role": str, "content": str}, "finish_reason": NOTHING}) == []
    assert lacks(chunks[-1]["choices"][0], {"delta": dict, "finish_reason": str}) == []
    assert lacks(usage, {**FRAME, "usage": USAGE}) == []
    assert {chunk["id"] for chunk in chunks} == {usage["id"]}
    assert done == "[DONE]"
    plain = ask_json(url, "/v1/completions", PROMPT)
    assert lacks(plain, {**FRAME, "usage": USAGE}) == lacks(plain["choices"][0], {**CHOICE, "text": str}) == []
    assert (
        lacks(ask_json(url, "/v1/models")["data"][0], {"id": str, "object": str, "created": int, "owned_by": str}) == []
    )
    assert lacks(ask_json(url, "/v1/chat/completions", chat("fail")), {"error": ERROR}) == []
