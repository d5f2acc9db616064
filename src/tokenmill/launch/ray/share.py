"""What each rank gets of a cluster, decided from what its nodes have, and what it is told of that.

Ray keeps accounts of processors and binds nobody to them: a rank takes no more threads than were reserved for it
because it is told their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from tokenmill.launch.ray.wire import Hold
from tokenmill.launch.surroundings import BESIDE_VARIABLE, CPUS_VARIABLE


class Share(Struct, frozen=True, kw_only=True):
    """GPUs and CPUs of each rank."""

    gpus: float
    cpus: float


def share(hold: Hold, nodes: Sequence[Mapping[str, float]]) -> Share:
    """What was asked for, or what suits the nodes, each given by its resources.

    Unsaid, a rank with a GPU gets one CPU with it; without GPUs the workers divide the nodes' processors among
    themselves, as one process that uses all of a node is faster than many that share it.
    """
    gpus = hold.gpus
    able = [node["CPU"] for node in nodes if node.get("CPU", 0.0) >= 1]
    together = math.ceil(hold.workers / max(1, len(able)))
    if hold.cpus is not None:
        cpus = hold.cpus
    elif gpus:
        cpus = 1.0
    else:
        cpus = float(max(1, int(min(able, default=1.0) // (together * hold.tp))))
    return Share(gpus=gpus, cpus=cpus)


def wanted(hold: Hold, each: Share) -> dict[str, float]:
    """What a node must have for one worker, by Ray's names; nothing that needn't be there."""
    found = {"GPU": each.gpus * hold.tp, "CPU": each.cpus * hold.tp}
    if hold.resource is not None:
        found[hold.resource[0]] = hold.resource[1]
    return {name: amount for name, amount in found.items() if amount}


def told(hold: Hold, each: Share, node: Mapping[str, float]) -> dict[str, str]:
    """What the ranks of a worker on this node are told: their cores, and how many ranks may share its memory."""
    room = min(node.get(name, 0.0) // amount for name, amount in wanted(hold, each).items())
    beside = max(1, min(int(room), hold.seats)) * hold.tp
    return {CPUS_VARIABLE: str(max(1, int(each.cpus))), BESIDE_VARIABLE: str(beside)}
