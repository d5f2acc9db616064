"""The engine of a node behind HTTP, for every API: a dialect says how to ask and read, this says when it is an answer.

One engine has one connection pool, made in `open` and used in the event loop that opened it. `survey` asks beforehand,
in a loop of its own. Closing the stream of an answer closes its connection, which is how servers are told to stop.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from msgspec.structs import replace

from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.engine.http.apart import run_apart
from tokenmill.engine.http.canary import PATIENCE, Trial, is_beyond, judge, length_of_trial, trial_of
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.clocks import Clocks, Deadline, clocks_from
from tokenmill.engine.http.dialect import Dialect, Model
from tokenmill.engine.http.prompt import estimate
from tokenmill.engine.http.reading import Reader
from tokenmill.engine.http.site import SURVEY_CONNECT, Site, refused
from tokenmill.errors import EngineError, UsageError
from tokenmill.request import Chunk, Completion, RateSeen, Request, Sampling

#: Requests at the same time, where nobody says: what a small server takes without queueing for long.
SLOTS = 4
#: Characters and pieces of an answer from which on it is not listened to any more; no model writes that much.
MOST_TEXT, MOST_PIECES = 8 << 20, 1 << 19
NOT_SENT = (
    "not sent: the node was seen to cut a long prompt to {} tokens, and this one has more than twice as many words"
)
LARGER = "raise the context of the model there (num_ctx, --context), or shorten the prompt"
PROBE = Request(row=0, custom_id="probe", prompt="Hello", sampling=Sampling(max_tokens=1))


class ServerEngine:
    """The engine of one node; `open` after `close` finds the same model or says that it changed."""

    def __init__(
        self,
        node: Node,
        options: EngineOptions,
        *,
        clocks: Clocks | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._options = options
        self._slots = options.slots if options.slots is not None else SLOTS
        if self._slots < 1:
            raise UsageError(f"node {node.name!r}: slots is {self._slots}; give at least 1")
        self._clocks = clocks_from(environment) if clocks is None else clocks
        self._site = Site(node, options, environment)
        self._client: Client | None = None
        self._model: Model | None = None
        self._probe = replace(PROBE, raw=options.raw)
        self._fingerprint = ""
        self._answered = False
        self._trial: Trial | None = None

    def survey(self) -> EngineFacts:
        clocks = replace(self._clocks, connect=min(self._clocks.connect, SURVEY_CONNECT))

        async def ask() -> Model:
            return await self._site.find(clocks)

        return self._facts(run_apart(ask))

    def count(self, request: Request) -> int:
        return estimate(request)

    async def open(self) -> EngineFacts:
        """Finds the model again and has it loaded.

        Raises:
            NodeUnreachable: the node doesn't answer now.
            UsageError: it can't serve this run.
        """
        if self._client is None:
            model = await self._site.find(self._clocks)
            dialect = self._site.dialect
            assert dialect is not None, "it was found by its API"
            client = self._site.client(self._clocks)
            try:
                model = await dialect.load(client, model, self._clocks.first_token)
            except BaseException as error:
                await client.close()
                if isinstance(error, EngineError):
                    raise refused(error) from None
                raise
            self._client, self._model, self._answered = client, model, False
            if self._trial is None:
                self._trial = await self._tried()
            self._model = replace(model, reads=self._trial.reads)
        assert self._model is not None
        return self._facts(self._model)

    async def probe(self) -> None:
        """One token from the model that the run began with."""
        await self._recognise()
        came = False
        async with aclosing(self.generate(self._probe)) as parts:
            async for part in parts:
                came = came or isinstance(part, Chunk) or part.usage.output_tokens > 0
        if not came:
            raise EngineError("transient", f"{self._site.place}: it answers, but no token came")

    async def generate(self, request: Request) -> AsyncGenerator[Chunk | Completion, None]:
        client, model, dialect = self._ready()
        if model.reads is not None and is_beyond(request, model.reads):
            raise client.fault(EngineError("cut", f"{NOT_SENT.format(model.reads)}; {LARGER}"))
        path, body = dialect.encode(request, model)
        loop = asyncio.get_running_loop()
        deadline = Deadline(self._clocks, loop.time())
        exchange = await client.ask(path, body, deadline)
        try:
            reader = dialect.reader(request, model)
            warm = self._answered
            moved = length = 0
            while not reader.ended:
                data = await exchange.read()
                for text in self._texts(client, reader, data):
                    length += len(text)
                    yield Chunk(text)
                if reader.moved != moved:
                    moved = reader.moved
                    deadline.token(loop.time())
                    if length > MOST_TEXT or moved > MOST_PIECES:
                        raise client.fault(EngineError("transient", "the answer has no end; it was left at its caps"))
                if not data:
                    break
            end = self._whole(client, reader, exchange.rate)
            await exchange.drain()
        finally:
            exchange.close()
        if warm and reader.loaded:
            await self._recognise()
            end = flagged(end, "reloaded")
        self._answered = True
        yield end

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- the node ------------------------------------------------------------------------------------------------

    async def _recognise(self) -> None:
        """Fails a node that has another model under the same name by now."""
        client, model, dialect = self._ready()
        try:
            found = await dialect.find(client)
        except UsageError as error:
            raise EngineError("misconfigured", str(error)) from None
        if found.digest != model.digest:
            text = f"it has another model under the name {model.name!r} than the run began with; put the old one back"
            raise client.fault(EngineError("misconfigured", text))

    async def _tried(self) -> Trial:
        """What comes of a trial prompt as long as the longest that waits, if one is needed."""
        client, model, dialect = self._ready()
        is_hosted = self._site.address.is_secure and self._site.key is not None
        length = length_of_trial(self._options, model.context, is_hosted=is_hosted)
        if not length:
            return Trial()
        request = trial_of(length, secrets.token_hex(8), raw=self._options.raw)
        patience = min(self._clocks.first_token, PATIENCE)
        deadline = Deadline(
            replace(self._clocks, first_token=patience, gap=patience, whole=patience), asyncio.get_running_loop().time()
        )
        reader = dialect.reader(request, model)
        try:
            exchange = await client.ask(*dialect.encode(request, model), deadline)
            try:
                while not reader.ended and (data := await exchange.read()):
                    reader.feed(data)
                reader.close()
                reader.finish()
            finally:
                exchange.close()
        except EngineError as error:
            if error.kind == "too_long":
                return Trial()  # it says so, as it will of rows
            if error.kind != "cut":
                why = client.clean(error.message)
                return Trial(caution=f"whether {self._site.place} reads long prompts whole couldn't be checked ({why})")
        return judge(self._site.place, length, reader.read)

    def _facts(self, model: Model) -> EngineFacts:
        address = self._site.address
        return EngineFacts(
            model=model.name,
            digest=model.digest,
            slots=self._slots,
            context=model.context,
            memory=model.memory,
            host=self._site.node.host or address.host,
            device=self._site.node.device or f"{address.host}:{address.port}",
            counts_exactly=False,
            version=model.version,
            placement=model.placement,
            caution=self._trial.caution if self._trial is not None else "",
        )

    # -- an answer -----------------------------------------------------------------------------------------------

    def _ready(self) -> tuple[Client, Model, Dialect]:
        if self._client is None or self._model is None or self._site.dialect is None:
            raise EngineError("crash", f"{self._site.place}: it isn't open")
        return self._client, self._model, self._site.dialect

    def _texts(self, client: Client, reader: Reader, data: bytes) -> list[str]:
        try:
            return reader.feed(data) if data else reader.close()
        except EngineError as error:
            fault = client.fault(error)
        raise fault from None

    def _whole(self, client: Client, reader: Reader, rate: RateSeen | None) -> Completion:
        """The completion, with a flag if the node computes otherwise than it did for the first answer."""
        try:
            end = reader.finish()
        except EngineError as error:
            fault = client.fault(error)
        else:
            fingerprint = reader.fingerprint
            self._fingerprint = self._fingerprint or fingerprint
            if fingerprint and fingerprint != self._fingerprint:
                end = flagged(end, "fingerprint_changed")
            return end if rate is None else replace(end, rate=rate)
        raise fault from None


def flagged(end: Completion, name: str) -> Completion:
    return replace(end, flags=(*end.flags, name))
