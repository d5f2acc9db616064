"""Llama 1 to 3.2, Mistral, Qwen2 and Qwen3: rotary positions, RMS norms, a gated MLP, grouped heads.

What differs between them is stated by the configuration: biases, norms of queries and keys, scaled rotations, a
sliding window (which is the batch's matter, not the layer's) and a tied output head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tokenmill.engine.local.attention import Attention, Batch
from tokenmill.engine.local.linear import ACTIVATIONS, make_linear
from tokenmill.engine.local.models.linears import Ranks, make_head, make_summed
from tokenmill.engine.local.models.weights import Weights
from tokenmill.model.config import ModelConfig, RopeScaling


class Llama:
    """A token table, layers, a last norm and the output head."""

    def __init__(self, config: ModelConfig, weights: Weights, ranks: Ranks | None) -> None:
        self.eps = config.norm_eps
        self.tokens = weights.take("embed_tokens.weight")
        self.layers = [Layer(config, weights, ranks, number) for number in range(config.layers)]
        self.norm = weights.take("norm.weight")
        self.head = make_head(weights.take_head(self.tokens if config.tied else None, ranks), config.vocab, ranks)
        self.frequencies = rope_frequencies(config).to(self.tokens.device)

    def __call__(self, batch: Batch, attention: Attention) -> Tensor:
        x = self.tokens[batch.tokens]
        rotation = self._rotation(batch.positions, x.dtype)
        for layer in self.layers:
            x = layer(x, batch, attention, rotation)
        return self.head(functional.rms_norm(x[batch.last], x.shape[-1:], self.norm, self.eps))

    def _rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[n, 1, head_dim]`, worked out in fp32 at any precision, as these models were trained.

        The first half of the sines is negative, which saves negating half of every vector in each layer.
        """
        angles = positions[:, None, None].float() * self.frequencies
        cosines, sines = angles.cos().to(dtype), angles.sin().to(dtype)
        return torch.cat((cosines, cosines), -1), torch.cat((-sines, sines), -1)


class Layer:
    """Attention and MLP, each over a norm and added to the stream; linears over the same input are one."""

    def __init__(self, config: ModelConfig, weights: Weights, ranks: Ranks | None, number: int) -> None:
        self.number = number
        self.config = config
        prefix = f"layers.{number}."
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        inputs = [f"{attention}{name}_proj" for name in ("q", "k", "v")]
        gates = [f"{mlp}{name}_proj" for name in ("gate", "up")]
        self.attention_norm = weights.take(prefix + "input_layernorm.weight")
        self.query_key_value = make_linear(
            weights.join([name + ".weight" for name in inputs]),
            weights.join_if(config.attention_bias, [name + ".bias" for name in inputs]),
        )
        output_bias = weights.take_if(config.output_bias, attention + "o_proj.bias")
        self.output = make_summed(weights.take(attention + "o_proj.weight"), output_bias, ranks)
        self.head_norm = _head_norm(config, weights, attention) if config.qk_norm else None
        self.mlp_norm = weights.take(prefix + "post_attention_layernorm.weight")
        self.gate_up = make_linear(
            weights.join([name + ".weight" for name in gates]),
            weights.join_if(config.mlp_bias, [name + ".bias" for name in gates]),
        )
        self.activate = ACTIVATIONS[config.activation]
        down_bias = weights.take_if(config.mlp_bias, mlp + "down_proj.bias")
        self.down = make_summed(weights.take(mlp + "down_proj.weight"), down_bias, ranks)

    def __call__(self, x: Tensor, batch: Batch, attention: Attention, rotation: tuple[Tensor, Tensor]) -> Tensor:
        config = self.config
        width = x.shape[-1:]
        normal = functional.rms_norm(x, width, self.attention_norm, config.norm_eps)
        heads = self.query_key_value(normal).view(len(x), -1, config.head_dim)
        turning, values = torch.split(heads, [config.heads + config.kv_heads, config.kv_heads], 1)
        if self.head_norm is not None:
            turning = functional.rms_norm(turning, turning.shape[-1:], None, config.norm_eps) * self.head_norm
        queries, keys = torch.split(rotate(turning, *rotation), [config.heads, config.kv_heads], 1)
        x = x + self.output(attention(self.number, batch, queries, keys, values))
        gate, up = self.gate_up(functional.rms_norm(x, width, self.mlp_norm, config.norm_eps)).chunk(2, -1)
        return x + self.down(self.activate(gate) * up)


def _head_norm(config: ModelConfig, weights: Weights, prefix: str) -> Tensor:
    """The norm weights of queries and keys as one, `[heads + kv_heads, head_dim]`."""
    queries = weights.take(prefix + "q_norm.weight").expand(config.heads, -1)
    keys = weights.take(prefix + "k_norm.weight").expand(config.kv_heads, -1)
    return torch.cat((queries, keys))


def rotate(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turns `heads [n, heads, head_dim]`, component i against component i + head_dim / 2."""
    return heads * cosines + heads.roll(heads.shape[-1] // 2, -1) * sines


def rope_frequencies(config: ModelConfig) -> Tensor:
    """Radians a position for each pair of components, `[head_dim / 2]` in fp32."""
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**steps)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "factors":
        return frequencies / torch.tensor(scaling.factors, dtype=frequencies.dtype)
    return frequencies / scaling.factor if scaling.kind == "linear" else _stretch(frequencies, scaling)


def _stretch(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3's scaling: slow rotations are slowed by the factor, fast ones kept, those between blended."""
    turns = scaling.original_context * frequencies / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((turns - scaling.low_freq_factor) / span).clamp(0.0, 1.0)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies
