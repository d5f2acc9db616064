"""Random runs in which everything goes wrong, and what must hold in each of them.

`draw` makes a run of a seed: rows, nodes, a strategy, and faults of every kind that the simulator knows. `play` runs
it on virtual time. `broken_promises` checks what came of it. Equal seeds give equal events, so that a failure can be
looked at again; `benchmarks/schedules.py` plays thousands of them.

All faults end after some minutes, but for nodes that are lost for ever. In a run that is `merciful` the first node is
well in the end; then every row must be answered or fail by a named reason, within a bound on the time after that. In
the others this must hold unless every node was lost or turned out to be misconfigured.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise
from random import Random

from msgspec import Struct

from tokenmill.event import FINAL_KINDS, NODE_KINDS, Attempt
from tokenmill.schedule.choose import ORDERS, STRATEGIES, make
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.faults import Faults, Mishap, Outage, Spell
from tokenmill.schedule.health import NodePolicy, State
from tokenmill.schedule.hedge import HedgePolicy
from tokenmill.schedule.host import SimNode
from tokenmill.schedule.retry import RetryPolicy
from tokenmill.schedule.simulate import SimRow, Simulated, simulate

#: Seconds after which nothing goes wrong any more.
CALM = 300.0
#: What servers put into a Retry-After header, or what is left of it once it was read.
ASKED = (None, None, 0.0, -1.0, 0.5, 3.0, 20.0, 1e9)
MISHAPS = ("transient", "timeout", "crash", "busy", "unreachable", *FINAL_KINDS)


class Ordeal(Struct, frozen=True, kw_only=True):
    """One run, ready to be played."""

    seed: int
    merciful: bool
    strategy: str
    order: str
    rows: list[SimRow]
    nodes: list[SimNode]
    faults: Faults
    retries: RetryPolicy
    policy: NodePolicy
    hedge: HedgePolicy | None = None


def draw(seed: int, *, merciful: bool = False) -> Ordeal:
    """The run of this seed."""
    random = Random(f"{'merciful ' if merciful else ''}ordeal {seed}")
    count = random.choice((1, 2, 2, 3, 3, 4, 6))
    sure = 1 if merciful else 0  # so many nodes come back in any case
    nodes = [_node(random, is_sure=number < sure) for number in range(count)]
    rows = [_row(random, row) for row in range(random.randint(1, 60))]
    faults = Faults(
        outages=[_outage(random, random.randrange(count), sure) for _ in range(random.choice((0, 0, 0, 1, 2)))],
        mishaps=[_mishap(random, len(rows)) for _ in range(random.choice((0, 0, 2, 6)))],
        spells=[spell for number, node in enumerate(nodes) for spell in _spells(random, number, node.slots, sure)]
        + _storm(random, count, sure),
        poison=frozenset(random.sample(range(len(rows)), k=random.choice((0, 0, 0, 1)))),
    )
    return Ordeal(
        seed=seed,
        merciful=merciful,
        strategy=random.choice(STRATEGIES),
        order=random.choice(ORDERS),
        rows=rows,
        nodes=nodes,
        faults=faults,
        retries=RetryPolicy(reserve=random.choice((0, 2, 64)), share=random.choice((0.0, 0.2))),
        policy=NodePolicy(failures=random.choice((2, 5)), health_interval=random.choice((5.0, 30.0))),
        hedge=random.choice((None, HedgePolicy(quantile=0.5, budget=0.5, least=4))),
    )


def play(ordeal: Ordeal, *, keep_log: bool = False) -> Simulated:
    """Plays the run on a fresh strategy."""
    strategy = make(
        ordeal.strategy,
        ordeal.order,
        seed=ordeal.seed,
        policy=ordeal.retries,
        nodes=ordeal.policy,
        names=_names(ordeal),
        hedge=ordeal.hedge,
    )
    legs = 1 if ordeal.hedge is None else 2
    until = _deadline(ordeal)
    return simulate(strategy, ordeal.rows, ordeal.nodes, ordeal.faults, keep_log=keep_log, until=until, legs=legs)


def broken_promises(ordeal: Ordeal, result: Simulated) -> list[str]:
    """What did not hold, in words. That places hold and nothing runs twice, the simulator asserts itself."""
    return [
        *_lost_or_repeated(ordeal, result),
        *_unfair_ends(ordeal, result),
        *_too_many_retries(ordeal, result),
        *_unbounded(ordeal, result),
    ]


# What goes wrong


def _names(ordeal: Ordeal) -> list[str]:
    return [f"node-{number}" for number in range(len(ordeal.nodes))]


def _node(random: Random, *, is_sure: bool) -> SimNode:
    slots = random.choice((1, 1, 2, 4, 8))
    return SimNode(
        slots=slots,
        look_ahead=random.choice((0, 0, 2)),
        speed=random.choice((0.5, 1.0, 4.0, 10.0)),
        overhead=random.choice((0.0, 0.25)),
        restart=random.uniform(0.5, 30) if is_sure or random.random() < 0.7 else None,
        changes=random.choice(((), (), _changes(random, slots))),
    )


def _changes(random: Random, slots: int) -> tuple[tuple[float, Curve], ...]:
    """For a time the node is slower, or has room for fewer; what is beyond that waits inside it."""
    begins = random.uniform(0, CALM / 2)
    worse = Curve(slots=random.randint(1, slots), slowness=random.choice((1.0, 3.0, 10.0)))
    return ((begins, worse), (random.uniform(begins, CALM), Curve()))


def _row(random: Random, row: int) -> SimRow:
    arrives = random.choice((0.0, 0.0, random.uniform(0, 60)))
    return SimRow(row=row, tokens=random.randint(1, 40), length=random.choice((None, 5.0)), arrives=arrives)


def _outage(random: Random, node: int, sure: int) -> Outage:
    down = random.uniform(0, CALM / 2)
    stays = node >= sure and random.random() < 0.3
    return Outage(node=node, down=down, up=None if stays else random.uniform(down, CALM))


def _mishap(random: Random, rows: int) -> Mishap:
    late = random.choice((None, None, random.uniform(0, 20)))
    part, lease = random.choice((0.0, 0.5, 1.0)), random.randint(1, 4)
    return Mishap(row=random.randrange(rows), kind=random.choice(MISHAPS), lease=lease, part=part, late=late)


def _spells(random: Random, node: int, slots: int, sure: int) -> list[Spell]:
    """A node is well, has some bad times, or flaps every few seconds."""
    what = random.random()
    if what < 0.4:
        return []
    if what < 0.55:
        kind, beat, begins = random.choice(("transient", "unreachable")), random.uniform(1, 5), random.uniform(0, 30)
        return [
            Spell(node=node, begins=begins + 2 * beat * turn, ends=begins + (2 * turn + 1) * beat, kind=kind, cuts=True)
            for turn in range(int((CALM / 2) / (2 * beat)))
        ]
    spells = [_spell(random, node, slots) for _ in range(random.randint(1, 3))]
    if node >= sure and random.random() < 0.1:
        spells.append(Spell(node=node, begins=random.uniform(0, 60), ends=CALM, kind="misconfigured"))
    return spells


def _spell(random: Random, node: int, slots: int) -> Spell:
    begins = random.choice((0.0, random.uniform(0, CALM / 2)))
    kind = random.choice(("busy", "busy", "transient", "timeout", "unreachable", ""))
    return Spell(
        node=node,
        begins=begins,
        ends=min(CALM, begins + random.choice((2.0, 20.0, 120.0))),
        kind=kind,
        after=random.uniform(1, 30) if kind == "timeout" else random.choice((0.0, 0.05, 1.0)),
        retry_after=random.choice(ASKED) if kind in ("busy", "transient") else None,
        above=random.randint(0, slots) if kind == "busy" else 0,
        cuts=kind != "busy" and random.random() < 0.5,
        late=random.choice((None, random.uniform(0, 20))) if kind == "timeout" else None,
    )


def _storm(random: Random, nodes: int, sure: int) -> list[Spell]:
    """Now and then all nodes fail at once, and come back at once."""
    if random.random() > 0.2:
        return []
    kinds = ("transient", "busy", "unreachable") if sure else ("transient", "busy", "unreachable", "misconfigured")
    begins, kind = random.uniform(0, 30), random.choice(kinds)
    ends = random.uniform(begins, CALM)
    return [Spell(node=node, begins=begins, ends=ends, kind=kind, cuts=True) for node in range(nodes)]


# What must hold


def _deadline(ordeal: Ordeal) -> float:
    """By when every row must be final.

    After the last fault a node may rest for as long as it asked and was granted, suspects may wait for theirs, and the
    retries for the purse; then the first node alone has to do all the work, every row as often as it may fail.
    """
    retries, policy, first = ordeal.retries, ordeal.policy, ordeal.nodes[0]
    tries = retries.retries + 1 + retries.pardons + retries.charges
    work = sum(first.work(row.tokens) for row in ordeal.rows) * tries
    rests = 1.2 * policy.longest_asked + (tries + 2) * (policy.cap + (first.restart or 0.0)) + 2 * retries.patience
    purse = len(ordeal.rows) * tries * retries.cap / max(1, retries.reserve)
    return CALM + rests + purse + work


def _lost_or_repeated(ordeal: Ordeal, result: Simulated) -> list[str]:
    """I1 to I4: one final word a row, and no attempt but after the end of the one before."""
    faults = []
    if result.unfinished and (ordeal.merciful or not _is_nobody_left(result)):
        faults.append(f"{result.unfinished} rows have no final word after {_deadline(ordeal):.0f} s")
    if result.stopped is not None and not result.unfinished:
        faults.append(f"stopped though nothing was left: {result.stopped}")
    for row in ordeal.rows:
        ends = [attempt for attempt in result.attempts if attempt.row == row.row]
        answers = [attempt for attempt in ends if attempt.outcome == "answered"]
        after = [attempt for attempt in ends if answers and attempt.dispatched > answers[0].finished]
        if len(answers) > 1 or (answers and row.row in result.set_aside) or after:
            faults.append(f"row {row.row} has more than one final word")
        overlaps = (later.dispatched < earlier.finished for earlier, later in pairwise(ends))
        if ordeal.hedge is None and any(overlaps):
            faults.append(f"row {row.row} was sent again before its attempt had ended")
    return faults


def _is_nobody_left(result: Simulated) -> bool:
    """Whether every node was lost or misconfigured at the end. Nobody waits for a lost one but the driver."""
    last = {note.node: note for note in result.notes}
    gone = (State.OFFLINE, State.MISCONFIGURED)
    return all(note.state in gone and note.until is None for note in last.values())


def _unfair_ends(ordeal: Ordeal, result: Simulated) -> list[str]:
    """A row fails by a named reason that is its own: a final kind, its attempts, its crashes, or refused by name."""
    faults = []
    # A second attempt that ends in a crash counts as an ordinary failure, since it ran where nobody sent the row.
    kinds = ("transient", "timeout") if ordeal.hedge is None else ("transient", "timeout", "crash")
    own = Counter(attempt.row for attempt in result.attempts if attempt.kind in kinds)
    for row, action in result.set_aside.items():
        if action.kind in ("transient", "timeout") and own[row] <= ordeal.retries.retries:
            faults.append(f"row {row} was set aside after {own[row]} failures: {action.reason}")
        if action.kind in NODE_KINDS and "nodes that answered others" not in action.reason:
            faults.append(f"row {row} paid for its node: {action.kind}: {action.reason}")
    return faults


def _too_many_retries(ordeal: Ordeal, result: Simulated) -> list[str]:
    """I5: retries are at most the reserve, a share of the answers, and what time gave."""
    policy = ordeal.retries
    size = max(1, policy.reserve, sum(node.slots for node in ordeal.nodes))
    answers = sorted(attempt.finished for attempt in result.attempts if attempt.outcome == "answered")
    attempts = sorted(result.attempts, key=lambda attempt: (attempt.row, attempt.lease))
    retries = []
    for _, of_row in groupby(attempts, key=lambda attempt: attempt.row):
        last: Attempt | None = None  # of those before, the one that ended last: of two at once it speaks for the row
        for attempt in of_row:
            if last is not None and last.finished <= attempt.dispatched and last.kind in ("transient", "timeout"):
                retries.append(attempt.dispatched)
            last = attempt if last is None else max(last, attempt, key=lambda each: each.finished)
    for number, moment in enumerate(sorted(retries), 1):
        earned = policy.share * sum(answer <= moment for answer in answers)
        if number > size + earned + size / policy.cap * moment + 1e-6:
            return [
                f"{number} retries after {moment:.1f} s, when {size + earned:.1f} and one in {policy.cap / size:.1f} s"
            ]
    return []


def _unbounded(ordeal: Ordeal, result: Simulated) -> list[str]:
    """Each rest of a node gives back at most what it had in flight, and wake-ups don't pile up."""
    faults = []
    rests = Counter(note.node for note in result.notes if note.state not in (State.HEALTHY, State.WARMING))
    for number, node in enumerate(ordeal.nodes):
        free = sum(attempt.node == number and attempt.kind in NODE_KINDS for attempt in result.attempts)
        if free > (rests[number] + 1) * (node.slots + node.look_ahead):
            faults.append(f"node {number} gave back {free} rows in {rests[number]} rests")
    if result.wakes > 2 * (len(ordeal.rows) + len(ordeal.nodes)) + 8:
        faults.append(f"{result.wakes} wake-ups were asked for at once")
    return faults
