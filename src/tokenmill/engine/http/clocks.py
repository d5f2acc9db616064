"""Four clocks watch each attempt; the one that runs out first ends it and is named.

A node that says nothing, one that only sends comments to keep the connection, and one that stops in the middle of an
answer each hold a slot. Sockets that stay busy hide all three, so the clocks watch tokens and not bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from tokenmill.errors import UsageError

#: Where each clock is set, besides in code.
VARIABLES = {
    "connect": "TOKENMILL_CONNECT_TIMEOUT",
    "first_token": "TOKENMILL_FIRST_TOKEN_TIMEOUT",
    "gap": "TOKENMILL_GAP_TIMEOUT",
    "whole": "TOKENMILL_REQUEST_TIMEOUT",
}


class Clocks(Struct, frozen=True, kw_only=True):
    """Seconds an attempt may take.

    `connect`: until there is a connection. `first_token`: until the first token, counted from the dispatch; long,
    because the request may wait in the node's queue and for a model that loads for minutes. `gap`: between two
    tokens. `whole`: for everything.
    """

    connect: float = 10.0
    first_token: float = 600.0
    gap: float = 60.0
    whole: float = 3600.0


def clocks_from(environment: Mapping[str, str]) -> Clocks:
    """The defaults, changed by the variables that are set; raises `UsageError` for one that is no time."""
    chosen: dict[str, float] = {}
    for name, variable in VARIABLES.items():
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise UsageError(f"{variable} is {text!r}; give seconds above 0, such as 90, or unset it")
        chosen[name] = seconds
    return Clocks(**chosen)


class Deadline:
    """When the attempt ends unless another token comes, and which clock ends it."""

    __slots__ = ("_clocks", "_end", "_next", "_waits_for_first")

    def __init__(self, clocks: Clocks, now: float) -> None:
        self._clocks = clocks
        self._end = now + clocks.whole
        self._next = now + clocks.first_token
        self._waits_for_first = True

    @property
    def due(self) -> float:
        return self._next if self._next < self._end else self._end

    def token(self, now: float) -> None:
        """A token came; only that winds the clock up again."""
        self._waits_for_first = False
        self._next = now + self._clocks.gap

    def sleep(self, seconds: float) -> None:
        """This process stood still for so long; the node could not be heard meanwhile."""
        self._next += seconds
        self._end += seconds

    @property
    def reason(self) -> str:
        """What is said when the clock has run out."""
        if self._end <= self._next:
            return f"the answer took more than {self._clocks.whole:g} s (clock `whole`)"
        if self._waits_for_first:
            return f"no token within {self._clocks.first_token:g} s (clock `first_token`)"
        return f"no further token for {self._clocks.gap:g} s (clock `gap`)"
