"""What goes wrong in a simulated run."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Outage(Struct, frozen=True, kw_only=True):
    """A node can't be reached from `down` until `up`, or ever again if that is None; from 0, it starts late.

    The driver notices at once: it tells that the node is lost, and when it is up again.
    """

    node: int
    down: float
    up: float | None = None


class Mishap(Struct, frozen=True, kw_only=True):
    """Attempt number `lease` (the first is 1) of a row fails with `kind` after this part of its time.

    With the kind `crash` it takes its node down. `late`: the answer comes all the same, so many seconds later.
    """

    row: int
    kind: str
    lease: int = 1
    part: float = 0.5
    late: float | None = None


class Spell(Struct, frozen=True, kw_only=True):
    """From `begins` until `ends` a server fails what it is sent with `kind`, after so many seconds; probes, too.

    Nobody tells the strategy: it has to find out. `above`: only what comes while so many requests are there already
    fails. `cuts`: what is there when it begins fails as well, at once (a reset), or if the kind is `timeout`, `after`
    that many seconds of silence. `late`: the answer comes all the same, so many seconds after the failure. An empty
    kind fails nothing: the server takes requests, and begins to work when the spell ends, as while it loads a model.
    """

    node: int
    begins: float
    ends: float
    kind: str
    after: float = 0.05
    retry_after: float | None = None
    above: int = 0
    cuts: bool = False
    late: float | None = None


class Faults(Struct, frozen=True, kw_only=True):
    """All that goes wrong; `poison` are rows that crash their node on every attempt, half-way."""

    outages: Sequence[Outage] = ()
    mishaps: Sequence[Mishap] = ()
    spells: Sequence[Spell] = ()
    poison: frozenset[int] = frozenset()


class Script:
    """Finds what goes wrong with an attempt."""

    def __init__(self, faults: Faults) -> None:
        self._mishaps = {(mishap.row, mishap.lease): mishap for mishap in faults.mishaps}
        self._poison = {row: Mishap(row=row, kind="crash") for row in faults.poison}
        self._spells: dict[int, list[Spell]] = {}
        for spell in faults.spells:
            self._spells.setdefault(spell.node, []).append(spell)

    def mishap(self, row: int, lease: int) -> Mishap | None:
        return self._mishaps.get((row, lease)) or self._poison.get(row)

    def spell(self, node: int, now: float, in_flight: int) -> Spell | None:
        """What is wrong with a server now; the first that was named, if it is several things."""
        for spell in self._spells.get(node, ()):
            if spell.begins <= now < spell.ends and in_flight >= spell.above:
                return spell
        return None
