"""What a run would take on thousands of nodes: the run's own strategy, failure policy and node states, in virtual time.

Nothing here is a model of the strategy: `make_strategy` makes the objects that a run uses, and every dispatch of every
row goes through them. The nodes are arithmetic (see `tokenmill.schedule.host`), and some of them may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.driver.options import Settings, make_strategy
from tokenmill.errors import UsageError
from tokenmill.schedule.faults import Outage
from tokenmill.schedule.simulate import Faults, SimNode, SimRow, simulate

MOST_NODES = 10_000
MOST_ROWS = 10_000_000
#: How near the time at which all tokens are written is found.
_NEAR = 1e-9


class Losses(Struct, frozen=True, kw_only=True):
    """A part `share` of the nodes is lost once, each at a moment drawn with `seed` from the time that the run takes.

    `back`: seconds after which it is up again, None for never.
    """

    share: float = 0.0
    back: float | None = None
    seed: int = 0

    def of(self, nodes: int) -> int:
        """How many of so many nodes are lost."""
        return round(self.share * nodes)


class Crowd(Struct, frozen=True, kw_only=True):
    """What came of it; times in seconds, `rate` in output tokens per second.

    `ratio` is the makespan as a multiple of the lower bound. `attempts` that ended without an answer are `vain`.
    `events` were told to the strategy; `cpu` is the processor time in seconds that it took to play.
    """

    nodes: int
    slots: int
    rows: int
    output_tokens: int
    strategy: str
    lost: int
    makespan: float
    bound: float
    binding: str
    ratio: float
    rate: float
    attempts: int
    vain: int
    unfinished: int
    events: int
    cpu: float
    stopped: str | None = None


def play_crowd(
    settings: Settings,
    kinds: Sequence[SimNode],
    nodes: int,
    lengths: Sequence[int],
    rows: int,
    losses: Losses,
    seed: int,
) -> Crowd:
    """Plays so many rows, which are as long as `lengths` says over and over, on so many nodes of these kinds in turn.

    Second attempts are off, whatever the settings say: no simulated node straggles.

    Raises:
        UsageError: there are more nodes or rows than can be played, or too few.
    """
    check_crowd(nodes, rows, losses)
    settings = replace(settings, hedge=False)
    hosts = list(islice(cycle(kinds), nodes))
    tokens = _total(lengths, rows)
    rates = [best_rate(kind) for kind in hosts]
    outages = _draw(losses, nodes, tokens / sum(rates))
    began = time.process_time()
    strategy, _ = make_strategy(settings, rows, seed, names=[f"node-{number}" for number in range(1, nodes + 1)])
    played = simulate(strategy, _rows(lengths, rows), hosts, Faults(outages=outages), keep_attempts=False)
    cpu = time.process_time() - began
    bound, binding = _bound(max(lengths[:rows]), tokens, hosts, rates, outages)
    answered = rows - played.unfinished - len(played.set_aside)
    return Crowd(
        nodes=nodes,
        slots=sum(host.slots for host in hosts),
        rows=rows,
        output_tokens=tokens,
        strategy=settings.routing,
        lost=len(outages),
        makespan=played.makespan,
        bound=bound,
        binding=binding,
        ratio=played.makespan / bound,
        rate=tokens / played.makespan if played.makespan else 0.0,
        attempts=played.attempted,
        vain=played.attempted - answered,
        unfinished=rows - answered,
        events=played.delivered,
        cpu=cpu,
        stopped=played.stopped,
    )


def best_rate(node: SimNode) -> float:
    """Tokens per second that a node writes at its best, with any number of requests up to its slots."""
    _, times = node.curve.best(node.slots)
    return times * node.speed


def check_crowd(nodes: int, rows: int, losses: Losses) -> None:
    """Raises `UsageError` for more nodes or rows than can be played, or none."""
    for what, count, most in (("nodes", nodes, MOST_NODES), ("rows", rows, MOST_ROWS)):
        if not 1 <= count <= most:
            raise UsageError(f"{count} {what}: from 1 to {most} can be simulated; choose a number of these")
    if not 0 <= losses.share < 1:
        raise UsageError(f"losses of {100 * losses.share:g} %: give a share from 0 % to below 100 %")


def _rows(lengths: Sequence[int], rows: int) -> Iterator[SimRow]:
    return (SimRow(row=row, tokens=tokens) for row, tokens in enumerate(islice(cycle(lengths), rows)))


def _total(lengths: Sequence[int], rows: int) -> int:
    rounds, rest = divmod(rows, len(lengths))
    return rounds * sum(lengths) + sum(lengths[:rest])


def _draw(losses: Losses, nodes: int, seconds: float) -> list[Outage]:
    random = Random(f"losses of {losses.seed}")
    lost = random.sample(range(nodes), losses.of(nodes))
    moments = [random.uniform(0, seconds) for _ in lost]
    return [
        Outage(node=node, down=down, up=None if losses.back is None else down + losses.back)
        for node, down in zip(lost, moments, strict=True)
    ]


def _bound(
    longest: int, tokens: int, hosts: Sequence[SimNode], rates: Sequence[float], outages: Sequence[Outage]
) -> tuple[float, str]:
    """The lower bound of a certificate: a node counts for the time that it is up."""
    alone = longest / max(host.speed * host.curve.pace(1) for host in hosts)
    decode = low = tokens / sum(rates)
    if outages:
        high = low
        while _written(high, rates, outages) < tokens:
            low, high = high, 2 * high
            if high > 1e6 * decode:
                raise UsageError(
                    "the nodes that are left can't write all tokens; let fewer be lost, or let them return"
                )
        while high - low > _NEAR * high:
            middle = (low + high) / 2
            low, high = (low, middle) if _written(middle, rates, outages) >= tokens else (middle, high)
        decode = high
    return (alone, "longest") if alone > decode else (decode, "decode")


def _written(moment: float, rates: Sequence[float], outages: Sequence[Outage]) -> float:
    """Tokens that all nodes together could have written by then."""
    missing = 0.0
    for outage in outages:
        up = moment if outage.up is None else min(moment, outage.up)
        missing += rates[outage.node] * max(0.0, up - outage.down)
    return moment * sum(rates) - missing
