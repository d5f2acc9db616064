"""The seam between deciding and doing: events in, actions out."""

from __future__ import annotations

from typing import Protocol

from tokenmill.event import Action, Event


class Strategy(Protocol):
    """Decides which row goes to which node next.

    The rules that every strategy keeps, and that the suite in `tests/contract` checks:

    - It is pure: the same events give the same actions. It never waits, sends, looks at a clock or draws an
      unseeded number.
    - `Finished`, `Failed` and `Cancelled` free the place of a row, which is filled at once if a row waits. A row
      runs again only after another `Arrived`; whether it gets one is the business of `Supervisor`.
    - `NodeLost` takes the node's places away, together with what still runs there; rows that merely waited for that
      node go elsewhere. The end of a row that ran on a lost node frees nothing.
    - The driver announces the rows it knows before the nodes, so that an order has something to choose from.
    - A node has at most `slots + look_ahead` rows in flight. A node that is up isn't announced again before it is lost.
    - `Resized` changes that number. More places are filled at once; with fewer, what runs goes on and nothing is sent
      until enough has ended. A node with 0 slots gets nothing, and rows that merely waited for it go elsewhere. The
      event means nothing for a node that isn't up.
    - `FirstToken` and `Paced` tell how an attempt gets on; most strategies need neither, and say so by a class
      attribute `heeds_progress` that is false, or None if it depends on the strategy `inner`.
    """

    def on_event(self, event: Event, /) -> list[Action]: ...


def heeds_progress(strategy: object) -> bool:
    """Whether it does anything with `FirstToken` and `Paced`; one that doesn't say is taken to."""
    heeds: bool | None = getattr(strategy, "heeds_progress", True)
    return heeds_progress(getattr(strategy, "inner", None)) if heeds is None else heeds
