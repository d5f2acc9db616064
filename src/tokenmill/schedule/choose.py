"""Strategies and orders by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from tokenmill.errors import UsageError
from tokenmill.schedule.order import FileOrder, LongestFirst, Order, rank_by_length, rank_in_file
from tokenmill.schedule.pull import Pull
from tokenmill.schedule.retry import RetryPolicy
from tokenmill.schedule.sequential import Sequential
from tokenmill.schedule.static import Static
from tokenmill.schedule.stealing import Stealing
from tokenmill.schedule.strategy import Strategy
from tokenmill.schedule.supervisor import Supervisor

#: An order is a shared queue for some strategies, a rank within each worker's queue for the others.
_QUEUES: dict[str, Callable[[], Order]] = {"file": FileOrder, "longest-first": LongestFirst}
_RANKS: dict[str, Callable[[int, float], int]] = {"file": rank_in_file, "longest-first": rank_by_length}
_BUILDERS: dict[str, Callable[[str], Strategy]] = {
    "sequential": lambda order: Sequential(_QUEUES[order]()),
    "static": lambda order: Static(_RANKS[order]),
    "stealing": lambda order: Stealing(_RANKS[order]),
    "pull": lambda order: Pull(_QUEUES[order]()),
}

STRATEGIES = tuple(_BUILDERS)
ORDERS = tuple(_QUEUES)


def make(
    strategy: str = "pull",
    order: str = "file",
    *,
    seed: int = 0,
    policy: RetryPolicy | None = None,
    block_of: int | None = None,
) -> Supervisor:
    """A fresh strategy with failure policy around it; `seed` draws the back-off.

    `block_of`, the number of rows to come, makes `static` deal in blocks instead of round robin. Raises `UsageError`
    for a name that isn't known.
    """
    _check("strategy", strategy, STRATEGIES)
    _check("order", order, ORDERS)
    if block_of is None:
        return Supervisor(_BUILDERS[strategy](order), policy, seed)
    if strategy != "static":
        raise UsageError(f"strategy {strategy!r} deals no blocks; use strategy 'static' or leave the blocks out")
    return Supervisor(Static(_RANKS[order], block_of), policy, seed)


def _check(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown {what} {name!r}; {hint}known: {', '.join(known)}")
