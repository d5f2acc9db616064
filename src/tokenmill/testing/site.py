"""One server: its listener, its line, and the way of each request through them."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from tokenmill.errors import TokenmillError
from tokenmill.testing import embedding, ollama_api, openai_api, routes
from tokenmill.testing.allowance import Allowances
from tokenmill.testing.answer import Said
from tokenmill.testing.ask import Ask, BadBody, read_native, read_openai, seconds
from tokenmill.testing.behaviour import Behaviour, Change, changed
from tokenmill.testing.choose import Chooser
from tokenmill.testing.compose import reply_to
from tokenmill.testing.connection import Connection, Heard
from tokenmill.testing.control import PREFIX, controlled
from tokenmill.testing.exchange import Exchange
from tokenmill.testing.fault import HARMLESS, AnyFault, Down, Slow
from tokenmill.testing.ledger import Ledger
from tokenmill.testing.line import Line, Loaded
from tokenmill.testing.listener import Listener, security_of
from tokenmill.testing.player import Player
from tokenmill.testing.spoil import at_once, spoiled
from tokenmill.testing.spoil_answer import answer, twisted
from tokenmill.testing.ticker import Ticker
from tokenmill.testing.timeline import Timeline
from tokenmill.testing.voice import Reply, Voice, reply_bytes, reply_json
from tokenmill.testing.wire import Wire

if TYPE_CHECKING:
    from tokenmill.testing.honest import Honest

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Site:
    """Answers by a behaviour, which may be changed while it runs."""

    def __init__(self, behaviour: Behaviour, number: int, ticker: Ticker, attempts: Counter[str]) -> None:
        self.loop = asyncio.get_running_loop()
        self.number = number
        self.ticker = ticker
        self.started = self.loop.time()
        self.ledger = Ledger(behaviour.name, self.started)
        self.line = Line(behaviour.slots, behaviour.queue, behaviour.load)
        self.listener = Listener(self, behaviour.address, behaviour.port, security_of(behaviour))
        self.honest: Honest | None = None
        self._attempts = attempts
        self._last_prompt = ""
        self._is_pumping = False
        self._wall = time.time() - self.started  # fixed, so that the same moment always reads the same
        self._limits: tuple[int | None, int | None] = (None, None)
        self._allowances = Allowances(None, None, self.started)
        self._timeline = Timeline(behaviour.change, self.loop, self.change)
        self.adopt(behaviour)
        if behaviour.loaded:
            model, room = ollama_api.tagged(behaviour.models[0]), behaviour.default_context
            self.line.loaded = Loaded(model, min(room, behaviour.context), self.started, None)
            self.line.keep(self.started, behaviour.keep_alive)

    async def be_honest(self) -> None:
        """Lets the engine that the behaviour names answer, within its own context and under its own digest."""
        from tokenmill.testing.honest import Honest

        self.honest = Honest(self.behaviour)
        facts = await self.honest.open()
        context = facts.context or self.behaviour.context
        known = msgspec.structs.replace(self.behaviour, context=context, default_context=context, digest=facts.digest)
        self.adopt(known)
        self.line.loaded = Loaded(ollama_api.tagged(self.behaviour.models[0]), context, self.loop.time(), None)

    def adopt(self, behaviour: Behaviour) -> None:
        """Behaves like this from now on; what runs, goes on."""
        self.behaviour = behaviour
        self._chooser = Chooser(behaviour.fault, behaviour.seed, behaviour.name)
        self._key = None if behaviour.key is None else f"Bearer {behaviour.key}".encode()
        limits = (behaviour.requests_per_minute, behaviour.tokens_per_minute)
        if limits != self._limits:
            self._limits, self._allowances = limits, Allowances(*limits, self.loop.time())
        self.line.slots, self.line.queue, self.line.load = behaviour.slots, behaviour.queue, behaviour.load
        if behaviour.device is None:
            self.ticker.bend(behaviour.curve)
        self.pump()

    def change(self, change: Change) -> None:
        """Makes one change of a timeline, or of somebody at the control door."""
        if change.set:
            self.adopt(changed(self.behaviour, change.set))
        if change.unload:
            self.line.unload()
        if change.down is True:
            self.listener.go_down()
        elif change.down is False:
            self.listener.go_up()

    def forget(self) -> None:
        """Counts from the start again, attempts at prompts included."""
        self.ledger = Ledger(self.behaviour.name, self.loop.time())
        self._attempts.clear()
        self.pump()

    def opened(self, connection: Connection) -> None:
        self.listener.connections.add(connection)
        self.ledger.state.connections_made += 1

    def closed(self, connection: Connection) -> None:
        self.listener.connections.discard(connection)

    def handle(self, connection: Connection, heard: Heard) -> None:
        """Answers one request, at once or when its turn comes."""
        found = routes.TEXTS.get(heard.path)
        authorization = self._authorization(heard)
        if heard.path.startswith(PREFIX):
            connection.reply(controlled(self, heard))
            return
        self.ledger.hear(heard, authorization)
        if authorization == "wrong" or (authorization == "none" and self._key is not None):
            connection.reply(refused_key(heard))
        elif found is None or found[0] not in self.behaviour.apis:
            self._listing(connection, heard)
        elif heard.method != "POST":
            connection.reply(routes.wrong_method())
        else:
            self._text(connection, heard, *found)

    def pump(self) -> None:
        """Starts whoever may start; one that ends at once frees its slot for this same round."""
        if self._is_pumping:
            return
        self._is_pumping = True
        now = self.loop.time()
        while (started := self.line.next(now)) is not None:
            exchange, ready, is_loading = started
            assert isinstance(exchange, Exchange), "only exchanges wait in the line"
            fault = exchange.fault
            self.ledger.state.loads += is_loading
            self.ledger.occupy(now, len(self.line.running), len(self.line.waiting))
            exchange.timing.load = max(ready - now, self.behaviour.warm_load)
            exchange.start(ready, self.behaviour.slow * (fault.factor if isinstance(fault, Slow) else 1))
        self.ledger.occupy(now, len(self.line.running), len(self.line.waiting))
        self._is_pumping = False

    def left(self, exchange: Exchange, *, cancelled: bool) -> None:
        """An exchange is over: count it and give its slot to the next."""
        state, tally = self.ledger.state, self.ledger.tally(exchange.ask.prompt)
        if cancelled:
            state.cancelled += 1
            tally.cancelled += 1
        elif exchange.fault is None or isinstance(exchange.fault, HARMLESS):
            state.answered += 1
            state.output_tokens += exchange.tokens
            tally.answered += 1
        self.line.leave(exchange)
        self.line.keep(self.loop.time(), exchange.keep)
        self.pump()

    def wire_for(self, exchange: Exchange) -> Wire:
        """What answers an exchange; asked for when its work begins."""
        if exchange.ask.inputs:
            return self._worded(exchange, Said(pieces=(), prompt_tokens=len(exchange.ask.prompt.split())))
        said = answer(exchange.fault, self.behaviour, exchange.ask, self._last_prompt)
        self._last_prompt = exchange.ask.prompt
        return self._worded(exchange, said)

    def wire_of(self, exchange: Exchange, said: Said) -> Wire:
        """What is sent of an answer that an engine made."""
        return self._worded(exchange, twisted(exchange.fault, exchange.ask, said))

    def _worded(self, exchange: Exchange, said: Said) -> Wire:
        exchange.tokens = said.tokens
        reply = reply_to(exchange.ask, exchange.voice, said, self.behaviour, exchange.timing, exchange.arrived)
        if self._allowances and exchange.ask.api == "openai":
            reply.headers = self._allowances.headers(self.loop.time())
        return spoiled(exchange.fault, reply, exchange.voice, exchange.ask.prompt)

    def _listing(self, connection: Connection, heard: Heard) -> None:
        """Answers what asks for no text, by its fault if there is one."""
        reply = routes.listing(self.behaviour, heard, self._held)
        number = self.ledger.paths[heard.path]
        fault = self._chooser.for_listing(heard.path, number, self.loop.time() - self.started)
        if fault is None:
            connection.reply(reply)
            return
        self.ledger.fault(fault)
        voice = routes.voice_of_path(heard.path)
        if isinstance(fault, Down):
            self.listener.go_down(fault.seconds)
        else:
            play(
                connection, at_once(fault, voice, heard, self.listener.url) or spoiled(fault, reply, voice, heard.path)
            )

    def _text(self, connection: Connection, heard: Heard, api: str, chat: bool) -> None:
        try:
            ask = read(heard, api, chat=chat)
            keep = seconds(ask.keep_alive, self.behaviour.keep_alive)
        except BadBody as problem:
            connection.reply(routes.error(heard.path, 400, str(problem)))
            return
        if not routes.is_known(self.behaviour, ask.model):
            connection.reply(routes.unknown_model(heard.path, ask.model))
            return
        reply = self._preload(ask, keep) or self._unable(ask)
        if reply is not None:
            connection.reply(reply)
            return
        fault = self._count(heard.path, ask)
        voice = voice_for(ask, self.behaviour, fault)
        if isinstance(fault, Down):
            self.listener.go_down(fault.seconds)
        elif fault is not None and (wire := at_once(fault, voice, heard, self.listener.url)) is not None:
            play(connection, wire)
        else:
            self._admit(connection, heard.path, Exchange(self, connection, ask, voice, fault, keep))

    def _count(self, path: str, ask: Ask) -> AnyFault | None:
        """Counts a request for text and draws its fault."""
        state, tally = self.ledger.state, self.ledger.tally(ask.prompt)
        state.asked += 1
        self._timeline.count(state.asked)
        tally.attempts += 1
        self._attempts[ask.prompt] += 1
        age = self.loop.time() - self.started
        fault = self._chooser.for_text(path, ask.prompt, self._attempts[ask.prompt], state.asked, age)
        if fault is not None:
            self.ledger.fault(fault)
            tally.faults += 1
        return fault

    def _admit(self, connection: Connection, path: str, exchange: Exchange) -> None:
        """Lets an exchange wait for a slot, unless its prompt or the queue is too long."""
        reply = self._fit(exchange, path)
        if reply is None and not self.line.has_room:
            reply = routes.error(path, 503, BUSY)
        if reply is None and self._allowances and exchange.ask.api == "openai":
            reply = self._over_limit(exchange.ask, path)
        if reply is not None:
            self.ledger.state.refused += 1
            connection.reply(reply)
            return
        connection.sender = exchange
        self.line.waiting.append(exchange)
        self.pump()

    def _over_limit(self, ask: Ask, path: str) -> Reply | None:
        """Refuses what is beyond the requests or tokens a minute."""
        now = self.loop.time()
        wait = self._allowances.take(now, len(ask.prompt.split()) + (ask.max_tokens or 0))
        if wait <= 0:
            return None
        reply = routes.error(path, 429, "Rate limit reached, please slow down.", "rate_limit_exceeded")
        reply.headers = [("retry-after", str(math.ceil(wait))), *self._allowances.headers(now)]
        return reply

    def _fit(self, exchange: Exchange, path: str) -> Reply | None:
        """Refuses or cuts a prompt that is longer than the context, as each API does."""
        ask, behaviour = exchange.ask, self.behaviour
        try:
            if ask.inputs:
                tokens = max(len(text.split()) for text in ask.inputs)
            else:
                tokens = len(ask.prompt.split()) if self.honest is None else self.honest.count(ask)
        except TokenmillError as problem:
            return routes.error(path, 400, str(problem))
        room = behaviour.default_context if ask.num_ctx is None else ask.num_ctx
        exchange.num_ctx = room = min(room, behaviour.context)
        exchange.model = ollama_api.tagged(ask.model)
        if ask.api == "openai" and behaviour.overflow != "silent":
            if tokens < behaviour.context:
                return None
            return reply_json(openai_api.overflow_object(behaviour.overflow, tokens, behaviour.context), 400)
        if ask.api == "ollama":
            ask.num_ctx = room
        if tokens < room:
            return None
        if not ask.truncate and behaviour.heeds_truncate:
            return routes.error(path, 400, ollama_api.overflow_message(behaviour.overflow, tokens, room))
        ask.keep_words = room // 2 + 2
        return None

    def _unable(self, ask: Ask) -> Reply | None:
        """Refuses what the model can't do."""
        wanted = {"tools": ask.tools, "thinking": ask.think, "vision": ask.images}
        for capability, is_wanted in wanted.items():
            if is_wanted and capability not in self.behaviour.capabilities:
                return reply_json({"error": f'"{ask.model}" does not support {capability}'}, 400)
        return None

    def _preload(self, ask: Ask, keep: float) -> Reply | None:
        """An empty prompt on the native API loads the model, or unloads it."""
        if ask.api != "ollama" or ask.prompt or ask.inputs:
            return None
        if keep == 0:
            self.line.unload()
        else:
            now = self.loop.time()
            room = min(ask.num_ctx or self.behaviour.default_context, self.behaviour.context)
            self.line.preload(ollama_api.tagged(ask.model), room, now)
            self.line.keep(now, keep)
        return reply_bytes(ollama_api.loaded_only(ask.model, chat=ask.chat, unload=keep == 0))

    def _authorization(self, heard: Heard) -> str:
        given = heard.headers.get("authorization")
        if given is None:
            return "none"
        if self._key is None:
            return "unasked"
        return "right" if hmac.compare_digest(given.encode("latin-1"), self._key) else "wrong"

    def _held(self) -> tuple[Loaded | None, float, float]:
        now = self.loop.time()
        return self.line.holds(now), now, self._wall


def play(connection: Connection, wire: Wire) -> None:
    """Sends a wire that holds no slot."""
    player = Player(connection, None, lambda _: None)
    connection.sender = player
    player.play(wire)


def read(heard: Heard, api: str, *, chat: bool) -> Ask:
    """What is asked, in the body that its path has; raises `BadBody`."""
    if heard.path in routes.EMBEDDINGS:
        return embedding.read(heard.body, "ollama" if api == "ollama" else "openai")
    return read_native(heard.body, chat=chat) if api == "ollama" else read_openai(heard.body, chat=chat)


def voice_for(ask: Ask, behaviour: Behaviour, fault: AnyFault | None) -> Voice:
    if ask.inputs:
        return embedding.EmbeddingVoice(ask, behaviour, fault)
    if ask.api == "ollama":
        return ollama_api.NativeVoice(ask.model, chat=ask.chat)
    return openai_api.OpenAIVoice(ask.model, chat=ask.chat, include_usage=ask.include_usage)


def refused_key(heard: Heard) -> Reply:
    if "authorization" not in heard.headers:
        return routes.error(heard.path, 401, "You didn't provide an API key.")
    return routes.error(heard.path, 401, "Incorrect API key provided.", "invalid_api_key")
