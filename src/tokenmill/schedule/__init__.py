"""Which request goes where next: pure state machines, from events to actions.

`make` builds a strategy by name, with failure policy around it; `simulate` plays one on virtual time.
"""

from __future__ import annotations

from tokenmill.schedule.choose import ORDERS, STRATEGIES, make
from tokenmill.schedule.retry import RetryPolicy
from tokenmill.schedule.strategy import Strategy
from tokenmill.schedule.supervisor import Supervisor

__all__ = ["ORDERS", "STRATEGIES", "RetryPolicy", "Strategy", "Supervisor", "make"]
