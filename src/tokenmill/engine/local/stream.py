"""From the tokens of one answer to the text that may be shown: decoding, stop strings and counting, no model."""

from __future__ import annotations

from tokenmill.engine.local.decoding import IncrementalDecoder
from tokenmill.engine.local.stops import StopCutter
from tokenmill.engine.local.wire import Piece


class AnswerStream:
    """One answer on its way. Every token counts as output, the one that ends the answer too: it took its pass."""

    def __init__(self, key: int, decoder: IncrementalDecoder, stops: tuple[str, ...], prompt_tokens: int) -> None:
        self._key = key
        self._decoder = decoder
        self._cutter = StopCutter(stops)
        self._prompt_tokens = prompt_tokens
        self._output_tokens = 0

    def add(self, token: int, finish: str | None) -> Piece:
        """What one more token adds; `finish` is the model's reason to end with it, and `stop` has no text."""
        self._output_tokens += 1
        text = "" if finish == "stop" else self._cutter.feed(self._decoder.feed(token))
        if finish is not None and not self._cutter.stopped:
            text += self._cutter.feed(self._decoder.flush())
            text += self._cutter.flush()
        if self._cutter.stopped:
            finish = "stop"
        if finish is None:
            return Piece(self._key, text, 1)
        return Piece(self._key, text, 1, finish, self._prompt_tokens, self._output_tokens)
