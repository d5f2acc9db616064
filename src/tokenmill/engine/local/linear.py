"""Linear layers, packed for oneDNN where that works.

On a CPU, a plain linear rearranges its weight in every call. PyTorch can do that once, by operators its compiler
uses; they are private, so they are tried once on a small layer for each precision, their result is compared
with the plain layer, and any difference or error means that the plain one is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

#: Rows the packed layout is made for; others work too.
PACKED_ROWS = 32

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}

#: How the packed operator names an activation: (name, algorithm).
FUSED = {
    "none": ("none", ""),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
}

Linear = Callable[[Tensor], Tensor]


def make_linear(weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Linear:
    """`activation(x @ weight.T + bias)` for x [rows, in], weight [out, in]; `weight` may be freed afterwards."""
    if weight.device.type == "cpu" and packing_works(weight.dtype, activation):
        return _pack(weight, bias, activation)
    return plain_linear(weight, bias, activation)


def plain_linear(weight: Tensor, bias: Tensor | None, activation: str) -> Linear:
    """The layer without any packing, what the packed one is compared with."""
    activate = ACTIVATIONS[activation]
    weight = weight.contiguous()
    return lambda x: activate(functional.linear(x, weight, bias))


def _pack(weight: Tensor, bias: Tensor | None, activation: str) -> Linear:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_ROWS)
    apply = torch.ops.mkldnn._linear_pointwise.default
    name, algorithm = FUSED[activation]
    return lambda x: apply(x, packed, bias, name, [], algorithm)


@lru_cache
def packing_works(dtype: torch.dtype, activation: str) -> bool:
    """Whether the packed operators exist here and agree with the plain layer on a small, uneven example."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(80, 48, generator=generator).to(dtype)
    bias = torch.randn(80, generator=generator).to(dtype)
    inputs = [torch.randn(rows, 48, generator=generator).to(dtype) for rows in (1, 7, 33)]
    try:  # nothing but the private operators
        packed = _pack(weight, bias, activation)
        found = [packed(x) for x in inputs]
    except AttributeError:  # this build has no such operator
        return False
    except RuntimeError:  # it takes other arguments, isn't made for this processor, or refuses the type
        return False
    plain = plain_linear(weight, bias, activation)
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    return all(
        torch.allclose(one.float(), plain(x).float(), rtol=tolerance, atol=tolerance)
        for one, x in zip(found, inputs, strict=True)
    )
