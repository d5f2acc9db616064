"""Strategies and orders by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches

from tokenmill.errors import UsageError
from tokenmill.schedule.fleet import Fleet
from tokenmill.schedule.health import NodePolicy
from tokenmill.schedule.hedge import Hedged, HedgePolicy
from tokenmill.schedule.limited import Limited
from tokenmill.schedule.order import FileOrder, LongestFirst, Order, rank_by_length, rank_in_file
from tokenmill.schedule.packed import Packed
from tokenmill.schedule.prefix import Prefixed
from tokenmill.schedule.pull import Pull, by_gpu, by_priority
from tokenmill.schedule.rate import Rated, RateLimits
from tokenmill.schedule.retry import RetryPolicy
from tokenmill.schedule.sequential import Sequential
from tokenmill.schedule.static import Static
from tokenmill.schedule.stealing import Stealing
from tokenmill.schedule.strategy import Strategy
from tokenmill.schedule.supervisor import Supervisor
from tokenmill.schedule.together import Together
from tokenmill.schedule.trial import Trial, Verdict

#: An order is a shared queue for some strategies, a rank within each worker's queue for the others.
_QUEUES: dict[str, Callable[[], Order]] = {"file": FileOrder, "longest-first": LongestFirst, "packed": Packed}
_RANKS: dict[str, Callable[[int, float], int]] = {
    "file": rank_in_file,
    "longest-first": rank_by_length,
    "packed": rank_by_length,
}
_BUILDERS: dict[str, Callable[[str], Strategy]] = {
    "sequential": lambda order: Sequential(_QUEUES[order]()),
    "static": lambda order: Static(_RANKS[order]),
    "stealing": lambda order: Stealing(_RANKS[order]),
    "pull": lambda order: Pull(_QUEUES[order]()),
    "auto": lambda order: Limited(Pull(Prefixed(_QUEUES[order]))),
    "prefix": lambda order: Pull(Prefixed(_QUEUES[order])),
    "least-loaded": lambda order: Pull(_QUEUES[order](), by_pace=False),
    "priority": lambda order: Pull(_QUEUES[order](), by_priority),
    "gpu-first": lambda order: Pull(_QUEUES[order](), by_gpu),
}

#: The orders of strategies that don't take the file's if none is named.
_OWN_ORDERS = {"auto": "packed", "prefix": "longest-first"}

STRATEGIES = tuple(_BUILDERS)
ORDERS = tuple(_QUEUES)


def make(
    strategy: str = "pull",
    order: str | None = None,
    *,
    seed: int = 0,
    policy: RetryPolicy | None = None,
    block_of: int | None = None,
    nodes: NodePolicy | None = None,
    names: Sequence[str] = (),
    rates: RateLimits | None = None,
    hedge: HedgePolicy | None = None,
    groups: Iterable[Sequence[int]] = (),
    known: Mapping[tuple[int, ...], Verdict] | None = None,
    wholes: Collection[int] = (),
) -> Fleet:
    """A fresh strategy with failure policy and the states of nodes around it; `seed` draws the waits.

    The order is that of the file unless it is named, but for `auto`, which packs, and `prefix`, longest first.
    `block_of`, the number of rows to come, makes `static` deal in blocks instead of round robin. `names` are those of
    the run's nodes, `rates` what each of them allows in a minute. With `hedge`, stragglers get a second attempt.
    `groups` are nodes that may share a device, by number; `auto` finds out whether to use more than one of each, and
    falls back on what is `known` of them from before. Raises `UsageError` for a name that isn't known.
    """
    _check("strategy", strategy, STRATEGIES)
    order = order or _OWN_ORDERS.get(strategy, "file")
    _check("order", order, ORDERS)
    if block_of is None:
        inner = _BUILDERS[strategy](order)
    elif strategy == "static":
        inner = Static(_RANKS[order], block_of)
    else:
        raise UsageError(f"strategy {strategy!r} deals no blocks; use strategy 'static' or leave the blocks out")
    shared = [group for group in groups if len(group) > 1]
    if strategy == "auto" and shared:
        inner = Together(inner, shared, known=known, wholes=wholes)
    supervised: Strategy = Supervisor(inner, policy, seed)
    if hedge is not None:
        supervised = Hedged(supervised, hedge)  # inside the fleet, so that no second attempt goes to a node that rests
    if rates is not None:
        supervised = Rated(supervised, rates)
    return Fleet(supervised, nodes, seed=seed, names=names)


def trials_of(strategy: Strategy) -> list[Trial]:
    """One for each group of nodes that may share a device."""
    here: object = strategy
    while here is not None and not isinstance(here, Together):
        here = getattr(here, "inner", None)
    return here.trials if isinstance(here, Together) else []


def _check(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown {what} {name!r}; {hint}known: {', '.join(known)}")
