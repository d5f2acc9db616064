"""A campaign of trials: several workers play them, broken promises are counted by kind, and what ended is kept.

A trial is one or more stories that the tests' own scenes play. Trials come in lines: a line ends when one of its trials
has nothing to play, as when a command is to be killed at a step that it never makes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from kept import keep, read_kept

#: Faults that are shown in full.
SHOWN = 10


class Outcome(Protocol):
    """What a story came to: faults that begin with their kind, and how many requests were sent again."""

    faults: list[str]
    resent: int


@dataclass(frozen=True)
class Trial:
    """Something to play, by name."""

    name: str
    play: Callable[[], Iterable[tuple[str, Outcome]]]


#: The name of a story, how many requests were sent again, and its faults.
Told = tuple[str, int, list[str]]


@dataclass
class Tally:
    """What trials came to; `resent` counts requests that were in flight at a kill and were sent again."""

    stories: int = 0
    resent: int = 0
    most_resent: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, told: Iterable[Told]) -> None:
        for name, resent, faults in told:
            self.stories += 1
            self.resent += resent
            self.most_resent = max(self.most_resent, resent)
            for fault in faults:
                self.faults[fault.partition(":")[0]] += 1
                self.examples.append(f"{name}: {fault}")


class Campaign:
    """Plays groups of trials, `jobs` at a time; to be left as a context, so that no worker outlives it.

    `kinds`: of faults, in the order of the table. `kept`: the file of finished trials.
    """

    def __init__(self, kept: Path, kinds: Sequence[str], jobs: int) -> None:
        self._file, self._kinds, self._jobs = kept, kinds, jobs
        self._kept: dict[str, list[Told]] = {name: [(*one,) for one in told] for name, told in read_kept(kept)}
        self._lock, self._left = threading.Lock(), threading.Event()
        self._pool = ThreadPoolExecutor(jobs)
        self.stories = self.broken = 0

    def __enter__(self) -> Self:
        if self._kept:
            print(f"{len(self._kept)} trials are in {self._file} from before")
        print(f"{'':28} trials  {'  '.join(self._kinds)}  sent again  at most  time")
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._pool.shutdown(cancel_futures=True)

    def play(self, group: str, lines: Iterable[Iterable[Trial]]) -> None:
        """Plays the trials that aren't kept yet, the lines in turns, and shows what all of the group came to."""
        tally, started = Tally(), time.monotonic()
        waiting = deque(iter(line) for line in lines)
        workers = [self._pool.submit(self._work, group, waiting, tally) for _ in range(self._jobs)]
        for worker in wait(workers, return_when=FIRST_EXCEPTION).done:
            worker.result()
        counts = "  ".join(f"{tally.faults[kind]:>{len(kind)}}" for kind in self._kinds)
        again = f"{tally.resent:>10}  {tally.most_resent:>7}"
        print(f"{group:28} {tally.stories:6}  {counts}  {again}  {time.monotonic() - started:.0f} s", flush=True)
        for example in tally.examples[:SHOWN]:
            print(f"    {example[:400]}", flush=True)
        self.stories += tally.stories
        self.broken += tally.faults.total()

    def verdict(self) -> int:
        """Says how it ended; the exit code."""
        print(f"{self.stories} trials, {self.broken} broken promises: {'FAILED' if self.broken else 'all kept'}")
        return 1 if self.broken else 0

    def _work(self, group: str, waiting: deque[Iterator[Trial]], tally: Tally) -> None:
        while not self._left.is_set() and (found := self._next(waiting)):
            line, trial = found
            key = f"{group}: {trial.name}"
            told = self._kept.get(key)
            if told is None:
                told = [(name, story.resent, story.faults) for name, story in trial.play()]
                with self._lock:
                    keep(self._file, [key, told])
            with self._lock:
                tally.add(told)
                if not told:
                    with suppress(ValueError):
                        waiting.remove(line)

    def _next(self, waiting: deque[Iterator[Trial]]) -> tuple[Iterator[Trial], Trial] | None:
        with self._lock:
            while waiting:
                line = waiting.popleft()
                if (trial := next(line, None)) is not None:
                    waiting.append(line)
                    return line, trial
        return None
