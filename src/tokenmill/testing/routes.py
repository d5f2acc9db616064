"""Which path is answered by what, apart from requests for text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tokenmill.testing import ollama_api, openai_api
from tokenmill.testing.behaviour import Behaviour
from tokenmill.testing.connection import Heard
from tokenmill.testing.line import Loaded
from tokenmill.testing.voice import Reply, Voice, reply_bytes, reply_json

#: Path of a request for text or vectors, its API, and whether it is a chat.
TEXTS = {
    "/api/chat": ("ollama", True),
    "/api/generate": ("ollama", False),
    "/v1/chat/completions": ("openai", True),
    "/v1/completions": ("openai", False),
    "/api/embed": ("ollama", False),
    "/v1/embeddings": ("openai", False),
}
#: Those of them that ask for vectors of texts.
EMBEDDINGS = ("/api/embed", "/v1/embeddings")
LISTINGS = ("/", "/api/version", "/api/tags", "/api/ps", "/v1/models")


def api_of(path: str) -> str | None:
    """The API a path belongs to; None for the root, which any server has."""
    return "ollama" if path.startswith("/api/") else "openai" if path.startswith("/v1/") else None


def voice_of_path(path: str) -> Voice:
    """The words of the API of a path, for faults of requests that ask for no text."""
    if api_of(path) == "ollama":
        return ollama_api.NativeVoice("", chat=True)
    return openai_api.OpenAIVoice("", chat=True, include_usage=False)


def is_known(behaviour: Behaviour, model: str) -> bool:
    return ollama_api.tagged(model) in {ollama_api.tagged(name) for name in behaviour.models}


def not_found() -> Reply:
    return reply_bytes(b"404 page not found", 404, "text/plain")


def wrong_method() -> Reply:
    return reply_bytes(b"405 method not allowed", 405, "text/plain")


def error(path: str, status: int, message: str, code: str | None = None) -> Reply:
    """An error in the words of the API of the path."""
    said: Any = {"error": message} if api_of(path) == "ollama" else openai_api.error_object(status, message, code)
    return reply_json(said, status)


def unknown_model(path: str, model: str) -> Reply:
    if api_of(path) == "ollama":
        return error(path, 404, f"model '{model}' not found")
    return error(path, 404, f"The model `{model}` does not exist", "model_not_found")


def listing(behaviour: Behaviour, heard: Heard, held: Callable[[], tuple[Loaded | None, float, float]]) -> Reply:
    """The reply to anything that asks for no text."""
    path = heard.path
    if api_of(path) not in (None, *behaviour.apis):
        return not_found()
    if path == "/api/show":
        return show(behaviour, heard) if heard.method == "POST" else wrong_method()
    if path not in LISTINGS and not path.startswith("/v1/models/"):
        return not_found()
    if heard.method not in ("GET", "HEAD"):
        return wrong_method()
    if path == "/":
        running = "ollama" in behaviour.apis
        return reply_bytes(b"Ollama is running", 200, "text/plain; charset=utf-8") if running else not_found()
    if path == "/api/version":
        return reply_json({"version": behaviour.version})
    if path == "/api/tags":
        return reply_json(ollama_api.tags(behaviour))
    if path == "/api/ps":
        return reply_json(ollama_api.running(behaviour, *held()))
    if path == "/v1/models":
        return reply_json(openai_api.models(behaviour))
    name = path.removeprefix("/v1/models/")
    return reply_json(openai_api.model(name)) if is_known(behaviour, name) else unknown_model(path, name)


def show(behaviour: Behaviour, heard: Heard) -> Reply:
    try:
        asked = msgspec.json.decode(heard.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        return error(heard.path, 400, str(problem))
    model = str(asked.get("model") or asked.get("name") or "")
    if not is_known(behaviour, model):
        return unknown_model(heard.path, model)
    return reply_json(ollama_api.shown(behaviour, model))
