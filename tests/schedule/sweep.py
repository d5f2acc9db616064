"""The sentences workload in virtual time: every strategy, at every number in flight, on every kind of server.

`benchmarks/curves.py` prints what this computes, `test_curves.py` holds `auto` to it. A sentence takes a second on a
server that is otherwise idle, and comes in 25 tokens; the first token of an answer takes a tenth of a second more.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec import Struct

from tokenmill.schedule import make
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import SimNode, SimRow, Simulated, simulate
from tokenmill.workload.builtin import SENTENCES, builtin_rows
from tokenmill.workload.predict import predict

TOKENS = 25
FIRST_TOKEN = 0.1
IN_FLIGHT = (2, 4, 6, 8, 12)
MOST = max(IN_FLIGHT)

#: Hard slots; pace that falls with load; throughput with a knee, early, in the middle and late.
CURVES = {
    "1 slot": Curve(slots=1),
    "2 slots": Curve(slots=2),
    "4 slots": Curve(slots=4),
    "12 slots": Curve(slots=12),
    "falling": Curve(slots=16, serial=0.1),
    "falling fast": Curve(slots=16, serial=0.3),
    "knee at 4": Curve(slots=16, coherence=0.06),
    "knee at 7": Curve(slots=16, serial=0.05, coherence=0.02),
    "knee at 10": Curve(slots=16, serial=0.02, coherence=0.01),
}
#: (strategy, order) of what `auto` is compared with: all that don't need to know the lengths exactly.
FIXED = [
    ("sequential", "file"),
    ("static", "file"),
    ("stealing", "file"),
    ("stealing", "longest-first"),
    ("pull", "file"),
    ("pull", "longest-first"),
]


class Cell(Struct, frozen=True):
    """One run of the sweep; `makespan` in seconds."""

    strategy: str
    order: str
    in_flight: int
    makespan: float


def sentences(spread: float = 0.0, seed: int = 0) -> list[SimRow]:
    """The 30 rows, of which a strategy knows what the prompt says; `spread` makes answers differ from it at random."""
    random = Random(seed)
    prompts = [str(row["prompt"]) for row in builtin_rows("sentences")]
    return [
        SimRow(row=row, tokens=round(count * TOKENS * random.lognormvariate(0, spread)), length=predict(prompt))
        for row, (count, prompt) in enumerate(zip(SENTENCES, prompts, strict=True))
    ]


def play_on(curve: Curve, strategy: str, order: str | None, in_flight: int, rows: Sequence[SimRow]) -> Simulated:
    node = SimNode(slots=in_flight, speed=TOKENS, overhead=FIRST_TOKEN, curve=curve)
    result = simulate(make(strategy, order), rows, [node])
    assert result.unfinished == 0
    return result


def sweep(curve: Curve, rows: Sequence[SimRow]) -> list[Cell]:
    return [
        Cell(strategy, order, in_flight, play_on(curve, strategy, order, in_flight, rows).makespan)
        for strategy, order in FIXED
        for in_flight in IN_FLIGHT
    ]


def bound(curve: Curve, rows: Sequence[SimRow], most: int = MOST) -> float:
    """Seconds below which no schedule gets: the longest answer alone, and all tokens at the best rate there is."""
    tokens = [row.tokens for row in rows]
    return max(max(tokens) / TOKENS, sum(tokens) / TOKENS / curve.best(most)[1])


def in_flight_over_time(result: Simulated) -> list[tuple[float, int]]:
    """(time, requests in flight from then on)."""
    changes: dict[float, int] = {}
    for attempt in result.attempts:
        changes[attempt.dispatched] = changes.get(attempt.dispatched, 0) + 1
        changes[attempt.finished] = changes.get(attempt.finished, 0) - 1
    level, levels = 0, []
    for time in sorted(changes):
        level += changes[time]
        levels.append((time, level))
    return levels
