"""Verdicts on nodes that may share a device, kept beside the runs for later runs that are too short to measure.

What the answer depends on is part of the key: which nodes, which model, and how they were used. Two nodes that don't
help each other with 1 request each may do so with 16, and two local engines may with 1 thread each.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tokenmill.errors import UsageError
from tokenmill.record.atomic import whole_file
from tokenmill.schedule.trial import Verdict

VERDICTS = "verdicts.json"
DATE = "%Y-%m-%d"


class Group(Struct, frozen=True, kw_only=True):
    """Nodes that may share a device: their numbers in the run, and by what a verdict on them is found again.

    `addresses` are those of the nodes, in the same order; `digest` is that of the model which all of them hold.
    `slots` and `threads` are what the user asked of each node, None if that is left to it.
    """

    nodes: tuple[int, ...]
    addresses: tuple[str, ...]
    host: str
    device: str
    digest: str
    slots: int | None = None
    threads: int | None = None


class StoredVerdict(Struct, frozen=True, kw_only=True):
    """A verdict as it is kept. `use` are the addresses of the nodes to use; rates, `low` and `high` as in `Verdict`.

    `date` is the day of the measurement, `versions` those of tokenmill and of the servers at that time. `slots` and
    `threads` as in `Group`; files of earlier versions don't say them, so that no run asks for the same.
    """

    host: str
    device: str
    digest: str
    addresses: tuple[str, ...]
    use: tuple[str, ...]
    together: float
    alone: float
    low: float
    high: float
    date: str
    versions: dict[str, str] = {}
    slots: int | UnsetType | None = UNSET
    threads: int | UnsetType | None = UNSET

    @property
    def key(self) -> tuple[object, ...]:
        return *self.subject, self.slots, self.threads

    @property
    def subject(self) -> tuple[object, ...]:
        """What it is about, however that was used."""
        return self.host, self.device, self.digest, tuple(sorted(self.addresses))

    @property
    def use_in_words(self) -> str:
        """How the nodes were used when it was measured."""
        if self.slots is UNSET or self.threads is UNSET:
            return "with slots and threads that weren't kept"
        slots = "as many slots as the nodes have" if self.slots is None else f"--slots {self.slots}"
        return f"with {slots}" if self.threads is None else f"with {slots} and --threads {self.threads}"


def read_verdicts(runs: Path) -> tuple[StoredVerdict, ...]:
    path = runs / VERDICTS
    if not path.exists():
        return ()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[StoredVerdict, ...])
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: unreadable ({error}); delete it, verdicts are measured again") from error
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); make it readable or delete it") from error


def keep(runs: Path, new: Iterable[StoredVerdict], gone: Iterable[Group] = ()) -> None:
    """Puts new verdicts in the place of older ones on the same nodes, and takes out those on the groups `gone`."""
    best = {stored.key: stored for stored in (*read_verdicts(runs), *new)}
    for group in gone:
        best.pop(_key(group), None)
    runs.mkdir(parents=True, exist_ok=True)
    with whole_file(runs / VERDICTS) as file:
        file.write(msgspec.json.format(msgspec.json.encode(tuple(best.values())), indent=1) + b"\n")


def stored_of(group: Group, verdict: Verdict, versions: dict[str, str]) -> StoredVerdict:
    """A verdict that was measured today, as it is kept."""
    address = dict(zip(group.nodes, group.addresses, strict=True))
    return StoredVerdict(
        host=group.host,
        device=group.device,
        digest=group.digest,
        addresses=group.addresses,
        use=tuple(address[node] for node in verdict.nodes),
        together=verdict.together,
        alone=verdict.alone,
        low=verdict.low,
        high=verdict.high,
        date=time.strftime(DATE),
        versions=versions,
        slots=group.slots,
        threads=group.threads,
    )


def known_of(group: Group, kept: Sequence[StoredVerdict]) -> Verdict | None:
    """What is kept on these very nodes, used like now, with the numbers that they have now; None if nothing is."""
    stored = next((each for each in kept if each.key == _key(group)), None)
    if stored is None:
        return None
    nodes: list[int] = []
    for address in stored.use:
        nodes += [
            node
            for node, its in zip(group.nodes, group.addresses, strict=True)
            if its == address and node not in nodes  # two nodes of one address are two engines of this machine
        ][:1]
    return Verdict(
        nodes=tuple(sorted(nodes)),
        together=stored.together,
        alone=stored.alone,
        low=stored.low,
        high=stored.high,
        stored=stored.date,
    )


def unlike(group: Group, kept: Sequence[StoredVerdict]) -> StoredVerdict | None:
    """The newest verdict on these very nodes, used in another way than now; None if there is none."""
    about = [each for each in kept if each.subject == _subject(group) and each.key != _key(group)]
    return max(about, key=lambda each: each.date, default=None)


def _key(group: Group) -> tuple[object, ...]:
    return *_subject(group), group.slots, group.threads


def _subject(group: Group) -> tuple[object, ...]:
    return group.host, group.device, group.digest, tuple(sorted(group.addresses))
