"""What each rank gets of a cluster, decided from what its nodes have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from tokenmill.launch.ray.wire import Hold


class Share(Struct, frozen=True, kw_only=True):
    """GPUs and CPUs of each rank; `beside`: how many ranks may come to share a node's memory."""

    gpus: float
    cpus: float
    beside: int


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
    fit = [_fit(node, cpus * hold.tp, gpus * hold.tp) for node in nodes]
    return Share(gpus=gpus, cpus=cpus, beside=max(1, min(max(fit, default=1), hold.seats)) * hold.tp)


def _fit(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Workers that this node has room for."""
    room = [node.get("CPU", 0.0) // cpus]
    if gpus:
        room.append(node.get("GPU", 0.0) // gpus)
    return int(min(room))
