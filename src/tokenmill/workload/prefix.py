"""Tells apart conversations by the long beginning that some of them share.

A server that keeps what it read of a beginning need not read it again, if it gets the requests that share it. Only
whole messages count, because a beginning ends where the chat template closes a message; the last message is what is
asked and never counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from tokenmill.request import Message

#: A beginning of fewer characters (about 100 tokens) is read sooner than it is worth looking for.
LONG = 400
#: Beginnings told apart; further ones count as none. A conversation that shares nothing takes a number as well.
MAX_PREFIXES = 1024


class Prefixes:
    """Numbers beginnings from 1 in the order in which they came; keeps a hash of each, not the text."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def number(self, messages: Sequence[Message]) -> int:
        """The number of the shortest leading messages that are `LONG` together, 0 if there are none."""
        length = 0
        for count, message in enumerate(messages[:-1], 1):
            length += len(message.content)
            if length >= LONG:
                return self._look_up(messages[:count])
        return 0

    def _look_up(self, messages: Sequence[Message]) -> int:
        digest = blake2b(digest_size=16)
        for message in messages:  # no text that is asked holds a NUL
            digest.update(f"{message.role}\0{message.content}\0".encode(errors="surrogatepass"))
        key = digest.digest()
        if len(self._numbers) < MAX_PREFIXES:
            return self._numbers.setdefault(key, len(self._numbers) + 1)
        return self._numbers.get(key, 0)
