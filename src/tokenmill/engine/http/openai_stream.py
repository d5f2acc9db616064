"""Completions of OpenAI's API, of chats and plain, as they come: server-sent events, or one object. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.engine.http.classify import fault_of_object
from tokenmill.engine.http.lines import SseDecoder
from tokenmill.engine.http.prompt import cut_of
from tokenmill.engine.http.reading import check_cut, count_of, settled_reason, usage_of
from tokenmill.errors import EngineError
from tokenmill.request import Completion, Request

DONE = b"[DONE]"


class Delta(Struct):
    """New text of a choice; the fields for reasoning differ between servers."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | dict[str, Any] | list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None


class Choice(Struct):
    """`delta` in a stream, `message` in a single object; `text` is all that a plain completion has, in either."""

    index: int = 0
    text: str | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class Counts(Struct):
    """Numbers are read as they come and judged later."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None


class Part(Struct):
    """One event of a stream, or the whole object."""

    id: str | None = None
    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    system_fingerprint: str | None = None


DECODER = msgspec.json.Decoder(Part)


class OpenAIReader:
    """Reads one answer; `context` is the model's, if the node told it, `reads` see `Model`.

    A stream begins with a field or a comment, never with a brace: that is the one object of a server that doesn't
    stream.
    """

    def __init__(self, request: Request, context: int | None, reads: int | None = None) -> None:
        self._request = request
        self._context = context
        self._reads = reads
        self._events: SseDecoder | None = None
        self._whole: list[bytes] = []
        self._reason = ""
        self._id = ""
        self._usage: Counts | None = None
        self._refused: list[str] = []
        self._flags: list[str] = []
        self._has_content = False
        self._ended = False
        self.fingerprint = ""
        self.moved = 0
        self.read: int | None = None

    @property
    def loaded(self) -> bool:
        return False

    @property
    def ended(self) -> bool:
        return self._ended

    def feed(self, data: bytes) -> list[str]:
        if self._whole or (self._events is None and data.lstrip()[:1] == b"{"):
            self._whole.append(data)
            return []
        if self._events is None:
            self._events = SseDecoder()
        texts: list[str] = []
        for event in self._events.feed(data):
            if event.strip() == DONE:
                self._ended = True
            elif self._ended:
                raise EngineError("transient", "the node sent more after the end of its answer")
            else:
                self._read(event, texts)
        return texts

    def close(self) -> list[str]:
        """What only the end of the stream completes: an answer that came as one object."""
        texts: list[str] = []
        if self._whole:
            self._read(b"".join(self._whole), texts)
        return texts

    def finish(self) -> Completion:
        if not self._reason:
            raise EngineError("transient", "the stream ended without a finish reason; the answer is not whole")
        flags = self._flags
        if self._refused and not self._has_content:
            raise EngineError("filtered", f"the model refused: {''.join(self._refused)}")
        reason = settled_reason(self._reason, flags)
        if "reasoning" in flags and not self._has_content:
            flags.append("reasoning_only")
        prompt = count_of(self._usage.prompt_tokens) if self._usage is not None else None
        output = count_of(self._usage.completion_tokens) if self._usage is not None else None
        usage, estimated = usage_of(self._request, prompt, output, self.moved)
        flags += estimated
        self.read = prompt
        if prompt:
            check_cut(cut_of(self._request, prompt, self._context, self._reads, counts_cached=True), flags)
        return Completion(reason, usage, tuple(dict.fromkeys(flags)))

    def _read(self, event: bytes, texts: list[str]) -> None:
        try:
            part = DECODER.decode(event)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise EngineError("transient", f"the node sent something else than an answer ({error})") from error
        if part.error is not None:
            raise fault_of_object(part.error)
        if part.id:
            if not self._id:
                self._id = part.id
            elif part.id != self._id:
                self._flags.append("ids_differ")
        if part.usage is not None:
            self._usage = part.usage
        if part.system_fingerprint:
            self.fingerprint = part.system_fingerprint
        for choice in part.choices or ():
            if choice.index == 0:
                self._take(choice, texts)

    def _take(self, choice: Choice, texts: list[str]) -> None:
        delta = choice.delta or choice.message
        if choice.text:
            delta = Delta(content=choice.text)
        if delta is not None:
            content = delta.content
            if content:
                text = content if isinstance(content, str) else _joined(content)
                if text:
                    if self._reason:
                        raise EngineError("transient", "the node sent text after its finish reason")
                    self._has_content = True
                    self.moved += 1
                    texts.append(text)
            if delta.reasoning_content or delta.reasoning:
                self.moved += 1
                self._flag("reasoning")
            if delta.refusal:
                self.moved += 1
                self._refused.append(delta.refusal)
            if delta.tool_calls:
                self.moved += 1
                self._flag("tool_calls")
        if choice.finish_reason:
            self._reason = choice.finish_reason

    def _flag(self, name: str) -> None:
        if name not in self._flags:
            self._flags.append(name)


def _joined(parts: list[Any]) -> str:
    """The text of content that comes in typed parts."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))
