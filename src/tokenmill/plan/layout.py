"""Ways to lay a model over devices, and what each device then holds.

A copy of the model takes `tp` devices side by side in each of `stages` places one after the other: every layer is cut
into `tp` parts (tensor parallel), and the layers are dealt to the stages in order. Copies share nothing, so each
answers requests of its own. As in our own tensor parallel engine, norms and embedding are whole on each device that
needs them, and so is a head that is the embedding itself (tied), so a device holds a little more than its even share.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.plan.gpus import Gpus, count_of
from tokenmill.plan.shape import FORMATS, Shape
from tokenmill.plan.sizes import show_size, show_stated, show_token, two_digits

#: One pass takes no more tokens of prompts than this; the memory for its activations is counted for as many.
PASS_TOKENS = 2048
#: More sequences at a time are not looked for.
MOST_SEQUENCES = 1 << 16


class Stage(Struct, frozen=True, kw_only=True):
    """One of `tp` equal devices that hold the same layers; sizes are bytes of one device."""

    device: Gpus
    layers: int
    weights: float
    kv_token: float
    pass_token: float
    logits: float

    def activations(self, sequences: int) -> float:
        return max(PASS_TOKENS, sequences) * self.pass_token + sequences * self.logits

    def needs(self, sequences: int, tokens: int) -> float:
        """Bytes with so many sequences of so many tokens each."""
        return self.weights + self.activations(sequences) + sequences * tokens * self.kv_token


class Copy(Struct, frozen=True, kw_only=True):
    """One copy of the model, `times` of them on devices of their own."""

    tp: int
    stages: tuple[Stage, ...]
    times: int

    @property
    def devices(self) -> int:
        return self.tp * len(self.stages)

    def batch(self, tokens: int) -> int:
        """The most sequences of so many tokens that every device has room for; 0 if not even one."""
        low, high = 0, MOST_SEQUENCES
        while low < high:
            middle = (low + high + 1) // 2
            if all(stage.needs(middle, tokens) <= stage.device.memory for stage in self.stages):
                low = middle
            else:
                high = middle - 1
        return low

    @property
    def kv_tokens(self) -> int:
        """Tokens of keys and values for which every device has room beside the activations of one full pass."""
        room = [stage.device.memory - stage.needs(1, 0) for stage in self.stages]
        each = [max(0.0, left) / stage.kv_token for left, stage in zip(room, self.stages, strict=True) if stage.layers]
        return floor(min(each))

    @property
    def tightest(self) -> Stage:
        """The stage with the least room beside the weights."""
        return min(self.stages, key=lambda stage: stage.device.memory - stage.weights)


class Layout(Struct, frozen=True, kw_only=True):
    """A way to use the devices: copies of one make, on all kinds of devices, or `only` on one of several."""

    tp: int
    stages: int
    copies: tuple[Copy, ...]
    idle: int
    only: str = ""

    @property
    def replicas(self) -> int:
        return sum(copy.times for copy in self.copies)

    @property
    def name(self) -> str:
        parts = [f"tp {self.tp}"] if self.tp > 1 else []
        parts += [f"layers over {self.stages}"] if self.stages > 1 else []
        if not parts or self.replicas > 1:
            parts.append(f"dp {self.replicas}")
        return " x ".join(parts) + (f" on the {self.only}" if self.only else "")


def widths(shape: Shape, most: int) -> list[int]:
    """The numbers of devices that divide the heads, and those of keys and values too."""
    return [width for width in range(1, most + 1) if not why_not(shape, width)]


def why_not(shape: Shape, width: int) -> str:
    """Why a layer can't be cut into so many parts; empty if it can."""
    for count, what in ((shape.heads, "heads"), (shape.kv_heads, "heads of keys and values")):
        if count % width:
            return f"{shape.name} has {count} {what}, which {width} doesn't divide"
    if shape.intermediate % width:
        return f"the MLP of {shape.name} is {shape.intermediate} wide, which {width} doesn't divide"
    return ""


def make_layout(shape: Shape, dtype: str, groups: Sequence[Gpus], tp: int, stages: int) -> Layout:
    """As many such copies as there are devices for, each on equal ones; unequal ones only if a copy takes them all."""
    total, each = count_of(groups), tp * stages
    if tp == 1 and stages == total and len(groups) > 1:
        copies = [_copy(shape, dtype, [group for group in groups for _ in range(group.count)], 1, 1)]
    else:
        copies = [
            _copy(shape, dtype, [group] * stages, tp, group.count // each) for group in groups if group.count >= each
        ]
    used = sum(copy.devices * copy.times for copy in copies)
    return Layout(tp=tp, stages=stages, copies=tuple(copies), idle=total - used)


def _copy(shape: Shape, dtype: str, devices: Sequence[Gpus], tp: int, times: int) -> Copy:
    dealt = _deal(shape.layers, [device.memory for device in devices])
    last = len(devices) - 1
    stages = [
        _stage(shape, dtype, device, layers, tp, is_first=place == 0, is_last=place == last)
        for place, (device, layers) in enumerate(zip(devices, dealt, strict=True))
    ]
    return Copy(tp=tp, stages=tuple(stages), times=times)


def _stage(shape: Shape, dtype: str, device: Gpus, layers: int, tp: int, *, is_first: bool, is_last: bool) -> Stage:
    weight, element = FORMATS[dtype]
    layer = (shape.split + shape.experts * shape.expert) / tp + shape.whole
    ends = float(shape.embedding) if is_first else 0.0
    if is_last and not (shape.tied and is_first):  # tied, it is the embedding that stands there already
        ends += shape.head / (1 if shape.tied else tp)  # a tied one is looked up by its words, and stays whole
    inner = 2 * shape.intermediate * shape.active + (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    return Stage(
        device=device,
        layers=layers,
        weights=(layers * layer + ends) * weight,
        kv_token=2 * layers * shape.kv_heads / tp * shape.head_dim * element,
        pass_token=(4 * shape.hidden + inner / tp) * element,
        logits=4.0 * shape.vocab if is_last else 0.0,
    )


def _deal(layers: int, memories: Sequence[int]) -> list[int]:
    """Layers in proportion to the memory, the largest remainders rounded up."""
    total = sum(memories)
    shares = [layers * memory / total for memory in memories]
    dealt = [floor(share) for share in shares]
    by_rest = sorted(range(len(shares)), key=lambda place: (dealt[place] - shares[place], place))
    for place in by_rest[: layers - sum(dealt)]:
        dealt[place] += 1
    return dealt


def layouts(
    shape: Shape, dtype: str, groups: Sequence[Gpus], tokens: int, tp: int | None
) -> tuple[list[Layout], list[str]]:
    """Those in which a copy has room for a sequence of so many tokens, and why the others don't do.

    For each width the layers go over as few devices as hold them, which leaves most copies, and over as many as there
    are. Of several kinds of devices each is also tried alone, as slow ones may hold up the others. `tp` asks for one
    width.
    """
    largest = max(group.count for group in groups)
    refused: list[str] = []
    if tp is None and (reason := why_not(shape, largest)):
        refused.append(f"tp {largest}: no: {reason}")
    found: list[Layout] = []
    for width in [tp] if tp is not None else widths(shape, largest):
        mine, reason = _of_width(shape, dtype, groups, tokens, width)
        found += mine
        refused += [reason] if reason else []
        for group in groups if len(groups) > 1 else []:
            apart, _ = _of_width(shape, dtype, [group], tokens, width)
            rest = count_of(groups) - group.count
            known = [each.copies for each in found]
            found += [
                replace(each, only=str(group), idle=each.idle + rest) for each in apart if each.copies not in known
            ]
    return found, refused


def _of_width(shape: Shape, dtype: str, groups: Sequence[Gpus], tokens: int, width: int) -> tuple[list[Layout], str]:
    """The layouts of one width, over the fewest devices and over the most; why a copy of one stage isn't among them."""
    fit: list[Layout] = []
    refused = ""
    for stages in range(1, min(shape.layers, count_of(groups) // width) + 1):
        layout = make_layout(shape, dtype, groups, width, stages)
        roomy = tuple(copy for copy in layout.copies if copy.batch(tokens))
        if roomy:
            lost = sum(copy.devices * copy.times for copy in layout.copies if copy not in roomy)
            fit.append(Layout(tp=width, stages=stages, copies=roomy, idle=layout.idle + lost))
        elif stages == 1 and layout.copies:
            refused = _refusal(shape, dtype, groups, layout, tokens)
    return fit[:1] + fit[1:][-1:], refused


def _refusal(shape: Shape, dtype: str, groups: Sequence[Gpus], layout: Layout, tokens: int) -> str:
    """The arithmetic by which a layout is impossible."""
    weights = shape.parameters * FORMATS[dtype][0]
    copy = max(layout.copies, key=lambda each: each.tightest.device.memory)
    stage = copy.tightest
    if stage.weights <= stage.device.memory:
        return (
            f"{layout.name}: no: {show_stated(stage.device.memory)} a device, less {show_size(stage.weights)} of "
            f"weights and {show_size(stage.activations(1))} of activations, leave no room for the keys and values of a "
            f"sequence of {tokens} tokens ({show_token(stage.kv_token)} a token there)"
        )
    if layout.tp == 1:
        total, copies = sum(group.count * group.memory for group in groups), count_of(groups)
        if copies == 1:
            return f"the one device: no: {show_size(weights)} of weights, and it has {show_stated(total)}"
        return (
            f"dp {copies}, a copy of the model on each device: no: {copies} copies of {show_size(weights)} are "
            f"{_beside(copies * weights, total)} of {show_stated(total)}, and a device has "
            f"{show_stated(stage.device.memory)}"
        )
    return (
        f"{layout.name}: no: {show_size(stage.weights)} of weights on each device (a part of each layer, and the "
        f"embedding whole), which has {show_stated(stage.device.memory)}"
    )


def _beside(size: float, total: int) -> str:
    """A size, with its unit only where it isn't that of the total it is compared with."""
    return two_digits(size / 1e9) if show_stated(total).endswith(" GB") else show_size(size)
