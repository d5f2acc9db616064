"""Which nodes of a run may share a device, so that using them together has to be worth it first, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenmill.cluster import Node
from tokenmill.driver.ask_nodes import identity_of, url_of
from tokenmill.driver.launching import groups_on
from tokenmill.driver.options import SERVED, Settings
from tokenmill.driver.verdicts import Group, keep, known_of, read_verdicts, stored_of, unlike
from tokenmill.errors import UsageError
from tokenmill.schedule.choose import trials_of
from tokenmill.schedule.strategy import Strategy
from tokenmill.schedule.trial import Verdict

#: Nodes of a group that are named before the others are only counted.
NAMED = 3


def groups_of(
    nodes: Sequence[Node], digest: str, *, slots: int | None = None, threads: int | None = None
) -> list[Group]:
    """Nodes that may share a device, in groups of two or more; a node is in one group at most.

    Looks at the nodes without asking them for text. `digest` is that of the model which they hold; `slots` and
    `threads` are what is asked of each node. Threads are asked of engines of this machine only.
    """
    if len(nodes) < 2:
        return []
    identity = identity_of(nodes)
    groups: list[list[int]] = []
    for number, node in enumerate(nodes):
        kin = [group for group in groups if any(identity.may_share(node.name, nodes[other].name) for other in group)]
        joined = sorted([number, *(other for group in kin for other in group)])
        groups = [group for group in groups if group not in kin] + [joined]
    return [
        Group(
            nodes=tuple(group),
            addresses=tuple(address_of(nodes[number]) for number in group),
            host=identity.host_of(nodes[group[0]].name).name,
            device=", ".join(sorted({identity.device_of(nodes[number].name).name for number in group})),
            digest=digest,
            slots=slots,
            threads=threads if any(nodes[number].engine not in SERVED for number in group) else None,
        )
        for group in sorted(groups)
        if len(group) > 1
    ]


def address_of(node: Node) -> str:
    """Where a node is: the URL of a server, else KIND:TARGET."""
    url = url_of(node)
    return f"{node.engine}:{node.target}" if url is None else str(url)


class Sharing:
    """The groups of one session, what is `known` of them from before, and afterwards what was found."""

    def __init__(self, nodes: Sequence[Node], settings: Settings, digest: str, runs: Path) -> None:
        self._names = [node.name for node in nodes]
        self._runs = runs
        is_asked = settings.routing == "auto" and settings.together != "yes"
        self.groups = _groups(nodes, settings, digest) if is_asked else []
        kept = self._kept = read_verdicts(runs) if self.groups else ()
        self.known = {group.nodes: verdict for group in self.groups if (verdict := known_of(group, kept)) is not None}
        if settings.together == "no":
            self.known = {group.nodes: _only_one(group, self.known.get(group.nodes)) for group in self.groups}

    @property
    def numbers(self) -> list[tuple[int, ...]]:
        return [group.nodes for group in self.groups]

    def close(self, strategy: Strategy, versions: dict[str, str]) -> list[str]:
        """What was found of each group, with its numbers; measured verdicts are kept, unless the run contradicts."""
        said, new, gone = [], [], []
        trials = {trial.nodes: trial for trial in trials_of(strategy)}
        for group in self.groups:
            trial = trials[group.nodes]
            verdict = trial.verdict or trial.known
            words = str(verdict) if verdict is not None else "not measured: the run ended first"
            if group.nodes not in self.known and (verdict is None or not verdict.is_measured):
                words += self._unlike(group)
            if trial.contradiction:
                gone.append(group)
                words += f", {trial.contradiction}"
            elif verdict is not None and verdict.is_measured:
                new.append(stored_of(group, verdict, versions))
            said.append(f"{self._title(group)}: {words}")
        if new or gone:
            try:
                keep(self._runs, new, gone)
            except (OSError, UsageError) as error:  # the answers count; a later run measures again
                said.append(f"the verdict on shared devices could not be kept: {error}")
        return said

    def _unlike(self, group: Group) -> str:
        """That there is a verdict for another use of these nodes, which says nothing of this one."""
        other = unlike(group, self._kept)
        return "" if other is None else f"; the verdict of {other.date} was measured {other.use_in_words}, so not used"

    def _title(self, group: Group) -> str:
        return titled(self._names[node] for node in group.nodes)


def titled(names: Iterable[str]) -> str:
    """Many nodes are counted, and the first of them named: twenty addresses would bury what is said of them."""
    *first, last = names
    if len(first) > NAMED:
        return f"nodes {', '.join(first[:NAMED])} and {len(first) + 1 - NAMED} more may share a device"
    return f"nodes {', '.join(first)} and {last} may share a device"


def _groups(nodes: Sequence[Node], settings: Settings, digest: str) -> list[Group]:
    if settings.on is not None:
        return groups_on(settings, nodes, digest)
    return groups_of(nodes, digest, slots=settings.slots, threads=settings.threads)


def _only_one(group: Group, known: Verdict | None) -> Verdict:
    """The user's choice: the node that was found best, if one was, else the first."""
    nodes = known.nodes if known is not None and len(known.nodes) == 1 else group.nodes[:1]
    return Verdict(nodes=nodes, why="not measured, as --together is no")
