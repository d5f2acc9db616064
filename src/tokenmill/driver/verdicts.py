"""Verdicts on nodes that may share a device, kept beside the runs for later runs that are too short to measure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.record.atomic import whole_file
from tokenmill.schedule.trial import Verdict

VERDICTS = "verdicts.json"
DATE = "%Y-%m-%d"


class Group(Struct, frozen=True, kw_only=True):
    """Nodes that may share a device: their numbers in the run, and by what a verdict on them is found again.

    `addresses` are those of the nodes, in the same order; `digest` is that of the model which all of them hold.
    """

    nodes: tuple[int, ...]
    addresses: tuple[str, ...]
    host: str
    device: str
    digest: str


class StoredVerdict(Struct, frozen=True, kw_only=True):
    """A verdict as it is kept. `use` are the addresses of the nodes to use; rates, `low` and `high` as in `Verdict`.

    `date` is the day of the measurement, `versions` those of tokenmill and of the servers at that time.
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

    @property
    def key(self) -> tuple[object, ...]:
        return self.host, self.device, self.digest, tuple(sorted(self.addresses))


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
    )


def known_of(group: Group, kept: Sequence[StoredVerdict]) -> Verdict | None:
    """What is kept on these very nodes, with the numbers that they have now; None if nothing is."""
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


def _key(group: Group) -> tuple[object, ...]:
    return group.host, group.device, group.digest, tuple(sorted(group.addresses))
