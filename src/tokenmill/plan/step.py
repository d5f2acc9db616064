"""How long one step of a laid-out model takes: a token more for each of the sequences in flight.

Writing is bound by memory: each step reads every weight that some token passes, once for all sequences, and the keys
and values of each sequence (Pope et al., "Efficiently Scaling Transformer Inference", MLSys 2023). Where operations per
second are known, a part takes the longer of reading and computing.

Tensor parallel sums the parts of a layer twice, after attention and after the MLP (Shoeybi et al., "Megatron-LM",
arXiv:1909.08053, 2019). A ring over p devices sends 2 (p - 1) / p of the bytes over each link, in 2 (p - 1) messages
one after the other (Patarasuk and Yuan, "Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations",
Journal of Parallel and Distributed Computing 69(2), 2009). Between two stages the hidden values are sent once.

Stages work one after the other: without microbatches one of them is busy at a time, so a step takes the sum of all.
"""

from __future__ import annotations

from msgspec import Struct

from tokenmill.plan.layout import Copy, Stage
from tokenmill.plan.shape import FORMATS, Shape

#: Sums of a layer's parts over the devices that share it.
SUMS_A_LAYER = 2


class Link(Struct, frozen=True, kw_only=True):
    """What joins two devices: bytes per second in one direction, and the seconds that any message takes."""

    rate: float
    latency: float


class Step(Struct, frozen=True):
    """Seconds of one step: on the devices and between them."""

    devices: float
    between: float

    @property
    def total(self) -> float:
        return self.devices + self.between


def read_once(shape: Shape, dtype: str) -> float:
    """Bytes of weights that a step for one sequence reads, were all of them on one device."""
    return shape.passed * FORMATS[dtype][0]


def step(shape: Shape, dtype: str, copy: Copy, sequences: int, tokens: float, link: Link | None) -> Step:
    """One step for so many sequences, which have so many tokens of keys and values each. One device needs no link."""
    devices = sum(
        _on_device(shape, dtype, stage, copy.tp, sequences, tokens, is_last=stage is copy.stages[-1])
        for stage in copy.stages
    )
    return Step(devices, _between(shape, dtype, copy, sequences, link))


def _on_device(
    shape: Shape, dtype: str, stage: Stage, tp: int, sequences: int, tokens: float, *, is_last: bool
) -> float:
    weight, _ = FORMATS[dtype]
    assert stage.device.bandwidth is not None
    experts = shape.experts_read(sequences)
    read = stage.layers * ((shape.split + experts * shape.expert) / tp + shape.whole)
    passed = stage.layers * ((shape.split + shape.active * shape.expert) / tp + shape.whole)
    if is_last:
        read, passed = read + shape.head / tp, passed + shape.head / tp
    reading = (read * weight + sequences * tokens * stage.kv_token) / stage.device.bandwidth
    computing = 2 * sequences * passed / stage.device.compute if stage.device.compute else 0.0
    return max(reading, computing)


def _between(shape: Shape, dtype: str, copy: Copy, sequences: int, link: Link | None) -> float:
    if copy.devices == 1:
        return 0.0
    assert link is not None
    values = sequences * shape.hidden * FORMATS[dtype][1]
    others = copy.tp - 1
    ring = 2 * others / copy.tp * values / link.rate + 2 * others * link.latency
    hops = (len(copy.stages) - 1) * (values / link.rate + link.latency)
    return SUMS_A_LAYER * shape.layers * ring * (others > 0) + hops


def reading_rate(shape: Shape, copy: Copy) -> float | None:
    """Prompt tokens per second of one copy, bound by operations; None if these aren't known."""
    seconds = 0.0
    for stage in copy.stages:
        if not stage.device.compute:
            return None
        passed = stage.layers * ((shape.split + shape.active * shape.expert) / copy.tp + shape.whole)
        seconds += 2 * passed / stage.device.compute
    return 1 / seconds
