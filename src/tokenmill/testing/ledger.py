"""What a server saw, counted as it happens, for tests that assert on the server's own view."""

from __future__ import annotations

from collections import Counter, deque

import msgspec
from msgspec import Struct

from tokenmill.testing.connection import Heard
from tokenmill.testing.fault import AnyFault

TRAIL = 20_000
KEPT = 200
KEPT_BODY = 64 << 10


class Tally(Struct):
    """What became of the attempts at one prompt."""

    attempts: int = 0
    answered: int = 0
    cancelled: int = 0
    faults: int = 0


class State(Struct):
    """The counts of one server. Times are seconds, keys of the histograms are numbers of requests.

    `answered`: right answers sent to the end. `faulted`: requests to which a fault happened, also by its kind in
    `faults`. `refused`: by the queue's limit or a rate. `cancelled`: the client left before the end. `running_seconds`
    and `waiting_seconds`: how long so many ran or waited.
    """

    name: str
    url: str
    up: bool
    requests: int = 0
    asked: int = 0
    answered: int = 0
    faulted: int = 0
    refused: int = 0
    cancelled: int = 0
    running: int = 0
    waiting: int = 0
    connections: int = 0
    connections_made: int = 0
    max_running: int = 0
    max_waiting: int = 0
    max_in_flight: int = 0
    loads: int = 0
    output_tokens: int = 0
    by_path: dict[str, int] = {}
    by_authorization: dict[str, int] = {}
    faults: dict[str, int] = {}
    running_seconds: dict[int, float] = {}
    waiting_seconds: dict[int, float] = {}


class Ledger:
    """Counts for one server. `trail`: time, running and waiting at each of the last changes."""

    def __init__(self, name: str, started: float) -> None:
        self.state = State(name=name, url="", up=False)
        self.prompts: dict[str, Tally] = {}
        self.heard: deque[tuple[Heard, str]] = deque(maxlen=KEPT)
        self.paths: Counter[str] = Counter()
        self._authorizations: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._running_seconds: Counter[int] = Counter()
        self._waiting_seconds: Counter[int] = Counter()
        self.trail: deque[tuple[float, int, int]] = deque(maxlen=TRAIL)
        self._started = self._since = started

    def hear(self, heard: Heard, authorization: str) -> None:
        """A request of any kind came; `authorization` is `none`, `right`, `wrong` or `unasked`, never the key."""
        self.state.requests += 1
        self.paths[heard.path] += 1
        if len(heard.body) > KEPT_BODY:
            heard = msgspec.structs.replace(heard, body=heard.body[:KEPT_BODY])
        self.heard.append((heard, authorization))
        self._authorizations[authorization] += 1

    def occupy(self, now: float, running: int, waiting: int) -> None:
        """So many run and wait from now on."""
        state = self.state
        elapsed = now - self._since
        self._running_seconds[state.running] += elapsed  # type: ignore[assignment]  # a counter of seconds
        self._waiting_seconds[state.waiting] += elapsed  # type: ignore[assignment]  # as above
        self._since = now
        state.running, state.waiting = running, waiting
        self.trail.append((now - self._started, running, waiting))
        if running > state.max_running:
            state.max_running = running
        if waiting > state.max_waiting:
            state.max_waiting = waiting
        if running + waiting > state.max_in_flight:
            state.max_in_flight = running + waiting

    def tally(self, prompt: str) -> Tally:
        found = self.prompts.get(prompt)
        if found is None:
            found = self.prompts[prompt] = Tally()
        return found

    def fault(self, fault: AnyFault) -> None:
        """A fault happened to a request."""
        self.state.faulted += 1
        self._faults[str(type(fault).__struct_config__.tag)] += 1

    def read(self, now: float) -> State:
        """The counts up to now."""
        state = self.state
        self.occupy(now, state.running, state.waiting)
        state.by_path, state.by_authorization = dict(self.paths), dict(self._authorizations)
        state.faults = dict(self._faults)
        state.running_seconds, state.waiting_seconds = dict(self._running_seconds), dict(self._waiting_seconds)
        return state
