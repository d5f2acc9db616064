"""The linears of a model that ranks may share: those that end in a sum over all ranks, and the output head."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tokenmill.engine.local.linear import Linear, make_linear


class Ranks(Protocol):
    """The ranks that compute one model together, seen from one of them."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, x: Tensor) -> Tensor:
        """`x` becomes the sum over all ranks."""
        ...

    def gather(self, x: Tensor) -> list[Tensor]:
        """The `x` of every rank where the lead is, nothing elsewhere."""
        ...


def make_summed(weight: Tensor, bias: Tensor | None, ranks: Ranks | None) -> Linear:
    """A linear whose inputs are divided among the ranks; its bias is added to the sum, once."""
    if ranks is None:
        return make_linear(weight, bias)
    part = make_linear(weight)
    return lambda x: _biased(ranks.sum(part(x)), bias)


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x.add_(bias)


def make_head(weight: Tensor, vocab: int, ranks: Ranks | None) -> Linear:
    """The output head, whose words are divided among the ranks; whole logits on the lead, nothing elsewhere."""
    if ranks is None:
        return make_linear(weight)
    part = make_linear(weight)

    def answer(x: Tensor) -> Tensor:
        if not len(x):
            return x.new_empty((0, vocab))
        parts = ranks.gather(part(x))
        return torch.cat(parts, -1)[:, :vocab] if parts else x.new_empty((0, vocab))

    return answer
