"""Is a device faster with several nodes at work on it than with one? Measured in turns, and judged by an interval.

A `Trial` says which nodes are at work, watches what they make, and moves on: the first alone, all together, the second
alone, all together, and so on, until the interval of the ratio decides or enough turns were tried. Before each turn is
measured, what ran elsewhere has ended and every node at work has answered once. Everything it measures is work of the
run. Without a clear answer one node stays: two that share a device are only used where that was seen to be faster.
After the verdict it goes on watching, and says so if the choice turns out clearly slower than the other was.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, log1p, sqrt
from statistics import fmean, variance

from msgspec import Struct

from tokenmill.stats.student import t_95

#: Turns after a verdict that are too few to contradict it, and how much slower than the other choice they must be.
FEWEST, CLEARLY = 5, 0.05
#: Stretches into which the turns after a verdict are put together.
BATCHES = 10
#: The run's end is not watched, as fewer requests are in flight then: so many turns' worth of it.
ENDING = 3


class TrialPolicy(Struct, frozen=True, kw_only=True):
    """What may be tried.

    `least`, `most`: turns with all together before a verdict, and until which one is looked for. `answers`: from each
    node in a turn. `steps`: turns that the run must last, or trying isn't worth it. `noise`: relative error of a turn
    that is assumed at least.
    """

    least: int = 3
    most: int = 8
    answers: int = 2
    steps: int = 200
    noise: float = 0.01


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of it: the `nodes` to use, tokens a second `together` and of the best one `alone`.

    `low`, `high`: the interval of what together brings, as a part of alone; `why` if nothing was measured. `stored`:
    the day on which an earlier run, or a check, measured it.
    """

    nodes: tuple[int, ...]
    together: float = 0.0
    alone: float = 0.0
    low: float = 0.0
    high: float = 0.0
    why: str = ""
    stored: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether this run measured it."""
        return not self.why and not self.stored

    def __str__(self) -> str:
        use = "all" if len(self.nodes) > 1 else "one"
        if self.why:
            return f"{self.why}: using {use}"
        source = f"stored on {self.stored}: " if self.stored else ""
        return (
            f"{source}{self.together:.1f} tok/s together, {self.alone:.1f} alone, "
            f"95 % interval {100 * self.low:+.0f} to {100 * self.high:+.0f} %: using {use}"
        )


class _Seen:
    """What one node made in the turn that is measured."""

    __slots__ = ("answered", "answers", "chunks", "seconds", "streaming")

    def __init__(self) -> None:
        self.answers = 0
        self.answered = 0.0  # chunks of these answers
        self.chunks = self.seconds = 0.0  # of single streams
        self.streaming = 0.0  # streams, summed over time

    def rate(self, duration: float) -> float:
        """Chunks a second: of one stream, times the streams; without any, by what was answered, which is rougher."""
        if self.seconds > 0 and self.streaming > 0:
            return self.streaming / duration * self.chunks / self.seconds
        return self.answered / duration


class Trial:
    """The trial of one group of nodes; `active` are those that may get requests now.

    `known` is a verdict from before: the trial begins with its nodes, and keeps to it if the run is too short for
    another. One with a `why` was decided by the user, and nothing is tried. `whole` is a node that has for itself what
    the others share: then it is what all others together are compared with, and never works beside them.
    """

    def __init__(
        self,
        nodes: Sequence[int],
        policy: TrialPolicy | None = None,
        known: Verdict | None = None,
        whole: int | None = None,
    ) -> None:
        self.nodes = tuple(nodes)
        self._together = tuple(node for node in nodes if node != whole)
        self._alone = self.nodes if whole is None else (whole,)
        self.known = known
        self.verdict: Verdict | None = known if known is not None and known.why else None
        self.active: tuple[int, ...] = self._alone[:1] if known is None else known.nodes
        self._after: list[float] = []  # logarithms of tokens a second since the verdict
        self._policy = policy or TrialPolicy()
        self._rates: dict[tuple[int, ...], list[float]] = {}  # logarithms of tokens a second
        self._turns = 0
        self._flying: dict[int, tuple[int, int]] = {}  # row: node, turn in which it was sent
        self._streams: dict[int, tuple[float, float, bool]] = {}  # row: looked at, chunks by then, measured turn
        self._measured: set[int] = set()  # rows sent in a turn while it was measured
        self._warm: set[int] = set()
        self._seen: dict[int, _Seen] | None = None
        self._began = self._time = 0.0
        self._turn_began: float | None = None
        self._is_whole = True

    def sent(self, row: int, node: int, time: float) -> None:
        if self._turn_began is None:  # not before: nodes may take long to load
            self._turn_began = time
        self._flying[row] = (node, self._turns)
        if self._seen is not None:
            self._measured.add(row)

    def first_token(self, row: int, time: float) -> None:
        self._advance(time)
        if row in self._flying:
            self._streams[row] = (time, 1.0, self._seen is not None)

    def paced(self, row: int, time: float, chunks: float) -> None:
        self._advance(time)
        if row not in self._streams:
            return
        looked, before, is_measured = self._streams[row]
        if self._seen is not None and is_measured:
            seen = self._seen.get(self._flying[row][0])
            if seen is not None:
                seen.chunks += chunks - before
                seen.seconds += time - looked
        self._streams[row] = (time, chunks, self._seen is not None)

    def ended(self, row: int, time: float, chunks: float | None, left: float) -> None:
        """`left` are the chunks that the rest of the run is expected to have."""
        self._advance(time)
        if row not in self._flying:
            return
        is_measured = row in self._measured or (row in self._streams and self._streams[row][2])
        if chunks is not None:
            self.paced(row, time, chunks)
        node, turn = self._flying.pop(row)
        self._streams.pop(row, None)
        self._measured.discard(row)
        if turn == self._turns and chunks is not None:
            self._answered(node, chunks if is_measured else None)
            self._move_on(left)

    def restrict(self, up: Sequence[int]) -> None:
        """Only these nodes can be used; what was begun is given up if one at work is missing.

        While one is missing nothing is measured: there is nothing to compare with.
        """
        self._is_whole = all(node in up for node in self.nodes)
        if self.verdict is not None:
            active = tuple(node for node in self.verdict.nodes if node in up) or self._whatever(up)
            if active != self.active:
                self._next(active)
        elif not self._is_whole:
            kept = [node for node in self.active if node in up] if self._alone == self.nodes else []
            self._next(kept or self._whatever(up))
        elif self.known is not None and not self._rates and self.active != self.known.nodes:
            self._next(self.known.nodes)  # nodes come up one after the other
        elif self.known is None and not self._rates and self._alone != self.nodes and self.active != self._alone:
            self._next(self._alone)

    def _whatever(self, up: Sequence[int]) -> tuple[int, ...]:
        """What may work while those that should aren't there."""
        if self._alone == self.nodes:
            return tuple(up[:1])
        return tuple(node for node in self._together if node in up) or tuple(up[:1])

    @property
    def contradiction(self) -> str:
        """In words, that the choice was clearly slower afterwards than the other one was when it was measured."""
        found = self.verdict
        if found is None or found.why or len(self._after) < FEWEST:
            return ""
        before, name = (found.alone, "alone") if len(found.nodes) > 1 else (found.together, "together")
        middle = fmean(self._after)
        doubt = _reach(self._after) + (log1p(found.high) - log1p(found.low)) / 2  # of now, and of the trial
        if middle + doubt > log(before) + log(1 - CLEARLY):
            return ""
        return f"but {exp(middle):.1f} tok/s afterwards, clearly less than the {before:.1f} {name}: not kept"

    def _advance(self, time: float) -> None:
        if self._seen is not None:
            for row in self._streams:
                seen = self._seen.get(self._flying[row][0])
                if seen is not None:
                    seen.streaming += time - self._time
        self._time = time

    def _answered(self, node: int, chunks: float | None) -> None:
        """`chunks` is None for an answer that began before the turn was measured."""
        if self._seen is None:
            self._warm.add(node)
            if self._warm >= set(self.active) and all(node in self.active for node, _ in self._flying.values()):
                self._seen = {node: _Seen() for node in self.active}
                self._began = self._time
                self._streams = {row: (looked, chunks, False) for row, (looked, chunks, _) in self._streams.items()}
        elif chunks is not None and node in self._seen:
            self._seen[node].answers += 1
            self._seen[node].answered += chunks

    def _move_on(self, left: float) -> None:
        if self._seen is None or any(seen.answers < self._wanted(node) for node, seen in self._seen.items()):
            return
        duration = self._time - self._began
        if duration <= 0:
            return
        rate = sum(seen.rate(duration) for seen in self._seen.values())
        if rate <= 0:
            return
        if self.verdict is not None:
            self._watch(rate, self.verdict, is_ending=left < ENDING * rate * duration)
            return
        if not self._is_whole:
            return
        self._rates.setdefault(self.active, []).append(log(rate))
        assert self._turn_began is not None, "a turn with answers has begun"
        step = self._time - self._turn_began
        if left / rate < self._policy.steps * step and len(self._rates) == 1:
            nodes = self.active if self._alone == self.nodes else self._together
            self._decide(self.known or Verdict(nodes=nodes, why="not measured: run too short"))
        else:
            self._judge()

    def _wanted(self, node: int) -> int:
        return max(self._policy.answers, sum(where == node for where, _ in self._flying.values()))

    def _judge(self) -> None:
        together = self._rates.get(self._together, [])
        alone = [self._rates.get((node,), []) for node in self._alone]
        if len(together) >= self._policy.least and all(len(rates) > 1 for rates in alone):
            best = max(range(len(alone)), key=lambda number: fmean(alone[number]))
            low, high = _interval(together, alone[best], self._policy.noise)
            if low > 0 or high < 0 or len(together) >= self._policy.most:
                nodes = self._together if low > 0 else (self._alone[best],)
                rates = exp(fmean(together)), exp(fmean(alone[best]))
                found = Verdict(nodes=nodes, together=rates[0], alone=rates[1], low=exp(low) - 1, high=exp(high) - 1)
                self._decide(found)
                return
        if len(self.active) == 1:
            self._next(self._together)
        else:
            self._next([min(self._alone, key=lambda node: (len(self._rates.get((node,), [])), node))])

    def _watch(self, rate: float, verdict: Verdict, *, is_ending: bool) -> None:
        """Notes a turn after the verdict, and begins the next at once."""
        if self.active == verdict.nodes and not is_ending:
            self._after.append(log(rate))
        self._seen = {node: _Seen() for node in self.active}
        self._began = self._time

    def _decide(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self._next(verdict.nodes)

    def _next(self, active: Sequence[int]) -> None:
        self.active = tuple(active)
        self._turns += 1
        self._turn_began = None
        self._warm = set()
        self._measured = set()
        self._seen = None


def _reach(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of turns that follow one another, which are alike if they are neighbours.

    So the means of BATCHES stretches are compared instead of the turns (batch means: Law, Simulation Modeling and
    Analysis, chapter 9): stretches that are longer than what makes neighbours alike are nearly independent.
    """
    size = max(1, len(values) // BATCHES)
    means = [fmean(values[start : start + size]) for start in range(0, len(values) - size + 1, size)]
    return t_95(len(means) - 1) * sqrt(variance(means) / len(means))


def _interval(these: list[float], those: list[float], noise: float) -> tuple[float, float]:
    """The 95 % interval of the difference of two means, by Student's test with a common variance."""
    free = len(these) + len(those) - 2
    common = (variance(these) * (len(these) - 1) + variance(those) * (len(those) - 1)) / free
    spread = sqrt(max(common, noise**2) * (1 / len(these) + 1 / len(those)))
    reach = t_95(free) * spread
    middle = fmean(these) - fmean(those)
    return middle - reach, middle + reach
