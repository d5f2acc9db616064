"""The lower bound: no run of this work on this hardware can have been shorter, as far as the hardware is known.

It is the largest of three times: the longest answer at the best single-stream pace of any node; all prompt tokens at
the devices' best reading rates together (P); all output tokens at their best writing rates together (R). A device
counts once, however many nodes it has, and for the time it was there. Best is the better of this run and what is
stored of the same host, device and model digest.

The bound can't exceed the makespan: a device's rate is at least its tokens over the time it was there, and the best
pace is at most that of the longest answer. It is only worth a ratio if batching was ever measured on every device
that worked; before that a loop would look perfect.
"""

from __future__ import annotations

from msgspec import Struct

from tokenmill.report.facts import DevicePace, NodeFacts, Pace, RunFacts, merge
from tokenmill.report.measure import Measure
from tokenmill.report.presence import Interval, union_length
from tokenmill.report.rates import WINDOW, Rate, Work
from tokenmill.report.timeline import ANSWERED, INSTANT, Timeline

#: From this mean width on, several requests at the same time count as measured; also the line of the audit.
WIDTH_MEASURED = 1.1

#: A pace is read off answers of at least this many tokens, or off the longest if none is that long.
PACE_TOKENS = 32

UNKNOWN = "bound at width 1 only, hardware limit unknown"


class DeviceRates(Struct, frozen=True, kw_only=True):
    """What the bound uses of one device. `window` is in seconds, `present` the share of the run it was there."""

    host: str
    device: str
    digests: tuple[str, ...]
    prefill: float
    decode: float
    prefill_from: str
    decode_from: str
    prefill_window: float
    decode_window: float
    present: float
    width: float


class Bound(Struct, frozen=True, kw_only=True):
    """The lower bound in seconds with its three parts; `binding` names the part that it is."""

    bound: Measure
    longest: Measure
    prefill: Measure
    decode: Measure
    binding: str
    ratio: Measure
    single_stream: Measure
    devices: tuple[DeviceRates, ...]


class Devices(Struct, frozen=True):
    """The devices of a run: `of_node[i]` is the place of node i's device in `nodes`, which lists each one's nodes."""

    of_node: list[int]
    nodes: list[list[int]]


def devices(facts: RunFacts) -> Devices:
    """Nodes that share a device are one device."""
    places: dict[tuple[str, str], int] = {}
    of_node = [places.setdefault((node.host, node.device), len(places)) for node in facts.nodes]
    grouped: list[list[int]] = [[] for _ in places]
    for node, place in enumerate(of_node):
        grouped[place].append(node)
    return Devices(of_node, grouped)


class Judge:
    """Works out the bound, and the paces of this run that are worth keeping, from the same measurements."""

    def __init__(self, timeline: Timeline, there: list[list[Interval]], group: Devices, read: Work, wrote: Work):
        self.timeline = timeline
        self.there = there
        self.group = group
        self.read = [curve.rate(timeline.makespan) for curve in read.curves]
        self.wrote = [curve.rate(timeline.makespan) for curve in wrote.curves]
        self.times = wrote.times
        self.longest_tokens, self.paces = _single_stream(timeline, group)
        self.came = _pieces(timeline, group)

    def bound(self) -> Bound:
        """The certificate's bound; a part without the numbers for it says so."""
        timeline = self.timeline
        rates = tuple(self._rates(place) for place in range(len(self.group.nodes)))
        pace = min((pace for pace in (*self.paces, *self._stored_streams()) if pace > 0), default=0.0)
        prompt = sum(timeline.prompt[index] for index in timeline.answered())
        output = sum(timeline.output[index] for index in timeline.answered())
        parts = {
            "longest": _time(self.longest_tokens * pace, "no answer with counted output tokens"),
            "prefill": _part(prompt, sum(rate.prefill * rate.present for rate in rates), "no prompt tokens"),
            "decode": _part(output, sum(rate.decode * rate.present for rate in rates), "no output tokens"),
        }
        known = {name: part.value for name, part in parts.items() if part.value is not None}
        binding = max(known, key=known.__getitem__, default="")
        # Equal up to rounding when a part is the whole run.
        least = min(known[binding], timeline.makespan) if known else None
        bound = Measure(least, "s") if known else Measure(None, "s", "no tokens were counted in an answer")
        return Bound(
            bound=bound,
            **parts,
            binding=binding,
            ratio=self._ratio(least, rates),
            single_stream=_time(pace, "no answer with counted output tokens", "s/token"),
            devices=rates,
        )

    def measured(self) -> tuple[DevicePace, ...]:
        """Paces to store: of devices with one model, rates only from windows of at least `WINDOW` seconds."""
        found = []
        for place in range(len(self.group.nodes)):
            nodes = self._nodes(place)
            if len({node.digest for node in nodes}) > 1 or not self.times[place].busy:
                continue
            pace = Pace(
                prefill=_sustained(self.read[place]),
                decode=_sustained(self.wrote[place]),
                single_stream=self.paces[place],
                width=self._width(place),
            )
            found.append(DevicePace(host=nodes[0].host, device=nodes[0].device, digest=nodes[0].digest, pace=pace))
        return tuple(found)

    def _nodes(self, place: int) -> list[NodeFacts]:
        return [self.timeline.facts.nodes[node] for node in self.group.nodes[place]]

    def _stored(self, place: int) -> Pace:
        """The best known from before of any model this device ran."""
        best = Pace()
        for node in self._nodes(place):
            for known in self.timeline.facts.stored:
                if (known.host, known.device, known.digest) == (node.host, node.device, node.digest):
                    best = merge(best, known.pace)
        return best

    def _stored_streams(self) -> list[float]:
        return [self._stored(place).single_stream for place in range(len(self.group.nodes))]

    def _rates(self, place: int) -> DeviceRates:
        nodes, stored, makespan = self._nodes(place), self._stored(place), self.timeline.makespan
        present = max(INSTANT, union_length([span for node in self.group.nodes[place] for span in self.there[node]]))
        read, wrote = self.read[place], self.wrote[place]
        prefill, prefill_from = _better(read, present, stored.prefill)
        decode, decode_from = _better(wrote, present, stored.decode)
        return DeviceRates(
            host=nodes[0].host,
            device=nodes[0].device,
            digests=tuple(dict.fromkeys(node.digest for node in nodes)),
            prefill=prefill,
            decode=decode,
            prefill_from=prefill_from,
            decode_from=decode_from,
            prefill_window=read.window,
            decode_window=wrote.window,
            present=present / makespan if makespan > 0 else 0.0,
            width=max(self._width(place), stored.width),
        )

    def _width(self, place: int) -> float:
        """The device's mean width: as its engines report it, else how much of its writing was seen to overlap.

        Answers that came in one piece show nothing: they may have queued in the server all the while.
        """
        timeline, nodes = self.timeline, self.group.nodes[place]
        tokens = sum(timeline.width_tokens[node] for node in nodes)
        if tokens:
            return sum(timeline.width_sum[node] for node in nodes) / tokens
        times = self.times[place]
        pieces, whole = self.came[place]
        return times.overlap if pieces > 99 * whole else min(1.0, times.overlap)

    def _ratio(self, bound: float | None, rates: tuple[DeviceRates, ...]) -> Measure:
        makespan = self.timeline.makespan
        if bound is None or makespan <= 0:
            return Measure(None, "", "there is no bound without answers")
        worked = [rate for rate, times in zip(rates, self.times, strict=True) if times.busy > 0]
        if any(rate.width < WIDTH_MEASURED for rate in worked):
            return Measure(None, "", UNKNOWN)
        return Measure(bound / makespan, "")


def _single_stream(timeline: Timeline, group: Devices) -> tuple[int, list[float]]:
    """Gaps between tokens in the longest answer, and the best seconds per gap on each device (0: none)."""
    most = max((timeline.output[index] for index in timeline.answered()), default=0)
    least, best, longest = min(PACE_TOKENS, most), [0.0] * len(group.nodes), 0
    if not most:
        return 0, best
    for index, output in enumerate(timeline.output):
        if output < least or timeline.outcome[index] != ANSWERED:
            continue
        # The first token of a streamed answer belongs to reading the prompt.
        gaps = output - 1 if timeline.streamed[index] else output
        longest = max(longest, gaps)
        place = group.of_node[timeline.node[index]]
        pace = max(timeline.finished[index] - timeline.wrote[index], INSTANT) / gaps
        best[place] = min(best[place] or pace, pace)
    return longest, best


def _pieces(timeline: Timeline, group: Devices) -> list[tuple[int, int]]:
    """Per device, how many answers came in pieces and how many as a whole."""
    pieces, whole = [0] * len(group.nodes), [0] * len(group.nodes)
    for index in timeline.answered():
        place = group.of_node[timeline.node[index]]
        if timeline.streamed[index]:
            pieces[place] += 1
        else:
            whole[place] += 1
    return list(zip(pieces, whole, strict=True))


def _better(rate: Rate, present: float, stored: float) -> tuple[float, str]:
    """The better of this run's rate and the stored one, in tokens per second, and which it is."""
    here = max(rate.best, rate.total / present)
    return (stored, "stored") if stored > here else (here, "this run")


def _sustained(rate: Rate) -> float:
    return rate.best if rate.window >= WINDOW else 0.0


def _part(tokens: int, rate: float, nothing: str) -> Measure:
    return _time(tokens / rate if rate > 0 else 0.0, nothing)


def _time(seconds: float, nothing: str, unit: str = "s") -> Measure:
    return Measure(seconds, unit) if seconds > 0 else Measure(None, unit, nothing)
