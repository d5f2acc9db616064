"""Both APIs in their calm state, over real sockets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from testing.asking import MODEL, ask, ask_json, chat, event_text, events, native_lines, native_text
from tokenmill.testing import Behaviour, FaultServer

PROMPT = "Give me 3 sentences about the University of Chicago"
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    two = ("llama3.2:latest", "qwen3:4b")
    with FaultServer(Behaviour(chunks=8, models=two, context=200, default_context=100)) as server:
        yield server


def text_of(url: str, path: str, body: dict[str, Any]) -> str:
    reply = ask_json(url, path, body)
    if path.startswith("/api"):
        return str(reply.get("response", reply.get("message", {}).get("content")))
    choice = reply["choices"][0]
    return str(choice.get("text", choice.get("message", {}).get("content")))


def test_all_doors_give_the_same_answer(server: FaultServer) -> None:
    """Chat or not, streamed or not, by either API: one prompt has one answer."""
    native = native_text(ask(server.url, "/api/chat", chat(PROMPT))[2])
    streamed = event_text(ask(server.url, "/v1/chat/completions", chat(PROMPT, stream=True))[2])
    plain = {"model": MODEL, "prompt": PROMPT, "stream": False}
    whole = [text_of(server.url, path, plain) for path in ("/api/generate", "/v1/completions")]
    chats = [text_of(server.url, path, chat(PROMPT, stream=False)) for path in ("/api/chat", "/v1/chat/completions")]
    assert {native, streamed, *whole, *chats} == {native}
    assert native.startswith("1. The ")


def test_a_native_stream_is_lines_and_then_counts(server: FaultServer) -> None:
    """Pieces of text, then one object with the reason, nanoseconds and token counts."""
    status, headers, body = ask(server.url, "/api/chat", chat(PROMPT))
    *pieces, last = native_lines(body)
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert [(piece["done"], piece["message"]["role"]) for piece in pieces] == [(False, "assistant")] * 8
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (9, 33)
    assert all(isinstance(last[name], int) and last[name] > 0 for name in DURATIONS)


def test_an_event_stream_has_role_text_reason_usage_and_mark(server: FaultServer) -> None:
    """In this order, with the usage alone in a chunk without choices."""
    body = chat(PROMPT, stream=True, stream_options={"include_usage": True})
    status, headers, got = ask(server.url, "/v1/chat/completions", body)
    first, *pieces, reason, usage, mark = events(got)
    assert (status, headers["content-type"], mark) == (200, "text/event-stream", "[DONE]")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(pieces) == 8
    assert {piece["choices"][0]["finish_reason"] for piece in pieces} == {None}
    assert reason["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"], usage["usage"]["total_tokens"]) == ([], 33, 42)


def test_usage_comes_only_if_asked_for(server: FaultServer) -> None:
    """Without `include_usage` no chunk of a stream speaks of usage."""
    got = ask(server.url, "/v1/chat/completions", chat(PROMPT, stream=True))[2]
    assert b"usage" not in got


def test_limits_and_stop_strings_are_kept(server: FaultServer) -> None:
    """max_tokens, num_predict and stop end the answer, each with its reason."""
    native = ask_json(server.url, "/api/chat", chat(PROMPT, stream=False, options={"num_predict": 3}))
    other = ask_json(server.url, "/v1/chat/completions", chat(PROMPT, max_completion_tokens=3))
    stopped = ask_json(server.url, "/v1/chat/completions", chat(PROMPT, stop="2."))
    assert (native["done_reason"], native["eval_count"]) == ("length", 3)
    assert (other["choices"][0]["finish_reason"], other["usage"]["completion_tokens"]) == ("length", 3)
    assert (stopped["choices"][0]["finish_reason"], stopped["usage"]["completion_tokens"]) == ("stop", 11)


def test_a_long_prompt_is_cut_silently_unless_forbidden(server: FaultServer) -> None:
    """The native API keeps half the context and two words from the end, and says 200; `truncate: false` refuses."""
    long = " ".join(f"word{number}" for number in range(150))
    cut = ask_json(server.url, "/api/chat", chat(long, stream=False))
    assert cut["prompt_eval_count"] == 52
    kept = " ".join(long.split()[-52:])
    assert (
        cut["message"]["content"] == ask_json(server.url, "/api/chat", chat(kept, stream=False))["message"]["content"]
    )
    status, _, body = ask(server.url, "/api/chat", chat(long, truncate=False))
    assert (status, json.loads(body)) == (400, {"error": "the input length exceeds the context length"})
    wide = ask_json(server.url, "/api/chat", chat(long, stream=False, options={"num_ctx": 199}))
    assert wide["prompt_eval_count"] == 150


def test_without_shift_the_context_ends_the_answer(server: FaultServer) -> None:
    """`shift: false` ends at the context with `length`; else the native API forgets the front and goes on."""
    many = "Give me 20 sentences about nothing"
    held = ask_json(server.url, "/api/chat", chat(many, stream=False, shift=False))
    shifted = ask_json(server.url, "/api/chat", chat(many, stream=False))
    assert (held["done_reason"], held["prompt_eval_count"] + held["eval_count"]) == ("length", 100)
    assert (shifted["done_reason"], shifted["eval_count"]) == ("stop", 220)


@pytest.mark.parametrize(
    ("spelling", "sign"),
    [
        ("openai", '"context_length_exceeded"'),
        ("llama.cpp", '"exceed_context_size_error"'),
        ("vllm", '"BadRequestError"'),
    ],
)
def test_an_overflow_has_three_spellings(server: FaultServer, spelling: str, sign: str) -> None:
    """A prompt beyond the context is refused with 400 in the words of the server that is played."""
    server.behave(overflow=spelling)
    status, _, body = ask(server.url, "/v1/chat/completions", chat("word " * 300))
    server.behave(overflow="openai")
    assert status == 400
    assert sign in body.decode()
    assert "maximum context length" in body.decode() or "available context size" in body.decode()


def test_ollamas_v1_cuts_in_silence(server: FaultServer) -> None:
    """Told to be silent, `/v1` cuts a long prompt to half the default context, as Ollama's own does."""
    server.behave(overflow="silent")
    reply = ask_json(server.url, "/v1/chat/completions", chat("word " * 150))
    server.behave(overflow="openai")
    assert reply["usage"]["prompt_tokens"] == 52


def test_a_head_has_no_body(server: FaultServer) -> None:
    """HEAD is answered like GET, without the body."""
    with closing(http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)) as connection:
        for _ in range(2):
            connection.request("HEAD", "/")
            reply = connection.getresponse()
            assert (reply.status, reply.read(), reply.getheader("content-length")) == (200, b"", "17")


def test_what_there_is_can_be_listed(server: FaultServer) -> None:
    """Version, models with digests, what is loaded, and what a model can do."""
    assert ask_json(server.url, "/api/version") == {"version": "0.12.6"}
    tags = ask_json(server.url, "/api/tags")["models"]
    assert [model["name"] for model in tags] == ["llama3.2:latest", "qwen3:4b"]
    assert len({model["digest"] for model in tags}) == 2
    (running,) = ask_json(server.url, "/api/ps")["models"]
    assert (running["size_vram"], running["digest"]) == (running["size"], tags[0]["digest"])
    assert ask_json(server.url, "/api/ps")["models"] == [running]
    shown = ask_json(server.url, "/api/show", {"model": MODEL})
    assert (shown["capabilities"], shown["model_info"]["llama.context_length"]) == (["completion"], 200)
    listed = ask_json(server.url, "/v1/models")
    assert [(model["id"], model["object"]) for model in listed["data"]] == [
        ("llama3.2:latest", "model"),
        ("qwen3:4b", "model"),
    ]
    assert ask_json(server.url, "/v1/models/qwen3:4b")["id"] == "qwen3:4b"
    assert ask(server.url, "/")[2] == b"Ollama is running"


def test_what_cannot_be_done_is_refused_in_the_words_of_each_api(server: FaultServer) -> None:
    """A missing model, an unreadable body, a path or method nobody knows."""
    unknown = {**chat(PROMPT), "model": "gpt-5"}
    assert ask(server.url, "/api/chat", unknown)[::2] == (404, b'{"error":"model \'gpt-5\' not found"}')
    status, _, body = ask(server.url, "/v1/chat/completions", unknown)
    assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")
    assert ask(server.url, "/v1/chat/completions", [1])[0] == 400
    assert ask(server.url, "/v1/chat/completions", {"model": MODEL})[0] == 400
    assert ask(server.url, "/api/chat", chat(PROMPT, tools=[{}]))[0] == 400
    assert ask(server.url, "/api/chat", chat(PROMPT, keep_alive="soon"))[0] == 400
    assert ask(server.url, "/api/nothing")[0] == 404
    assert ask(server.url, "/api/chat")[0] == 405


def test_reasoning_has_its_own_field() -> None:
    """A model that reasons says so apart from its answer, on both APIs."""
    with FaultServer(Behaviour(reasoning=3, chunks=2)) as server:
        native = ask_json(server.url, "/api/chat", chat(PROMPT, stream=False))
        whole = ask_json(server.url, "/v1/chat/completions", chat(PROMPT))
        streamed = events(ask(server.url, "/v1/chat/completions", chat(PROMPT, stream=True))[2])
    message = whole["choices"][0]["message"]
    assert (native["message"]["thinking"], message["reasoning_content"]) == ("so so so", "so so so")
    assert message["content"].startswith("1. ")
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    thoughts = [event["choices"][0]["delta"].get("reasoning_content", "") for event in streamed[1:-1]]
    assert "".join(thoughts) == "so so so"


def test_one_api_can_be_left_out() -> None:
    """A server without the native API knows none of its paths."""
    with FaultServer(Behaviour(apis=("openai",))) as server:
        assert [ask(server.url, path)[0] for path in ("/api/version", "/api/tags", "/", "/v1/models")] == [
            404,
            404,
            404,
            200,
        ]
        assert ask(server.url, "/api/chat", chat(PROMPT))[0] == 404
