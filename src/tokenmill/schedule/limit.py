"""How many requests a node is given at a time, found out by watching it: pure, and the same events give the same limit.

Two questions, each with its own signal; whole latency is none, as it follows the length of the answers.

**How many does it run?** The time to the first token tells, since a node that is full lets a request wait. Nodes start
requests in the order in which they came (Ollama and vLLM do). So when one is started, all that were sent before it and
haven't ended run too: that many slots are proven. It was started no later than the shortest wait before its first
token. One request more than is proven is in flight, which finds the next slot, or waits inside the node for the first
place that becomes free. So there is never more than one beyond the capacity, but for the short slow start: when one
more was answered as promptly as if the node were idle, the number may go up to the next round number at once. That is
the slow start of TCP (Jacobson, 1988), with a scout before each step. A request that stays without its first token,
longer than first tokens take since a place became free, shows that the node has fewer slots than it had.

**How many should it run?** See `knee`.

What first tokens take is smoothed like the round trips of TCP (RFC 6298), over waits counted from when a place was
free, as well as that can be told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import takewhile
from math import inf

from tokenmill.schedule.knee import Knee

#: A wait is prompt up to this multiple of the shortest of the last waits.
PROMPT = 1.25
RECENT = 64
#: Scouts without effect after which slow start is over, though each was answered promptly.
IN_VAIN = 3
#: Ends that may matter for what ran when a request was started.
MOST_ENDS = 64
#: A first token may come that much sooner than in the shortest wait: as a part of that, and in seconds at least.
JITTER, LEAST_JITTER = 0.15, 0.005
#: How far the mean in flight may be from a number to count as that, and how much a look in doubt counts.
STEADY, DOUBT = 0.25, 1 / 16


class _Flight:
    """A request in flight: when it was sent, as which of how many, and where it was last looked at.

    `is_scout`: it was sent to find out whether the node runs one more. `is_overtaken`: a later one was started, so this
    one was too, though no token of it came.
    """

    __slots__ = (
        "among",
        "chunks",
        "in_flight",
        "is_overtaken",
        "is_scout",
        "looked",
        "seen_flying",
        "sent",
        "streams",
    )

    def __init__(self, sent: float, among: int, *, is_scout: bool) -> None:
        self.sent = sent
        self.among = among
        self.is_scout = is_scout
        self.streams = self.is_overtaken = False
        self.look(sent, 0, 0, 0.0)

    def look(self, time: float, chunks: int, in_flight: int, flying: float) -> None:
        self.looked, self.chunks, self.in_flight, self.seen_flying = time, chunks, in_flight, flying


class _Waits:
    """What first tokens take on a node that has a place free."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self.shortest = inf
        self._mean = self._deviation = 0.0

    def add(self, wait: float) -> None:
        if not self._recent:
            self._mean, self._deviation = wait, wait / 2
        else:
            self._deviation += (abs(wait - self._mean) - self._deviation) / 4
            self._mean += (wait - self._mean) / 8
        self._recent.append(wait)
        self.shortest = min(self._recent)

    def is_prompt(self, wait: float) -> bool:
        return wait <= PROMPT * self.shortest

    def is_overdue(self, wait: float) -> bool:
        return bool(self._recent) and wait > max(2 * self._mean, self._mean + 4 * self._deviation)


class Limit:
    """The limit of one node. `ceiling` is never exceeded; `proven` is how many the node was seen to run."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.proven = 0
        self._flights: dict[int, _Flight] = {}  # in the order in which they were sent
        self._waits = _Waits()
        self._knee = Knee()
        self._is_starting = True
        self._vain = 0  # scouts one after another that proved nothing
        self._ends: deque[float] = deque(maxlen=MOST_ENDS)
        self._time = 0.0
        self._flying_time = 0.0  # sum over time of how many fly

    @property
    def shape(self) -> tuple[int, int]:
        """The slots the node is known to have, and the request beyond, which isn't worth it for the last rows."""
        places = self.places
        slots = min(places, max(self.proven, 1))
        return slots, places - slots

    @property
    def places(self) -> int:
        """How many may be in flight."""
        found = self.proven + 1
        if self._is_starting and self.proven > 1:
            found = max(found, _round_number(self.proven))
        wanted = self.ceiling if self._knee.target is None else min(self.ceiling, self._knee.target)
        return max(1, min(found, wanted)) if self.ceiling else 0

    def sent(self, row: int, time: float) -> None:
        self._advance(time)
        among = len(self._flights) + 1
        self._flights[row] = _Flight(time, among, is_scout=among > self.proven)

    def first_token(self, row: int, time: float) -> None:
        flight = self._flights.get(row)
        if flight is None or flight.streams:
            return
        self._advance(time)
        self._note_overdue()
        wait = time - flight.sent
        is_prompt = self._waits.is_prompt(wait)
        ran = self._run_with(flight, self._overtake(row))
        self.proven = max(self.proven, ran)
        if flight.is_scout:
            self._vain = self._vain + 1 if ran < flight.among else 0
            if not is_prompt or self._vain == IN_VAIN:
                self._is_starting = False
        self._waits.add(self._since_free(flight.sent))
        flight.streams = True
        flight.look(time, 1, len(self._flights), self._flying_time)

    def paced(self, row: int, time: float, chunks: int) -> None:
        flight = self._flights.get(row)
        if flight is not None and flight.streams:
            self._advance(time)
            self._knee.watch(len(self._flights))
            self._measure(flight, chunks)

    def ended(self, row: int, time: float, chunks: int | None) -> None:
        """`chunks` is None if there is no answer."""
        flight = self._flights.get(row)
        if flight is None:
            return
        self._advance(time)
        self._note_overdue()
        if chunks is not None:
            self._measure(flight, chunks)
            self._knee.answered(self.ceiling)
        del self._flights[row]
        self._ends.append(time)

    def refused(self) -> None:
        """The node had no place for a request that was sent."""
        self.proven = max(1, min(self.proven, len(self._flights) - 1))
        self._is_starting = False

    def restart(self) -> None:
        """The node was away; what it ran is gone, and it may be another by now."""
        self._flights.clear()
        self.proven = min(self.proven, 1)
        self._is_starting = True

    def _overtake(self, row: int) -> int:
        """Takes note that those sent before it have been started as well; returns how many they are."""
        before = 0
        for other, flight in self._flights.items():
            if other == row:
                break
            before += 1
            flight.is_overtaken = True
        return before

    def _run_with(self, flight: _Flight, before: int) -> int:
        """How many ran when this one was started, itself included: those before it that had not ended then.

        The end that made room for one that waited is often heard of late, so with those only what runs now counts.
        """
        shortest = self._waits.shortest
        started = self._time - shortest + max(JITTER * shortest, LEAST_JITTER)
        is_prompt = self._waits.is_prompt(self._time - flight.sent)
        ended_since = sum(1 for _ in self._ends_since(started)) if is_prompt else 0
        return min(flight.among, before + 1 + ended_since)

    def _since_free(self, sent: float) -> float:
        """The wait from when the place became free: at an end, the one that makes it most like the waits before."""
        usual = self._time - self._waits.shortest
        began, distance = sent, abs(sent - usual)
        for end in self._ends_since(sent):
            if abs(end - usual) < distance:
                began, distance = end, abs(end - usual)
        return self._time - began

    def _ends_since(self, moment: float) -> Iterator[float]:
        """Those later than `moment`, the last one first: usually a few of many."""
        return takewhile(lambda end: end > moment, reversed(self._ends))

    @property
    def _last_end(self) -> float:
        return self._ends[-1] if self._ends else 0.0

    def _advance(self, time: float) -> None:
        past = time - self._time
        self._flying_time += past * len(self._flights)
        self._time = time

    def _note_overdue(self) -> None:
        """The oldest request that waits should have had its first token by now: no more run than are before it.

        One that was overtaken doesn't wait. It is stuck, and takes up its place until its clock runs out.
        """
        for place, flight in enumerate(self._flights.values()):
            if not (flight.streams or flight.is_overtaken):
                if self._waits.is_overdue(self._time - max(flight.sent, self._last_end)):
                    self.proven = max(1, min(self.proven, place))
                    self._is_starting = False
                return

    def _measure(self, flight: _Flight, chunks: int) -> None:
        """Takes the pace since the last look as that of all that run, if as many were in flight all the time.

        Those that still read their prompts count too: they take part in the work, and will stream. One beyond the
        proven slots may wait or read, so it leaves what was seen in doubt.
        """
        seconds, got, in_flight = self._time - flight.looked, chunks - flight.chunks, len(self._flights)
        if seconds > 0 and got > 0 and flight.in_flight == in_flight:
            mean = (self._flying_time - flight.seen_flying) / seconds
            if abs(mean - in_flight) < STEADY:
                running = min(in_flight, self.proven)
                trust = 1.0 if in_flight == running else DOUBT
                self._knee.add(running, got / seconds * running, trust * got)
        flight.look(self._time, chunks, in_flight, self._flying_time)


def _round_number(proven: int) -> int:
    """The next power of two, or one and a half of one beyond 8: where the slots of a node are likely to end."""
    power = 1 << max(proven - 1, 0).bit_length()
    return power * 3 // 4 if power > 8 and proven <= power * 3 // 4 else power
