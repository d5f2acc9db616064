"""What comes after an answer in a run with a pipeline: judged in a thread of its own, while others are being generated.

A row is handed over once its final word is written, because the storyteller reads it from the record. One batch is
judged at a time, and the next one begins when the entries of the last are written; whatever came meanwhile goes into it
together, so the batches grow as validation falls behind, and generation never waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from tokenmill.clock import Clock
from tokenmill.event import Arrived
from tokenmill.record.stories import Entry

if TYPE_CHECKING:  # they load recipes, templates and validators, which most runs never need
    from tokenmill.driver.storyteller import Batch, Storyteller
    from tokenmill.driver.vectors import Vectors

#: Most rows of one batch: what a stop may have to wait for.
MOST_ROWS = 512
#: The kind of a span in which a batch was judged; it belongs to no node.
SPAN, NO_NODE = "judging", -1


Spawn = Callable[[Coroutine[None, None, None]], object]
Grow = Callable[[list[Entry], list[Arrived], int], int]


class Sequel(Protocol):
    """What a driver tells of final words, and asks before it ends. Everything is called on the run's loop."""

    @property
    def is_busy(self) -> bool:
        """Whether rows may still be born of final words that were told."""
        ...

    def begin(self, grow: Grow, spawn: Spawn) -> None:
        """`grow` records entries, has rows join the run, and counts stories that ended once that is durable.

        `spawn` runs work whose failure ends the run.
        """
        ...

    def heard(self, row: int, number: int) -> None:
        """A row has its final word, which is the entry of this number."""
        ...

    def written(self, number: int) -> None: ...

    async def close(self) -> None:
        """Returns when what was begun is recorded; nothing more is begun."""
        ...


class NoSequel:
    """Of a run whose answers are its end."""

    is_busy = False

    def begin(self, grow: Grow, spawn: Spawn) -> None: ...

    def heard(self, row: int, number: int) -> None: ...

    def written(self, number: int) -> None: ...

    async def close(self) -> None: ...


class Judging:
    """Hands rows to a storyteller, batch by batch. `make` makes it, in the thread that it works in.

    `vectors` is the model that its validators ask, on the run's loop.
    """

    def __init__(
        self, make: Callable[[], Storyteller], clock: Clock, session: int, vectors: Vectors | None = None
    ) -> None:
        self._vectors = vectors
        self._make = make
        self._clock = clock
        self._session = session
        self._unwritten: deque[tuple[int, int]] = deque()
        self._ready: deque[int] = deque()
        self._open = 0
        self._waits_for = 0
        self._working: asyncio.Future[None] | None = None
        self._closing = False
        self._pool = ThreadPoolExecutor(1, "tokenmill-judge")
        self._teller: Storyteller | None = None
        self._grow: Grow
        self._spawn: Spawn

    @property
    def is_busy(self) -> bool:
        return self._open > 0

    def begin(self, grow: Grow, spawn: Spawn) -> None:
        self._grow, self._spawn = grow, spawn
        if self._vectors is not None:
            self._vectors.begin(asyncio.get_running_loop())
        self._open += 1  # until it is known what an earlier session left unjudged
        self._start(self._first())

    def heard(self, row: int, number: int) -> None:
        self._open += 1
        self._unwritten.append((number, row))

    def written(self, number: int) -> None:
        while self._unwritten and self._unwritten[0][0] <= number:
            self._ready.append(self._unwritten.popleft()[1])
        if self._working is None and number >= self._waits_for:
            self._next()

    async def close(self) -> None:
        self._closing = True
        if self._working is not None:
            await asyncio.wait({self._working})
        loop = asyncio.get_running_loop()
        if self._teller is not None:
            await loop.run_in_executor(self._pool, self._teller.close)
        if self._vectors is not None:
            await self._vectors.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _first(self) -> None:
        """Begins with what was answered and not judged when an earlier session ended."""

        def make() -> list[int]:
            self._teller = self._make()
            return self._teller.unjudged()

        left = await asyncio.get_running_loop().run_in_executor(self._pool, make)
        self._ready.extendleft(reversed(left))
        self._open += len(left) - 1
        self._settled(0)

    def _next(self) -> None:
        if self._ready and not self._closing:
            count = min(MOST_ROWS, len(self._ready))
            self._start(self._judge([self._ready.popleft() for _ in range(count)]))

    async def _judge(self, rows: list[int]) -> None:
        def judged() -> tuple[Batch, float]:
            assert self._teller is not None
            return self._teller.go_on(rows, self._clock.now()), self._clock.now()

        start = self._clock.now()
        batch, finish = await asyncio.get_running_loop().run_in_executor(self._pool, judged)
        span = ("span", (self._session, NO_NODE, SPAN, start, finish))
        number = self._grow([*batch.entries, span], batch.arrived, batch.ended)
        self._open -= len(rows)
        self._settled(number)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Runs one piece of work; a stop doesn't break it off, as what was judged shall be recorded."""
        done = asyncio.get_running_loop().create_future()
        self._working = done

        async def guarded() -> None:
            try:
                await work
            finally:
                if not done.done():
                    done.set_result(None)

        self._spawn(guarded())

    def _settled(self, number: int) -> None:
        """A piece of work is done; the next begins once entry `number` is written."""
        self._working = None
        self._waits_for = number
        if number == 0:
            self._next()
