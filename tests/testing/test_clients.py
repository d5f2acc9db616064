"""The clients people use accept the server as genuine: their types parse what it sends, and it fits those types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ollama
import openai
import pytest
from openai.types import Completion, CompletionUsage, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from testing.asking import MODEL, ask, ask_json, chat, events, native_lines
from tokenmill.testing import Behaviour, FaultServer, Status

PROMPT = "Give me 3 sentences about the University of Chicago"
MESSAGES: list[Any] = [{"role": "user", "content": PROMPT}]
KEY = "sk-test"


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    faults = (Status(match="busy", status=429, retry_after="0"), Status(match="broken", status=500))
    with FaultServer(Behaviour(chunks=8, key=KEY, context=100, default_context=100, fault=faults)) as server:
        yield server


@pytest.fixture
def open_ai(server: FaultServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def native(server: FaultServer) -> Iterator[ollama.Client]:
    with ollama.Client(
        host=server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=20, trust_env=False
    ) as client:
        yield client


def test_openai_chat(open_ai: openai.OpenAI) -> None:
    """A whole chat completion has text, reason and usage."""
    reply = open_ai.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert reply.usage is not None
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens, reply.usage.prompt_tokens) == ("stop", 33, 9)
    assert (reply.choices[0].message.content or "").startswith("1. The")


def test_openai_chat_streamed(open_ai: openai.OpenAI) -> None:
    """A streamed one adds up to the same, with the usage last."""
    whole = open_ai.chat.completions.create(model=MODEL, messages=MESSAGES).choices[0].message.content
    stream = open_ai.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 42


def test_openai_completions_and_models(open_ai: openai.OpenAI) -> None:
    """Plain completions, streamed or not, and the list of models."""
    reply = open_ai.completions.create(model=MODEL, prompt=PROMPT)
    streamed = "".join(
        chunk.choices[0].text for chunk in open_ai.completions.create(model=MODEL, prompt=PROMPT, stream=True)
    )
    assert reply.choices[0].text == streamed
    usage: Any = {"include_usage": True}
    *_, last = open_ai.completions.create(model=MODEL, prompt=PROMPT, stream=True, stream_options=usage)
    assert reply.usage is not None
    assert last.usage == reply.usage
    assert [model.id for model in open_ai.models.list()] == ["llama3.2:latest"]
    assert open_ai.models.retrieve("llama3.2").object == "model"


def test_openai_errors(open_ai: openai.OpenAI, server: FaultServer) -> None:
    """Each error arrives as the client's own exception, with the code that programs look at."""
    with pytest.raises(openai.BadRequestError) as long:
        open_ai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 200}])
    assert (long.value.code, long.value.type) == ("context_length_exceeded", "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as missing:
        open_ai.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.RateLimitError):
        open_ai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "busy"}])
    with pytest.raises(openai.InternalServerError):
        open_ai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "broken"}])
    wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError) as refused:
        wrong.models.list()
    assert refused.value.code == "invalid_api_key"


def test_ollama_chat(native: ollama.Client) -> None:
    """A whole chat has text, reason, counts and durations."""
    reply = native.chat(model=MODEL, messages=MESSAGES)
    assert (reply.done_reason, reply.eval_count, reply.prompt_eval_count) == ("stop", 33, 9)
    assert (reply.message.content or "").startswith("1. The")
    assert reply.total_duration


def test_ollama_streams(native: ollama.Client) -> None:
    """Streams of chat and generate add up to the same text."""
    chats = list(native.chat(model=MODEL, messages=MESSAGES, stream=True))
    texts = list(native.generate(model=MODEL, prompt=PROMPT, stream=True))
    assert "".join(part.message.content or "" for part in chats) == "".join(part.response for part in texts)
    assert (chats[-1].done, texts[-1].done_reason) == (True, "stop")


def test_ollama_listings(native: ollama.Client) -> None:
    """Models, what is loaded, and what a model can do."""
    (model,) = native.list().models
    (loaded,) = native.ps().models
    shown = native.show(MODEL)
    assert (model.model, loaded.digest, loaded.context_length) == ("llama3.2:latest", model.digest, 100)
    assert model.details is not None
    assert (model.details.family, shown.capabilities) == ("llama", ["completion"])
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 100


def test_ollama_errors(native: ollama.Client) -> None:
    """Errors carry the status and the server's words."""
    with pytest.raises(ollama.ResponseError) as missing:
        native.chat(model="gpt-5", messages=MESSAGES)
    assert (missing.value.status_code, missing.value.error) == (404, "model 'gpt-5' not found")
    with pytest.raises(ollama.ResponseError) as busy:
        native.chat(model=MODEL, messages=[{"role": "user", "content": "busy"}])
    assert busy.value.status_code == 429


def surplus(kind: type[BaseModel], value: dict[str, Any]) -> set[str]:
    """Fields of a value that the client's type doesn't know; what it can't parse raises."""
    known = kind.model_validate(value, strict=False)
    return set(value) - set(type(known).model_fields)


def test_bodies_fit_the_clients_types() -> None:
    """Every object either API sends validates against the client's types, and holds no field they don't know."""
    with FaultServer(Behaviour(chunks=3, reasoning=2)) as server:
        url, usage = server.url, {"include_usage": True}
        chunks = events(ask(url, "/v1/chat/completions", chat(PROMPT, stream=True, stream_options=usage))[2])[:-1]
        assert [surplus(ChatCompletionChunk, chunk) for chunk in chunks] == [set()] * len(chunks)
        whole = ask_json(url, "/v1/chat/completions", chat(PROMPT))
        assert surplus(ChatCompletion, whole) == set()
        assert surplus(CompletionUsage, whole["usage"]) == set()
        plain = ask_json(url, "/v1/completions", {"model": MODEL, "prompt": PROMPT})
        assert surplus(Completion, plain) == set()
        assert surplus(Model, ask_json(url, "/v1/models")["data"][0]) == set()
        for path, kind in (("/api/chat", ollama.ChatResponse), ("/api/generate", ollama.GenerateResponse)):
            body = chat(PROMPT) if path == "/api/chat" else {"model": MODEL, "prompt": PROMPT}
            for line in native_lines(ask(url, path, body)[2]):
                assert surplus(kind, line) == set()
        tags, running = ask_json(url, "/api/tags"), ask_json(url, "/api/ps")
        assert surplus(ollama.ListResponse.Model, tags["models"][0]) - {"name"} == set()
        assert surplus(ollama.ProcessResponse.Model, running["models"][0]) == set()
