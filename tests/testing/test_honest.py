"""Honest mode: a true model stands behind the HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testing.asking import ask, ask_json, events, native_lines, send, until
from tokenmill.testing import Behaviour, Empty, FaultServer, Reset

PROMPT = "Give me 2 sentences about the University of Chicago"


def body(prompt: str, **fields: object) -> dict[str, object]:
    return {"model": "demo", "messages": [{"role": "user", "content": prompt}], **fields}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    faults = (Empty(match="nothing"), Reset(match="reset"))
    with FaultServer(Behaviour(honest="local:demo", models=("demo",), slots=2, fault=faults)) as server:
        yield server


def test_the_model_answers_by_both_doors(server: FaultServer) -> None:
    """Greedy answers are the model's own, equal on both APIs and streamed or not, with its token counts."""
    greedy = {"temperature": 0}
    lines = native_lines(ask(server.url, "/api/chat", body(PROMPT, options=greedy))[2])
    streamed = "".join(line["message"]["content"] for line in lines)
    native = ask_json(server.url, "/api/chat", body(PROMPT, options=greedy, stream=False))
    other = ask_json(server.url, "/v1/chat/completions", body(PROMPT, **greedy))
    assert streamed == native["message"]["content"] == other["choices"][0]["message"]["content"]
    assert "Chicago" in streamed
    assert native["eval_count"] == other["usage"]["completion_tokens"] > len(streamed.split()) - 3
    assert native["prompt_eval_count"] == other["usage"]["prompt_tokens"] > len(PROMPT.split())
    assert len(lines) > 10


def test_its_digest_and_context_are_those_of_the_model(server: FaultServer) -> None:
    """The listings show the weights' digest and the context the engine has."""
    (model,) = ask_json(server.url, "/api/tags")["models"]
    (loaded,) = ask_json(server.url, "/api/ps")["models"]
    shown = ask_json(server.url, "/api/show", {"model": "demo"})
    assert model["digest"] == loaded["digest"]
    assert loaded["context_length"] == shown["model_info"]["llama.context_length"]
    status, _, said = ask(server.url, "/v1/chat/completions", body("word " * 5000))
    assert (status, b"context_length_exceeded" in said) == (400, True)


def test_a_fault_is_done_to_a_true_answer(server: FaultServer) -> None:
    """Faults strike answers of the model as they strike those of the rule."""
    assert ask_json(server.url, "/v1/chat/completions", body("nothing"))["choices"][0]["message"]["content"] == ""
    with pytest.raises(ConnectionResetError):
        ask(server.url, "/api/chat", body("reset"))


def test_leaving_early_stops_the_model(server: FaultServer) -> None:
    """A client that leaves is counted, and its slot serves the next."""
    before = server.state().cancelled
    for _ in range(3):
        with send(server.url, "/api/chat", body("Give me 30 sentences about the University of Chicago")) as sock:
            assert sock.recv(100)
    until(server, lambda state: state.cancelled == before + 3)
    assert server.state().running == 0
    got = events(ask(server.url, "/v1/chat/completions", body(PROMPT, stream=True))[2])
    assert got[-1] == "[DONE]"
