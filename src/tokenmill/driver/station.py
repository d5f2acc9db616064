"""One node while a run goes on: its engine, whether it is up, what is in flight there, and its restarts."""

from __future__ import annotations

from enum import Enum

from tokenmill.cluster import EngineFacts, Node
from tokenmill.engine import Engine

#: Crashes in a row, without one answer between them, after which a node is given up.
HOPELESS = 20


class Phase(Enum):
    """`FAILING`: the engine died, but not all of its requests have been told yet."""

    OPENING = "opening"
    UP = "up"
    FAILING = "failing"
    GONE = "gone"


class Station:
    """A node's engine and the driver's view of it."""

    def __init__(self, index: int, node: Node, engine: Engine) -> None:
        self.index = index
        self.node = node
        self.engine = engine
        self.phase = Phase.OPENING
        self.facts: EngineFacts | None = None
        self.in_flight = 0
        self.crashes = 0
        self.phase_since = 0.0
        self.resting_since: float | None = None
        self.told: set[str] = set()  # states that were told of

    @property
    def is_up(self) -> bool:
        return self.phase is Phase.UP

    @property
    def is_hopeless(self) -> bool:
        return self.crashes >= HOPELESS
