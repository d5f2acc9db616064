"""The OpenAI-compatible API: bodies of `/v1/*`, server-sent events, error objects."""

from __future__ import annotations

import itertools
import time
from typing import Any

from tokenmill.testing.answer import Said
from tokenmill.testing.behaviour import Behaviour
from tokenmill.testing.voice import MARK, OPENING, REASON, USAGE, Piece, Timing, quoted

FINGERPRINT = "fp_tokenmill"
TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
NUMBERS = itertools.count(1)


def error_object(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def overflow_object(spelling: str, tokens: int, context: int) -> dict[str, Any]:
    """How a prompt that doesn't fit is refused, in the words of three servers."""
    if spelling == "llama.cpp":
        said = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
        error = {"code": 400, "message": said, "type": "exceed_context_size_error"}
        return {"error": {**error, "n_prompt_tokens": tokens, "n_ctx": context}}
    said = (
        f"This model's maximum context length is {context} tokens. However, your messages resulted in {tokens} "
        "tokens. Please reduce the length of the messages."
    )
    if spelling == "vllm":
        return {"error": {"message": said, "type": "BadRequestError", "param": None, "code": 400}}
    return error_object(400, said, "context_length_exceeded", "messages")


class OpenAIVoice:
    """The words of `/v1/chat/completions` (a message) and `/v1/completions` (a text)."""

    content_type = "text/event-stream"

    def __init__(self, model: str, *, chat: bool, include_usage: bool) -> None:
        self._chat = chat
        self._usage = include_usage
        number, created, name = next(NUMBERS), int(time.time()), quoted(model)
        self._fields = b'"id":"%b-%d","created":%d,"model":%b,"system_fingerprint":"%b"' % (
            b"chatcmpl" if chat else b"cmpl",
            number,
            created,
            name,
            FINGERPRINT.encode(),
        )
        kind = b"chat.completion.chunk" if chat else b"text_completion"
        self._head = b'data: {"object":"%b",%b,"choices":[' % (kind, self._fields)
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        if chat:
            self._before = self._head + b'{"index":0,"delta":{"content":'
            self._after = b'},"logprobs":null,"finish_reason":null}' + self._tail
        else:
            self._before = self._head + b'{"index":0,"text":'
            self._after = b',"logprobs":null,"finish_reason":null}' + self._tail

    def opening(self) -> bytes:
        return self._delta(b'{"role":"assistant","content":""}') if self._chat else b""

    def text(self, text: str) -> bytes:
        return self._before + quoted(text) + self._after

    def reasoning(self, text: str) -> bytes:
        return self._delta(b'{"reasoning_content":' + quoted(text) + b"}") if self._chat else b""

    def comment(self) -> bytes:
        return b": keep-alive\n\n"

    def ending(self, said: Said, _timing: Timing) -> list[Piece]:
        pieces: list[Piece] = []
        if said.tool is not None and self._chat:
            pieces.append((OPENING, 0.0, self._delta(quoted({"tool_calls": [{"index": 0, **call(said.tool)}]}))))
        content = b'{"index":0,"delta":{}' if self._chat else b'{"index":0,"text":""'
        reason = content + b',"logprobs":null,"finish_reason":' + quoted(said.reason) + b"}"
        pieces.append((REASON, 0.0, self._head + reason + self._tail))
        if self._usage and said.counted is not None:
            pieces.append((USAGE, 0.0, self._head + b'],"usage":' + quoted(usage(said)) + b"}\n\n"))
        pieces.append((MARK, 0.0, b"data: [DONE]\n\n"))
        return pieces

    def whole(self, said: Said, _timing: Timing) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": said.reason}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
            if said.reasoning:
                message["reasoning_content"] = "".join(text for text, _ in said.reasoning)
            if said.tool is not None:
                message |= {"content": None, "tool_calls": [call(said.tool)]}
            choice["message"] = message
        else:
            choice["text"] = said.text
        kind = b"chat.completion" if self._chat else b"text_completion"
        counts = b"" if said.counted is None else b',"usage":' + quoted(usage(said))
        return b'{"object":"%b",%b,"choices":[%b]%b}' % (kind, self._fields, quoted(choice), counts)

    def error(self, status: int, message: str, code: str | None) -> bytes:
        return quoted(error_object(status, message, code))

    def _delta(self, delta: bytes) -> bytes:
        return self._head + b'{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":null}' + self._tail


def call(name: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}


def usage(said: Said) -> dict[str, Any]:
    read, wrote = (said.prompt_tokens, said.tokens) if said.counted else (0, 0)
    thought = sum(tokens for _, tokens in said.reasoning) if said.counted else 0
    counts: dict[str, Any] = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    return counts | ({"completion_tokens_details": {"reasoning_tokens": thought}} if thought else {})


def models(behaviour: Behaviour) -> dict[str, Any]:
    return {"object": "list", "data": [model(name) for name in behaviour.models]}


def model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_767_323_045, "owned_by": "library"}
