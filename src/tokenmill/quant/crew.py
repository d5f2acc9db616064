"""Threads that take numbers from one counter and do something for each, watched by the thread that started them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from tokenmill.clock import Clock
from tokenmill.errors import TokenmillError

#: Seconds between two looks of the watching thread.
TICK = 0.05
#: Seconds between two times that what is done is made safe, and how many times as long as the last one took.
SAFE_EVERY = 0.05
SAFE_SHARE = 10

Tools = TypeVar("Tools")


class Progress(Struct, frozen=True, kw_only=True):
    """Bytes of input: in all, done by earlier runs, and done by this one in so many seconds."""

    total: int
    earlier: int
    done: int
    seconds: float


class Stopped(Exception):
    """Somebody asked to stop before everything was done; what is done is safe."""


class Crew:
    """So many threads; `watch` is told of progress, `should_stop` asked, both by the thread that calls `run`."""

    def __init__(
        self, threads: int, *, watch: Callable[[Progress], None], should_stop: Callable[[], bool], clock: Clock
    ) -> None:
        self.threads = threads
        self._tell = watch
        self._should_stop = should_stop
        self._clock = clock
        self._start = clock.now()
        self._done = 0.0
        self._total = self._earlier = 0

    def expect(self, total: int, earlier: int) -> None:
        """Says what progress is measured against: bytes in all, and those that earlier runs did."""
        self._total, self._earlier = total, earlier

    def run(
        self,
        count: int,
        step: Callable[[int, Tools], float],
        tools: Callable[[], Tools],
        make_safe: Callable[[], None] = lambda: None,
    ) -> None:
        """Calls `step` once for each number below `count`, with tools that no other thread has.

        `step` gives back how many bytes further everything is. `make_safe` is called now and then, and at the end
        whatever happens. Raises what a step raised first, and `Stopped`.
        """
        shift = _Shift(self.threads, count)
        self._show(shift)
        if self._should_stop():
            shift.stop.set()
        threads = [
            threading.Thread(target=shift.work, args=(place, step, tools), name=f"quantize-{place}", daemon=True)
            for place in range(self.threads)
        ]
        for thread in threads:
            thread.start()
        try:
            self._watch(shift, make_safe)
        finally:
            shift.stop.set()
            for thread in threads:
                thread.join()
        self._done += sum(shift.done)
        _end(shift, make_safe)

    def _watch(self, shift: _Shift, make_safe: Callable[[], None]) -> None:
        safe_at = self._clock.now() + SAFE_EVERY
        running = self.threads
        while running:
            running -= shift.ended.acquire(timeout=TICK)
            now = self._show(shift)
            if self._should_stop():
                shift.stop.set()
            if running and now >= safe_at:
                make_safe()
                after = self._clock.now()
                safe_at = after + max(SAFE_EVERY, SAFE_SHARE * (after - now))

    def _show(self, shift: _Shift) -> float:
        now = self._clock.now()
        done = round(self._done + sum(shift.done))
        self._tell(Progress(total=self._total, earlier=self._earlier, done=done, seconds=now - self._start))
        return now


class _Shift:
    """What the threads of one `run` share: a counter, a word to stop, and the first fault."""

    def __init__(self, threads: int, count: int) -> None:
        self.count = count
        self.numbers = itertools.count()
        self.done = [0.0] * threads
        self.stop = threading.Event()
        self.ended = threading.Semaphore(0)
        self.fault: BaseException | None = None
        self.is_left = False

    def work(self, place: int, step: Callable[[int, Tools], float], tools: Callable[[], Tools]) -> None:
        """What a thread does; `next` on the counter is one step of the interpreter, so no number is given twice."""
        try:
            mine = tools()
            while (number := next(self.numbers)) < self.count:
                if self.stop.is_set():
                    self.is_left = True
                    break
                self.done[place] += step(number, mine)
        except BaseException as error:  # noqa: BLE001 - it is raised again by the thread that watches
            self.fault = self.fault or error
            self.stop.set()
        finally:
            self.ended.release()


def _end(shift: _Shift, make_safe: Callable[[], None]) -> None:
    """Makes safe what is done; a fault of a thread is told rather than one of this."""
    try:
        make_safe()
    except TokenmillError:
        if shift.fault is None:
            raise
    if shift.fault is not None:
        raise shift.fault
    if shift.is_left:
        raise Stopped
