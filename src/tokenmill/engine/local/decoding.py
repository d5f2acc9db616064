"""Tokens to text, one at a time, so that the pieces joined are exactly what decoding all tokens at once gives.

A piece is returned once nothing that follows can change it. Special tokens have no text.

Byte-level tokenizers: every token is a run of bytes, so an incremental UTF-8 decoder is exact and costs the same for
each token. Others (sentencepiece style) look at their neighbours: a space at the very beginning is dropped, and a run
of byte tokens such as `<0xE2>` is one text or, if a single byte is wrong, one replacement sign each, which is why a run
is held back until it ends. They are decoded in a window that begins with text already returned.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tokenmill.engine.local.tokenizer import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x..>")


class IncrementalDecoder(Protocol):
    """The text of one answer as it comes; after `flush` it is spent."""

    def feed(self, token: int) -> str:
        """The text that has become final with this token; often empty."""
        ...

    def flush(self) -> str:
        """What was held back, incomplete characters as replacement signs."""
        ...


def _byte_alphabet() -> dict[str, int]:
    """The bytes behind the 256 characters that byte-level vocabularies are written in.

    Printable Latin-1 stands for itself; the other bytes, in order, have the characters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def token_bytes(token: str) -> bytes:
    """The bytes of a byte-level token; an added token outside the alphabet is plain text."""
    try:
        return bytes([_BYTES[sign] for sign in token])
    except KeyError:
        return token.encode()


class ByteLevelDecoder:
    """For tokenizers whose tokens are runs of bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        text = self._tokenizer.visible(token)
        return "" if text is None else self._utf8.decode(token_bytes(text))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class WindowDecoder:
    """For all other tokenizers: decodes from the last piece on, and returns what comes after it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = 0  # tokens of the window whose text was returned
        self._shown_text = ""

    def feed(self, token: int) -> str:
        text = self._tokenizer.visible(token)
        if text is None:
            return ""
        self._window.append(token)
        if _BYTE_TOKEN.fullmatch(text):
            return ""
        decoded = self._tokenizer.decode(self._window)
        if len(decoded) <= len(self._shown_text):
            return ""
        piece = decoded[len(self._shown_text) :]
        del self._window[: self._shown]
        self._shown = len(self._window)
        self._shown_text = self._tokenizer.decode(self._window)
        return piece

    def flush(self) -> str:
        return self._tokenizer.decode(self._window)[len(self._shown_text) :]
