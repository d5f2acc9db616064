"""A purse for the whole run, in tokens or money: when it is nearly empty, the run stops so that it can be resumed.

What is in flight will be paid for too. So the run stops when what was spent, and what the requests in flight are
likely to cost, reach the budget; what still arrives is kept. A budget is therefore exceeded only by as much as the
last answers differ from the mean. An attempt that brought no answer is paid for as well: it failed after the server
had read and written, or another attempt answered first.
"""

from __future__ import annotations

from msgspec import Struct

from tokenmill.event import Action, Cancelled, Dispatch, Event, Failed, Finished, Stop
from tokenmill.schedule.strategy import Strategy


class Budget(Struct, frozen=True, kw_only=True):
    """What a run may spend. `tokens`: read and written. `cost`: in the currency of the prices.

    `price_in`, `price_out`: of a million tokens read and written.
    """

    tokens: int | None = None
    cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0

    def price(self, read: int, written: int) -> float:
        return (read * self.price_in + written * self.price_out) / 1e6


class Spent(Struct):
    """Tokens read and written, over all sessions of the run, the answers they bought, and those that bought none."""

    read: int = 0
    written: int = 0
    answers: int = 0
    vain_read: int = 0
    vain_written: int = 0


class Budgeted:
    """Stops the run before `inner` spends more than the budget; `spent` is what earlier sessions did."""

    heeds_progress = None  # it is the inner strategy's

    def __init__(self, inner: Strategy, budget: Budget, spent: Spent) -> None:
        self.inner = inner
        self._budget = budget
        self._spent = spent
        self._running: set[tuple[int, int]] = set()
        self._is_over = False

    def on_event(self, event: Event, /) -> list[Action]:
        if isinstance(event, Finished | Failed | Cancelled):
            self._running.discard((event.row, event.node))
        if isinstance(event, Finished):
            self._spent.read += event.answer.prompt_tokens
            self._spent.written += event.answer.output_tokens
            self._spent.answers += 1
        elif isinstance(event, Failed | Cancelled) and event.used is not None:
            self._spent.vain_read += event.used.prompt_tokens
            self._spent.vain_written += event.used.output_tokens
        actions: list[Action] = []
        for action in self.inner.on_event(event):
            if isinstance(action, Dispatch):
                if not self._is_over and (reason := self._reason()):
                    self._is_over = True
                    actions.append(Stop(reason))
                if self._is_over:
                    continue
                self._running.add((action.row, action.node))
            actions.append(action)
        return actions

    def _reason(self) -> str:
        """Why one request more would be too much; empty if it wouldn't."""
        spent, budget = self._spent, self._budget
        expected = (len(self._running) + 1) / spent.answers if spent.answers else 0.0
        price = expected * (spent.read + spent.written)
        tokens = spent.read + spent.written + spent.vain_read + spent.vain_written
        if budget.tokens is not None and tokens + price > budget.tokens:
            return f"the budget of {budget.tokens} tokens is nearly spent ({tokens} so far); raise --budget-tokens"
        price = expected * budget.price(spent.read, spent.written)
        cost = budget.price(spent.read + spent.vain_read, spent.written + spent.vain_written)
        if budget.cost is not None and cost + price > budget.cost:
            return f"the budget of {budget.cost:g} is nearly spent ({cost:.4g} so far); raise --budget-cost"
        return ""
