"""How a model is divided among the ranks of a tensor parallel group: rules about names and shapes, nothing else.

The rules are those of Megatron: the linears that read the stream (queries, keys, values, gate, up) are cut by their
outputs, the linears that write to it (attention output, down) by their inputs, so between the two each rank works on
heads and MLP columns of its own and only the sums meet. The bias of a linear that is cut by its inputs is added after
the sum, once. The output head is cut by words, and its logits meet on the lead. Norms and tables are whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.model.config import ModelConfig
from tokenmill.model.tensors import expected_tensors

if TYPE_CHECKING:
    from torch import Tensor


class Cut(Struct, frozen=True):
    """A tensor is cut along `axis`, which consists of `blocks` equal parts that each rank gets its share of.

    `padded`: the axis needn't divide; all shares have the length of the first, and the last end in zeros.
    """

    axis: int
    blocks: int = 1
    padded: bool = False


#: The output head, or the token table where that is the head.
HEAD = Cut(0, padded=True)

#: GPT-2 stores its linears as [inputs, outputs], and queries, keys and values as one.
_GPT2 = {
    r"h\.\d+\.attn\.c_attn\.weight": Cut(1, blocks=3),
    r"h\.\d+\.attn\.c_attn\.bias": Cut(0, blocks=3),
    r"h\.\d+\.mlp\.c_fc\.weight": Cut(1),
    r"h\.\d+\.mlp\.c_fc\.bias": Cut(0),
    r"h\.\d+\.(attn|mlp)\.c_proj\.weight": Cut(0),
    r"lm_head\.weight": HEAD,
}
#: The others store theirs as [outputs, inputs].
_LLAMA = {
    r"layers\.\d+\.(self_attn\.[qkv]|mlp\.(gate|up))_proj\.(weight|bias)": Cut(0),
    r"layers\.\d+\.(self_attn\.o|mlp\.down)_proj\.weight": Cut(1),
    r"lm_head\.weight": HEAD,
}
_RULES = {
    family: [(re.compile(pattern), cut) for pattern, cut in rules.items()]
    for family, rules in {"gpt2": _GPT2, "llama": _LLAMA}.items()
}


def find_cut(config: ModelConfig, name: str) -> Cut | None:
    """How the tensor with this plain name is cut; None for one that every rank holds whole."""
    rules = _RULES["gpt2" if config.family == "gpt2" else "llama"]
    return next((cut for pattern, cut in rules if pattern.fullmatch(name)), None)


def possible_sizes(config: ModelConfig) -> list[int]:
    """The numbers of ranks among which this model can be divided, 1 among them."""
    common = math.gcd(config.heads, config.kv_heads, config.intermediate)
    return [size for size in range(1, common + 1) if common % size == 0]


def check_size(config: ModelConfig, size: int) -> None:
    """Raises `UsageError` if `size` ranks can't share this model."""
    if size < 1:
        raise UsageError(f"tp {size}: at least 1 rank is needed")
    sizes = possible_sizes(config)
    if size in sizes:
        return
    if config.heads % size:
        what = f"{config.heads} heads"
    elif config.kv_heads % size:
        what = f"{config.kv_heads} head{'s' if config.kv_heads > 1 else ''} of keys and values"
    else:
        what = f"{config.intermediate} columns of the MLP"
    *others, last = [str(each) for each in sizes]
    can = f"{', '.join(others)} and {last} can" if others else "it can't be divided"
    raise UsageError(f"tp {size}: this {config.family} model has {what}, which {size} ranks can't share; {can}")


def share_config(config: ModelConfig, size: int) -> ModelConfig:
    """The model as one rank computes it: fewer heads and a narrower MLP around the same stream."""
    return msgspec.structs.replace(
        config,
        heads=config.heads // size,
        kv_heads=config.kv_heads // size,
        intermediate=config.intermediate // size,
    )


def share_shape(cut: Cut | None, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The shape of one rank's share of a tensor."""
    if cut is None:
        return shape
    return tuple(-(-length // size) if axis == cut.axis else length for axis, length in enumerate(shape))


def share_tensors(config: ModelConfig, size: int) -> dict[str, tuple[int, ...]]:
    """Plain name and shape of every tensor that a rank holds, all of `expected_tensors`."""
    return {name: share_shape(find_cut(config, name), shape, size) for name, shape in expected_tensors(config).items()}


def take_share(tensor: Tensor, cut: Cut | None, rank: int, size: int) -> Tensor:
    """The share of `rank` as a tensor of its own, so that the whole one can go."""
    if cut is None:
        return tensor
    length = tensor.shape[cut.axis]
    if cut.padded:
        each = -(-length // size)
        first = min(length, rank * each)
        share = tensor.new_zeros(share_shape(cut, tuple(tensor.shape), size))
        part = tensor.narrow(cut.axis, first, min(each, length - first))
        share.narrow(cut.axis, 0, part.shape[cut.axis]).copy_(part)
        return share
    before, after = tensor.shape[: cut.axis], tensor.shape[cut.axis + 1 :]
    blocks = tensor.reshape(*before, cut.blocks, size, length // cut.blocks // size, *after)
    return blocks.select(cut.axis + 1, rank).reshape(*before, length // size, *after).clone()


def share_weights(
    config: ModelConfig, weights: Iterable[tuple[str, Tensor]], rank: int, size: int
) -> Iterator[tuple[str, Tensor]]:
    """The share of `rank` of each tensor, one after the other: nothing whole stays longer than that."""
    for name, tensor in weights:
        yield name, take_share(tensor, find_cut(config, name), rank, size)
