"""Which nodes of a run may share a device, so that using them together has to be worth it first, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenmill.cluster import Node
from tokenmill.driver.ask_nodes import identity_of
from tokenmill.schedule.choose import verdicts_of
from tokenmill.schedule.strategy import Strategy


def groups_of(nodes: Sequence[Node]) -> list[list[int]]:
    """Numbers of nodes that may share a device, of groups of two or more; a node is in one group at most.

    Looks at the nodes without asking them for text.
    """
    if len(nodes) < 2:
        return []
    identity = identity_of(nodes)
    groups: list[list[int]] = []
    for number, node in enumerate(nodes):
        kin = [group for group in groups if any(identity.may_share(node.name, nodes[other].name) for other in group)]
        joined = sorted([number, *(other for group in kin for other in group)])
        groups = [group for group in groups if group not in kin] + [joined]
    return [group for group in sorted(groups) if len(group) > 1]


def verdict_lines(strategy: Strategy, names: Sequence[str]) -> list[str]:
    """What was found of each group, with its numbers."""
    return [
        f"nodes {_listed(names[node] for node in group)} may share a device: "
        + (str(verdict) if verdict is not None else "not measured: the run ended first")
        for group, verdict in verdicts_of(strategy).items()
    ]


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}"
