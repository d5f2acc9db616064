"""Answers of Ollama's own API as they come: one JSON object a line, the last with `done`. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.engine.http.classify import fault_of_object
from tokenmill.engine.http.lines import NdjsonDecoder
from tokenmill.engine.http.prompt import cut_of
from tokenmill.engine.http.reading import check_cut, count_of, settled_reason, usage_of
from tokenmill.errors import EngineError
from tokenmill.request import Completion, Request

#: Nanoseconds of `load_duration` from which a model was really loaded; to find a loaded one takes up to half of this.
LOADED = 200_000_000


class Words(Struct):
    """The message of a line; `thinking` is reasoning and no part of the answer."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Any] | None = None


class Line(Struct):
    """One line of the stream; `response` in place of a message where there is no chat.

    Counts and durations (nanoseconds) are in the last.
    """

    message: Words | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    error: Any = None
    prompt_eval_count: int | float | None = None
    eval_count: int | float | None = None
    load_duration: int | float | None = None


DECODER = msgspec.json.Decoder(Line)


class OllamaReader:
    """Reads one answer; `context` is the one that the run has pinned, `reads` see `Model`."""

    def __init__(self, request: Request, context: int | None, reads: int | None = None) -> None:
        self._request = request
        self._context = context
        self._reads = reads
        self._lines = NdjsonDecoder()
        self._last: Line | None = None
        self._flags: list[str] = []
        self._has_content = False
        self.fingerprint = ""
        self.moved = 0
        self.read: int | None = None

    @property
    def ended(self) -> bool:
        return self._last is not None

    @property
    def loaded(self) -> bool:
        return self._last is not None and (self._last.load_duration or 0) >= LOADED

    def feed(self, data: bytes) -> list[str]:
        texts: list[str] = []
        for line in self._lines.feed(data):
            self._read(line, texts)
        return texts

    def close(self) -> list[str]:
        texts: list[str] = []
        for line in self._lines.close():
            self._read(line, texts)
        return texts

    def finish(self) -> Completion:
        last = self._last
        if last is None:
            raise EngineError("transient", "the stream ended without `done`; the answer is not whole")
        flags = self._flags
        reason = settled_reason(last.done_reason or "stop", flags)
        if "reasoning" in flags and not self._has_content:
            flags.append("reasoning_only")
        prompt, output = count_of(last.prompt_eval_count), count_of(last.eval_count)
        usage, estimated = usage_of(self._request, prompt, output, self.moved)
        flags += estimated
        self.read = prompt
        if prompt:
            check_cut(cut_of(self._request, prompt, self._context, self._reads, counts_cached=False), flags)
        return Completion(reason, usage, tuple(flags))

    def _read(self, data: bytes, texts: list[str]) -> None:
        try:
            line = DECODER.decode(data)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise EngineError("transient", f"the node sent something else than an answer ({error})") from error
        if line.error is not None:
            raise fault_of_object(line.error)
        if self._last is not None:
            raise EngineError("transient", "the node sent more after the end of its answer")
        words = line.message
        if words is None and (line.response or line.thinking):
            words = Words(content=line.response, thinking=line.thinking)
        if words is not None:
            if words.content:
                self._has_content = True
                self.moved += 1
                texts.append(words.content)
            if words.thinking:
                self.moved += 1
                self._flag("reasoning")
            if words.tool_calls:
                self.moved += 1
                self._flag("tool_calls")
        if line.done:
            self._last = line

    def _flag(self, name: str) -> None:
        if name not in self._flags:
            self._flags.append(name)
