"""Decoders: packed tokens in, hidden states of the wanted tokens out. One file for each kind of architecture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

from tokenmill.engine.local.attention import Attention, Batch
from tokenmill.engine.local.models.gpt2 import GPT2
from tokenmill.engine.local.models.linears import Ranks
from tokenmill.engine.local.models.llama import Llama
from tokenmill.engine.local.models.weights import Weights
from tokenmill.model.config import ModelConfig


class Model(Protocol):
    """Maps a batch to logits `[len(batch.last), vocab]`; nothing where a rank doesn't lead."""

    def __call__(self, batch: Batch, attention: Attention) -> Tensor: ...


def build_model(config: ModelConfig, weights: Iterable[tuple[str, Tensor]], ranks: Ranks | None = None) -> Model:
    """The decoder of `config.family`, made of tensors that already have their precision and device.

    With `ranks`, configuration and weights are this rank's share.
    """
    taken = Weights(weights)
    return GPT2(config, taken, ranks) if config.family == "gpt2" else Llama(config, taken, ranks)
