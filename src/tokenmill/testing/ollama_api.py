"""The native API of Ollama: bodies of `/api/*` in the shapes of its documentation, durations in nanoseconds."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Any

from tokenmill.testing.answer import Said
from tokenmill.testing.behaviour import Behaviour
from tokenmill.testing.line import Loaded
from tokenmill.testing.voice import MARK, REASON, Piece, Timing, now_text, quoted

PARAMETERS = 3_212_749_888
SIZE = 2_019_393_189
FOR_EVER = datetime(2318, 1, 1, tzinfo=UTC)
MODIFIED = "2026-01-02T03:04:05.678901234Z"
FAMILY = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
}


def tagged(model: str) -> str:
    """The full name of a model: without a tag it is `latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def digest_of(behaviour: Behaviour, model: str) -> str:
    """The digest of a model: of the first as the behaviour says, else made from its name."""
    if behaviour.digest is not None and tagged(model) == tagged(behaviour.models[0]):
        return behaviour.digest
    return hashlib.sha256(tagged(model).encode()).hexdigest()


def overflow_message(spelling: str, tokens: int, num_ctx: int) -> str:
    """How a prompt that doesn't fit is refused; since version 0.34 it is the error of llama.cpp as a string."""
    if spelling != "llama.cpp":
        return "the input length exceeds the context length"
    said = f"request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try increasing it"
    detail = {"code": 400, "message": said, "type": "exceed_context_size_error"}
    return json.dumps({"error": {**detail, "n_prompt_tokens": tokens, "n_ctx": num_ctx}}, separators=(",", ":"))


class NativeVoice:
    """The words of `/api/chat` (a message) and `/api/generate` (a response)."""

    content_type = "application/x-ndjson"

    def __init__(self, model: str, *, chat: bool) -> None:
        self._chat = chat
        self._head = b'{"model":%b,"created_at":"%b",' % (quoted(model), now_text().encode())

    def opening(self) -> bytes:
        return b""

    def text(self, text: str) -> bytes:
        return self._part(quoted(text), None)

    def reasoning(self, text: str) -> bytes:
        return self._part(b'""', quoted(text))

    def comment(self) -> bytes:
        return self._part(b'""', None)

    def ending(self, said: Said, timing: Timing) -> list[Piece]:
        line = self._head + self._body(b'""', None, said.tool) + b"," + self._final(said, timing)
        return [(REASON, 0.0, line + b"\n"), (MARK, 0.0, b"")]

    def whole(self, said: Said, timing: Timing) -> bytes:
        thought = "".join(text for text, _ in said.reasoning)
        body = self._body(quoted(said.text), quoted(thought) if thought else None, said.tool)
        return self._head + body + b"," + self._final(said, timing)

    def error(self, _status: int, message: str, _code: str | None) -> bytes:
        return quoted({"error": message})

    def _part(self, text: bytes, thought: bytes | None) -> bytes:
        return self._head + self._body(text, thought, None) + b',"done":false}\n'

    def _body(self, text: bytes, thought: bytes | None, tool: str | None) -> bytes:
        thinking = b"" if thought is None else b',"thinking":' + thought
        if not self._chat:
            return b'"response":' + text + thinking
        call = b"" if tool is None else b',"tool_calls":' + quoted([{"function": {"name": tool, "arguments": {}}}])
        return b'"message":{"role":"assistant","content":' + text + thinking + call + b"}"

    def _final(self, said: Said, timing: Timing) -> bytes:
        end: dict[str, Any] = {"done": True, "done_reason": said.reason}
        if not self._chat and said.counted is not None:
            end["context"] = [128006, 882, 128007]
        end |= {"total_duration": nanoseconds(timing.total), "load_duration": nanoseconds(timing.load)}
        if said.counted is not None:
            end["prompt_eval_count"] = said.prompt_tokens if said.counted else 0
        end["prompt_eval_duration"] = nanoseconds(timing.read)
        if said.counted is not None:
            end["eval_count"] = said.tokens if said.counted else 0
        end["eval_duration"] = nanoseconds(timing.write)
        return quoted(end)[1:]


def nanoseconds(seconds: float) -> int:
    return max(1, round(seconds * 1e9))


def loaded_only(model: str, *, chat: bool, unload: bool) -> bytes:
    """The reply to an empty prompt, which only loads or unloads the model."""
    text = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    reason = "unload" if unload else "load"
    return quoted({"model": model, "created_at": now_text(), **text, "done": True, "done_reason": reason})


def tags(behaviour: Behaviour) -> dict[str, Any]:
    return {"models": [listed(behaviour, model) | {"modified_at": MODIFIED} for model in behaviour.models]}


def listed(behaviour: Behaviour, model: str) -> dict[str, Any]:
    name = tagged(model)
    return {"name": name, "model": name, "size": SIZE, "digest": digest_of(behaviour, model), "details": FAMILY}


def running(behaviour: Behaviour, loaded: Loaded | None, now: float, epoch: float) -> dict[str, Any]:
    """The reply of `/api/ps`: what is in memory, until when, and how much of it on the device's own.

    `epoch` is the wall time at 0 of the server's clock.
    """
    if loaded is None:
        return {"models": []}
    until = now + behaviour.keep_alive if loaded.expires is None else loaded.expires
    expires = FOR_EVER if math.isinf(until) else datetime.fromtimestamp(epoch + until, UTC)
    return {
        "models": [
            listed(behaviour, loaded.model)
            | {
                "expires_at": expires.isoformat().replace("+00:00", "Z"),
                "size_vram": round(SIZE * behaviour.vram),
                "context_length": loaded.num_ctx,
            }
        ]
    }


def shown(behaviour: Behaviour, model: str) -> dict[str, Any]:
    """The reply of `/api/show`, as far as programs read it."""
    return {
        "license": "a test server's",
        "modelfile": f"FROM {tagged(model)}\n",
        "parameters": f"num_ctx {behaviour.default_context}",
        "template": "{{ .Prompt }}",
        "details": FAMILY,
        "model_info": {
            "general.architecture": "llama",
            "general.file_type": 15,
            "general.parameter_count": PARAMETERS,
            "general.quantization_version": 2,
            "llama.block_count": 28,
            "llama.context_length": behaviour.context,
            "llama.embedding_length": 3072,
        },
        "capabilities": list(behaviour.capabilities),
        "modified_at": MODIFIED,
    }
