"""Which rows of an input are taken: those of one split, and of these perhaps some by chance.

Chance here is a hash of the seed and the row's id, so a row is dealt to the same part whatever else is in the file, and
wherever it stands. The dialogs of an episode are dealt together, or what a model is tested on would resemble what it
learned from.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

from msgspec.structs import replace

from tokenmill.errors import InputFaults
from tokenmill.workload.entry import Entry
from tokenmill.workload.faults import RowFault, refuse, shown
from tokenmill.workload.spec import Spec
from tokenmill.workload.splits import canonical, is_folder

#: Names of splits that are remembered for a message.
_REMEMBERED = 20


class Choice:
    """Decides row by row. Of a folder the files were chosen already, so all their rows are taken."""

    def __init__(self, spec: Spec) -> None:
        self._shares = spec.shares
        self._seed = spec.seed or 0
        self._split = None if is_folder(spec.source) else spec.split
        self._others: Counter[str] = Counter()
        self.without: str | None = None

    def takes(self, fields: Mapping[str, object], name: str) -> bool:
        """Whether the row called `name` is taken; raises `RowFault` for one that doesn't say where it belongs."""
        if self._split is None:
            return True
        if self._shares is not None:
            episode = fields.get("episode_id")
            return self._dealt(name if episode is None else str(episode)) == self._split
        said = fields.get("split")
        episode = fields.get("episode")
        if said is None and isinstance(episode, Mapping):
            said = episode.get("split")
        if said is None:
            self.without = self.without or name
            return False
        if not isinstance(said, str):
            raise RowFault(f"split must be a string, not {shown(said)}")
        if canonical(said) == canonical(self._split):
            return True
        if said in self._others or len(self._others) < _REMEMBERED:
            self._others[said] += 1
        return False

    def refusal(self, source: str) -> InputFaults:
        """The error for an input of which no row is taken, or of which some rows don't say where they belong."""
        if self._shares is not None:
            return refuse(source, f"no row is dealt to split {self._split!r}; give it a larger share or another --seed")
        remedy = f"deal rows out with --shares {self._split}=80,other=20, or leave --split out"
        if self.without is not None:
            return refuse(source, f"{shown(self.without)} has no field 'split' that says where it belongs; {remedy}")
        listed = ", ".join(f"{shown(name)} ({count})" for name, count in self._others.most_common())
        return refuse(source, f"no row is in split {self._split!r}; there are {listed}")

    def _dealt(self, key: str) -> str:
        assert self._shares is not None
        point = chance(self._seed, "split", key) * sum(self._shares.values())
        for name, share in sorted(self._shares.items()):
            point -= share
            if point < 0:
                return name
        return name


def sampled(entries: Iterable[Entry], count: int, seed: int) -> Iterator[Entry]:
    """So many of these entries by chance, in their order, numbered anew; all if there are fewer."""
    kept: list[tuple[float, int, Entry]] = []
    for entry in entries:
        item = (-chance(seed, "sample", entry.custom_id), -entry.row, entry)
        if len(kept) < count:
            heapq.heappush(kept, item)
        else:
            heapq.heappushpop(kept, item)
    for row, (_, _, entry) in enumerate(sorted(kept, key=lambda item: -item[1])):
        yield replace(entry, row=row)


def chance(seed: int, use: str, key: str) -> float:
    """A number in [0, 1), the same on every machine."""
    digest = blake2b(f"{use}:{seed}:{key}".encode(errors="surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56
