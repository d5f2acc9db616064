"""Which request goes where next: pure state machines, from events to actions.

`make` builds a strategy by name, with failure policy and the states of nodes around it; `simulate` plays one on
virtual time.
"""

from __future__ import annotations

from tokenmill.schedule.choose import ORDERS, STRATEGIES, make
from tokenmill.schedule.fleet import Fleet, Note
from tokenmill.schedule.health import NodePolicy, State
from tokenmill.schedule.retry import RetryPolicy
from tokenmill.schedule.strategy import Strategy
from tokenmill.schedule.supervisor import Supervisor

__all__ = [
    "ORDERS",
    "STRATEGIES",
    "Fleet",
    "NodePolicy",
    "Note",
    "RetryPolicy",
    "State",
    "Strategy",
    "Supervisor",
    "make",
]
