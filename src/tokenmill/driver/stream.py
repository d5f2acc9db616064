"""Requests that come as they please, answered by engines that stay open: a run without an end and without a record.

For callers who keep their own books, as a pipeline does. Strategy, retries, suspects and acceptance are those of a
run; only the record is missing, so what was in flight when the process dies is the caller's to send again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from tokenmill.clock import MonotonicClock
from tokenmill.driver.driver import Birth, Driver
from tokenmill.driver.options import Options, Settings, make_strategy
from tokenmill.driver.station import Station
from tokenmill.driver.stations import Reach
from tokenmill.driver.survey import Survey, survey
from tokenmill.errors import NodeGone, TokenmillError, UsageError
from tokenmill.event import Action, Answer, Arrived, Event, SetAside
from tokenmill.record.writer import Parameters
from tokenmill.request import Request
from tokenmill.schedule import Strategy
from tokenmill.workload import predict

#: The last word on a request.
Word = Answer | SetAside


class Stream:
    """Answers requests from any task of one event loop; opened by the first of them."""

    def __init__(self, options: Options, settings: Settings) -> None:
        """Asks the nodes what they are; raises `TokenmillError` for what can't work, before anything is loaded."""
        if settings.budget is not None:
            raise UsageError("a budget needs a record of what was spent; leave it out, or use tokenmill.run")
        self._options = options
        self._settings = settings
        self._found: Survey = survey(options, settings)
        self._clock = MonotonicClock()
        self._waiting: dict[int, tuple[Request, asyncio.Future[Word]]] = {}
        self._rows = 0
        self._driver: Driver | None = None
        self._driving: asyncio.Task[None] | None = None

    async def answer(self, requests: Sequence[Request]) -> list[Word]:
        """The answer to each, or why it has none; raises `TokenmillError` if no node can be used any more."""
        driver = self._open()
        loop = asyncio.get_running_loop()
        words: list[asyncio.Future[Word]] = []
        arrived = []
        for request in requests:
            row, self._rows = self._rows, self._rows + 1
            word: asyncio.Future[Word] = loop.create_future()
            self._waiting[row] = request, word
            words.append(word)
            length = predict(request.prompt or "", request.sampling.max_tokens)
            arrived.append(Arrived(self._clock.now(), row, length))
        driver.join(arrived)
        return await asyncio.gather(*words)

    async def close(self) -> None:
        """Ends the engines; what is still asked for fails."""
        if self._driver is not None and self._driving is not None:
            self._driver.stop(0.0)
            await asyncio.wait({self._driving})

    def fetch(self, row: int) -> Request:
        return self._waiting[row][0]

    def follow(self, row: int, answer: Answer, _now: float) -> Iterable[Birth]:
        self._settle(row, answer)
        return ()

    def _settle(self, row: int, word: Word) -> None:
        _, told = self._waiting.pop(row)
        if not told.done():
            told.set_result(word)

    def _open(self) -> Driver:
        if self._driver is None:
            self._driver = self._make_driver(self._found)
            self._driving = asyncio.get_running_loop().create_task(self._drive(self._driver))
        if self._driving is not None and self._driving.done():
            raise NodeGone("the nodes of this stream are closed or gone; make a new one")
        return self._driver

    def _make_driver(self, found: Survey) -> Driver:
        settings = self._settings
        names = [each.node.name for each in found.nodes]
        strategy, fleet = make_strategy(settings, 0, self._options.seed, names=names)
        return Driver(
            strategy=_Overheard(strategy, self._settle),
            fleet=fleet,
            stations=[Station(index, each.node, each.engine) for index, each in enumerate(found.nodes)],
            source=self,
            clock=self._clock,
            acceptance=self._options.acceptance,
            rows=iter(()),
            unfinished=0,
            leases={},
            next_attempt=0,
            session=0,
            digest=found.first[1].digest,
            reach=Reach(interval=settings.health_interval, tries=settings.remove_after),
            grace=settings.grace,
            open_ended=True,
        )

    async def _drive(self, driver: Driver) -> None:
        """Until the driver ends; whoever waits then hears why."""
        fault: TokenmillError = NodeGone("the stream was closed")
        try:
            await driver.run(_Unwritten)
        except TokenmillError as error:
            fault = error
        except BaseException as error:
            fault = NodeGone(f"the stream broke: {type(error).__name__}: {error}")
            raise
        finally:
            waiting, self._waiting = self._waiting, {}
            for _, told in waiting.values():
                if not told.done():
                    told.set_exception(fault)


class _Overheard:
    """A strategy whose last words on rows are told to somebody else as well."""

    def __init__(self, inner: Strategy, settle: Callable[[int, Word], None]) -> None:
        self._inner = inner
        self._settle = settle

    def on_event(self, event: Event, /) -> list[Action]:
        actions = self._inner.on_event(event)
        for action in actions:
            if isinstance(action, SetAside):
                self._settle(action.row, action)
        return actions


class _Unwritten:
    """Keeps nothing: every entry counts as written by the next turn of the loop."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._number = 0
        self._loop = asyncio.get_running_loop()

    def put(self, *entries: tuple[str, Parameters]) -> int:
        self._number += len(entries)
        self._loop.call_soon(self._tell, self._number)
        return self._number

    def _entry(self, *_what: object, **_more: object) -> int:
        return self.put(("", ()))

    dispatched = finished = ended = set_aside = _entry

    def close(self) -> None: ...

    def _tell(self, number: int) -> None:
        self._driver.on_written(number)
        self._driver.on_committed(number)
