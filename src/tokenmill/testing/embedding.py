"""Vectors as both APIs ask for them and give them; a vector is a pure function of its text and the seed."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tokenmill.testing import openai_api
from tokenmill.testing.answer import Said, cut_front
from tokenmill.testing.ask import Ask, BadBody, NativeOptions
from tokenmill.testing.behaviour import Behaviour
from tokenmill.testing.fault import AnyFault, Vectors
from tokenmill.testing.voice import Piece, Timing, quoted

#: Texts of one request, as OpenAI has it.
MOST_INPUTS = 2048


class Body(Struct):
    """The body of `/api/embed` and `/v1/embeddings`; the APIs differ in what they let be said besides."""

    model: str = ""
    input: str | list[str] | None = None
    truncate: bool | None = None
    options: NativeOptions | None = None
    keep_alive: str | float | None = None
    encoding_format: str | None = None
    dimensions: int | None = None


BODY = msgspec.json.Decoder(Body)


def read(body: bytes, api: Literal["ollama", "openai"]) -> Ask:
    """What is asked; raises `BadBody`."""
    try:
        asked = BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBody(str(error)) from error
    inputs = (asked.input,) if isinstance(asked.input, str) else tuple(asked.input or ())
    if not inputs or len(inputs) > MOST_INPUTS:
        raise BadBody(f"'input' has {len(inputs)} texts; send 1 to {MOST_INPUTS}.")
    if asked.dimensions is not None or asked.encoding_format not in (None, "float"):
        raise BadBody("'dimensions', and 'encoding_format' other than 'float', are not supported here.")
    if api == "openai" and not all(inputs):
        raise BadBody("'input' cannot hold an empty string.")
    options = asked.options or NativeOptions()
    return Ask(
        api=api,
        chat=False,
        model=asked.model,
        prompt="\n".join(inputs),
        inputs=inputs,
        stream=False,
        num_ctx=options.num_ctx,
        truncate=asked.truncate is not False,
        keep_alive=asked.keep_alive,
    )


def vector_of(text: str, dimensions: int, seed: int) -> list[float]:
    """The vector of a text, of length 1."""
    drawn = hashlib.shake_256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    numbers = [high * 256 + low - 32767.5 for high, low in zip(drawn[::2], drawn[1::2], strict=True)]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


class EmbeddingVoice:
    """The words of `/api/embed` and `/v1/embeddings`, which always come in one piece."""

    content_type = "application/json"

    def __init__(self, ask: Ask, behaviour: Behaviour, fault: AnyFault | None) -> None:
        self._ask = ask
        self._behaviour = behaviour
        self._what = fault.what if isinstance(fault, Vectors) else ""

    def opening(self) -> bytes:
        return b""

    def text(self, text: str) -> bytes:
        return quoted(text)

    def reasoning(self, _text: str) -> bytes:
        return b""

    def comment(self) -> bytes:
        return b" "

    def ending(self, _said: Said, _timing: Timing) -> list[Piece]:
        return []

    def whole(self, said: Said, timing: Timing) -> bytes:
        ask, rows = self._ask, self._rows()
        if ask.api == "ollama":
            counts = {
                "total_duration": max(1, round(timing.total * 1e9)),
                "load_duration": max(1, round(timing.load * 1e9)),
            }
            return quoted({"model": ask.model, "embeddings": rows, **counts, "prompt_eval_count": said.prompt_tokens})
        data: list[dict[str, Any]] = [
            {"object": "embedding", "index": 0 if self._what == "twice" else index, "embedding": row}
            for index, row in enumerate(rows)
        ]
        if self._what == "shuffled":
            data.reverse()
        usage = {"prompt_tokens": said.prompt_tokens, "total_tokens": said.prompt_tokens}
        return quoted({"object": "list", "data": data, "model": ask.model, "usage": usage})

    def error(self, status: int, message: str, code: str | None) -> bytes:
        if self._ask.api == "ollama":
            return quoted({"error": message})
        return quoted(openai_api.error_object(status, message, code))

    def _rows(self) -> list[list[float | None]]:
        """A vector for each text, but for the fault."""
        ask, behaviour = self._ask, self._behaviour
        read = ask.inputs if ask.keep_words is None else [cut_front(text, ask.keep_words) for text in ask.inputs]
        rows: list[list[float | None]] = [
            list[float | None](vector_of(text, behaviour.dimensions, behaviour.seed)) for text in read
        ]
        match self._what:
            case "short":
                rows[-1].pop()
            case "long":
                rows[-1].append(0.0)
            case "null":
                rows[-1][0] = None
            case "missing":
                rows.pop()
            case "extra":
                rows.append(rows[-1])
        return rows
