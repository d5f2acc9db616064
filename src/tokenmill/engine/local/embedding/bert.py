"""BERT: learned positions, a norm after each sum, attention in both directions, and how its words become one vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tokenmill.engine.local.embedding.config import EncoderConfig
from tokenmill.engine.local.embedding.modules import Recipe
from tokenmill.engine.local.linear import Linear, make_linear
from tokenmill.engine.local.models.weights import Weights


class SentenceEncoder:
    """Tokens of some texts to one vector for each."""

    def __init__(self, config: EncoderConfig, recipe: Recipe, weights: Iterable[tuple[str, Tensor]]) -> None:
        """`weights` have their precision and device."""
        taken = Weights(weights)
        self._recipe = recipe
        self._eps = config.norm_eps
        self._words = taken.take("embeddings.word_embeddings.weight")
        segment = taken.take("embeddings.token_type_embeddings.weight")[0]
        self._places = taken.take("embeddings.position_embeddings.weight") + segment
        self._norm = _pair(taken, "embeddings.LayerNorm")
        self._layers = [Layer(config, taken, number) for number in range(config.layers)]

    @torch.inference_mode()
    def embed(self, texts: Sequence[Sequence[int]], width: int) -> Tensor:
        """Vectors `[texts, hidden]` of texts of at most `width` tokens each, on the CPU."""
        device, dtype = self._words.device, self._words.dtype
        tokens = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=device)
        lengths = torch.tensor([len(text) for text in texts], device=device)
        is_there = torch.arange(width, device=device) < lengths[:, None]
        hidden = None
        if any(len(text) < width for text in texts):
            hidden = torch.zeros(is_there.shape, dtype=dtype, device=device).masked_fill_(~is_there, -torch.inf)
        x = self._words[tokens] + self._places[:width]
        x = functional.layer_norm(x.flatten(0, 1), x.shape[-1:], *self._norm, self._eps)
        for layer in self._layers:
            x = layer(x, len(texts), None if hidden is None else hidden[:, None, None])
        return self._one_vector(x.view(len(texts), width, -1), is_there, lengths).float().cpu()

    def _one_vector(self, x: Tensor, is_there: Tensor, lengths: Tensor) -> Tensor:
        if self._recipe.pooling == "cls":
            vectors = x[:, 0]
        else:
            vectors = (is_there.to(x.dtype)[:, None] @ x)[:, 0] / lengths[:, None]
        return functional.normalize(vectors, dim=-1) if self._recipe.normalize else vectors


class Layer:
    """Attention and MLP, each added to its input, and the sum normed."""

    def __init__(self, config: EncoderConfig, weights: Weights, number: int) -> None:
        prefix = f"encoder.layer.{number}."
        inputs = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
        self._heads = config.heads
        self._eps = config.norm_eps
        self._inputs = make_linear(
            weights.join([f"{name}.weight" for name in inputs]), weights.join([f"{name}.bias" for name in inputs])
        )
        self._output = _linear(weights, prefix + "attention.output.dense")
        self._attention_norm = _pair(weights, prefix + "attention.output.LayerNorm")
        self._up = _linear(weights, prefix + "intermediate.dense", config.activation)
        self._down = _linear(weights, prefix + "output.dense")
        self._norm = _pair(weights, prefix + "output.LayerNorm")

    def __call__(self, x: Tensor, texts: int, hidden: Tensor | None) -> Tensor:
        """`x [texts * width, hidden]`; `hidden [texts, 1, 1, width]` is added to the scores of attention."""
        fused = self._inputs(x).view(texts, -1, 3, self._heads, x.shape[-1] // self._heads)
        queries, keys, values = fused.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=hidden)
        x = self._normed(x + self._output(seen.transpose(1, 2).reshape(x.shape)), self._attention_norm)
        return self._normed(x + self._down(self._up(x)), self._norm)

    def _normed(self, x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], *norm, self._eps)


def _linear(weights: Weights, name: str, activation: str = "none") -> Linear:
    return make_linear(weights.take(name + ".weight"), weights.take(name + ".bias"), activation)


def _pair(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    return weights.take(name + ".weight"), weights.take(name + ".bias")
