"""Puts one node under load and notes every attempt: a closed loop by width, or an open loop by times of arrival.

In a closed loop a number of users each send a request, wait for its answer and send the next. In an open loop requests
are sent when they are due, whatever is in flight; latency counts from the moment a request was due, so a node that
stalls can't hide the requests that it kept from being sent (coordinated omission: Tene, "How NOT to measure latency",
2013). Load goes on after the window until every request that was due inside it has ended, or the last of them would be
measured on a node that idles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator

from msgspec import Struct

from tokenmill.driver.acceptance import Acceptance, accept
from tokenmill.driver.attempt import Meter, attempt
from tokenmill.engine import Engine
from tokenmill.errors import EngineError
from tokenmill.event import Attempt
from tokenmill.request import Request

#: Seconds that a user of a closed loop waits after a failure, so that a dead node isn't asked without pause.
AFTER_FAILURE = 0.05


class Window(Struct, frozen=True):
    """The part of a step that counts, from `begin` to `end`, seconds since the step began; before it is warm-up."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def holds(self, time: float) -> bool:
        return self.begin <= time < self.end


class Shot(Struct, frozen=True, kw_only=True):
    """One request of a step: when it was `due`, and the attempt on it, on one clock."""

    due: float
    attempt: Attempt


class Load:
    """One step on an open engine. `requests` never ends; after the window, `patience` seconds are waited for answers.

    `shots` are the attempts that ended, in order of their end; those cut off at the end of the step are `cancelled`.
    """

    def __init__(self, engine: Engine, requests: Iterator[Request], window: Window, patience: float) -> None:
        self.shots: list[Shot] = []
        self._engine = engine
        self._requests = requests
        self._window = window
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._flights: set[asyncio.Task[object]] = set()
        self._owed = 0  # requests that were due in the window and haven't ended
        self._is_sent = False  # whether all requests that are due in the window were sent
        self._done = asyncio.Event()

    def now(self) -> float:
        """Seconds since the step began; an attempt takes its times from here."""
        return self._loop.time() - self._start

    async def closed(self, width: int) -> None:
        """`width` users, each with one request in flight."""
        self._loop.call_at(self._start + self._window.end, self._all_sent)
        await self._until_done([self._use() for _ in range(width)])

    async def open(self, dues: Iterator[float]) -> None:
        """Requests when they are due."""
        await self._until_done([self._pump(dues)])

    async def _until_done(self, work: list[Coroutine[None, None, object]]) -> None:
        for each in work:
            self._spawn(each)
        end = self._start + self._window.end
        timers = [self._loop.call_at(end, self._look), self._loop.call_at(end + self._patience, self._done.set)]
        try:
            await self._done.wait()
        finally:
            for timer in timers:
                timer.cancel()
            flights = list(self._flights)
            for flight in flights:
                flight.cancel()
            ends = await asyncio.gather(*flights, return_exceptions=True)
        for ended in ends:
            if isinstance(ended, Exception):
                raise ended  # a bug of ours

    def _spawn(self, work: Coroutine[None, None, object]) -> None:
        flight: asyncio.Task[object] = self._loop.create_task(work)
        self._flights.add(flight)
        flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[object]) -> None:
        if flight.cancelled() or flight.exception() is None:
            self._flights.discard(flight)
        else:
            self._done.set()  # its error is raised where the step ends

    def _all_sent(self) -> None:
        self._is_sent = True
        self._look()

    def _look(self) -> None:
        """Whether the step is over: its window has passed, and nothing that counts is in flight."""
        if self._is_sent and not self._owed and self.now() >= self._window.end:
            self._done.set()

    async def _use(self) -> None:
        while True:
            due = self.now()
            self._owe(due)
            ended = await self._answer(due)
            await asyncio.sleep(0 if ended.outcome == "answered" else AFTER_FAILURE)

    async def _pump(self, dues: Iterator[float]) -> None:
        for due in dues:
            if due >= self._window.end:
                self._all_sent()
            await asyncio.sleep(max(0.0, due - self.now()))
            self._owe(due)
            self._spawn(self._answer(due))

    def _owe(self, due: float) -> None:
        self._owed += self._window.holds(due)

    async def _answer(self, due: float) -> Attempt:
        request, sent = next(self._requests), self.now()
        meter = Meter(lambda _: None, lambda *_: None)
        outcome, kind, prompt, output = "answered", "", 0, 0
        try:
            answer = accept(await attempt(self._engine, request, self, meter), Acceptance())
            prompt, output = answer.prompt_tokens, answer.output_tokens
        except EngineError as error:
            outcome, kind, output = "failed", error.kind, meter.tokens
        except asyncio.CancelledError:
            outcome, output = "cancelled", meter.tokens
            raise
        finally:
            made = Attempt(
                row=request.row,
                lease=1,
                node=0,
                session=0,
                outcome=outcome,
                dispatched=sent,
                finished=self.now(),
                first_token=meter.first,
                prompt_tokens=prompt,
                output_tokens=output,
                itl_sum=meter.itl_sum,
                itl_max=meter.itl_max,
                chunks=meter.chunks,
                width_mean=meter.weighted / meter.tokens if meter.tokens else 0.0,
                width_max=meter.width_max,
                kind=kind,
            )
            self.shots.append(Shot(due=due, attempt=made))
            self._owed -= self._window.holds(due)
            self._look()
        return made
