"""One request for text from its arrival to its last byte: it waits, works, sends, and frees its slot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from tokenmill.testing.answer import Said
from tokenmill.testing.ask import Ask
from tokenmill.testing.connection import Connection, Sender
from tokenmill.testing.fault import AnyFault
from tokenmill.testing.player import Player
from tokenmill.testing.relay import Relay
from tokenmill.testing.ticker import Ticker
from tokenmill.testing.voice import Timing, Voice
from tokenmill.testing.wire import Wire

if TYPE_CHECKING:
    from tokenmill.testing.honest import Honest


class Ground(Protocol):
    """The server an exchange runs on."""

    loop: asyncio.AbstractEventLoop
    ticker: Ticker
    number: int
    honest: Honest | None

    def wire_for(self, exchange: Exchange) -> Wire:
        """What is to be sent; asked for when work begins."""
        ...

    def wire_of(self, exchange: Exchange, said: Said) -> Wire:
        """What is to be sent of an answer that an engine made."""
        ...

    def left(self, exchange: Exchange, *, cancelled: bool) -> None:
        """The exchange is over; its slot is free."""
        ...


class Exchange:
    """Holds a place in the line and, once started, on the device; gives both up when it is over."""

    __slots__ = (
        "_connection",
        "_in_device",
        "_player",
        "_sender",
        "_timer",
        "arrived",
        "ask",
        "fault",
        "ground",
        "keep",
        "model",
        "num_ctx",
        "timing",
        "tokens",
        "voice",
    )

    def __init__(
        self, ground: Ground, connection: Connection, ask: Ask, voice: Voice, fault: AnyFault | None, keep: float
    ) -> None:
        self.ground = ground
        self.ask = ask
        self.voice = voice
        self.fault = fault
        self.keep = keep
        self.model = ask.model
        self.num_ctx = ask.num_ctx or 0
        self.timing = Timing()
        self.tokens = 0
        self.arrived = ground.loop.time()
        self._connection = connection
        self._player = Player(connection, ground.ticker, self._sent)
        self._sender: Sender = self._player
        self._timer: asyncio.TimerHandle | None = None
        self._in_device = False

    def start(self, ready: float, slow: float) -> None:
        """A slot is free; work may begin at `ready`, when the model is loaded."""
        self._player.slow = slow
        if ready > self.ground.loop.time():
            self._timer = self.ground.loop.call_at(ready, self._begin)
        else:
            self._begin()

    def resume(self) -> None:
        self._sender.resume()

    def abandon(self) -> None:
        """The client is gone, whether this waits or is being sent."""
        self._sender.abandon()

    def _begin(self) -> None:
        self._timer = None
        self._in_device = True
        self.ground.ticker.join(self.ground.number)
        honest = self.ground.honest
        if honest is None or self.ask.inputs:
            self._player.play(self.ground.wire_for(self))
        else:
            self._sender = relay = Relay(self._connection, self.voice, self.ask, self.timing, self._relayed)
            relay.play(honest, self._finish if self.fault is not None else None)

    def _finish(self, said: Said) -> None:
        """Sends the engine's whole answer with the fault done to it."""
        self._sender = self._player
        self._player.play(self.ground.wire_of(self, said))

    def _relayed(self, tokens: int, cancelled: bool) -> None:
        self.tokens = tokens
        self._sent(cancelled)

    def _sent(self, cancelled: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._in_device:
            self.ground.ticker.leave(self.ground.number)
        self.ground.left(self, cancelled=cancelled)
