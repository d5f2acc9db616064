"""Tensors by name, each handed out once so that its memory can go when it was repacked."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tokenmill.engine.local.models.linears import Ranks
from tokenmill.engine.local.sharding import HEAD, take_share


class Weights:
    """All tensors of a model, or one rank's share of each; the loader has checked names and shapes."""

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self._tensors = dict(named)

    def take(self, name: str) -> Tensor:
        return self._tensors.pop(name)

    def take_if(self, wanted: bool, name: str) -> Tensor | None:
        return self._tensors.pop(name) if wanted else None

    def take_head(self, table: Tensor | None, ranks: Ranks | None) -> Tensor:
        """The output head, or this rank's share of it; `table` is the token table where that is the head."""
        if table is None:
            return self.take("lm_head.weight")
        return table if ranks is None else take_share(table, HEAD, ranks.rank, ranks.size)

    def join(self, names: list[str]) -> Tensor:
        """Several linears over the same input as one, or their biases."""
        return torch.cat([self._tensors.pop(name) for name in names])

    def join_if(self, wanted: bool, names: list[str]) -> Tensor | None:
        return self.join(names) if wanted else None
