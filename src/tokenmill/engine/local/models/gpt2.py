"""GPT-2: learned positions, layer norms, biases everywhere, linears stored as [inputs, outputs]."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from tokenmill.engine.local.attention import Attention, Batch
from tokenmill.engine.local.linear import Linear, make_linear
from tokenmill.engine.local.models.linears import Ranks, make_head, make_summed
from tokenmill.engine.local.models.weights import Weights
from tokenmill.model.config import ModelConfig


class GPT2:
    """Token and position tables, layers, a last norm and the output head."""

    def __init__(self, config: ModelConfig, weights: Weights, ranks: Ranks | None) -> None:
        self.eps = config.norm_eps
        self.tokens = weights.take("wte.weight")
        self.positions = weights.take("wpe.weight")
        self.layers = [Layer(config, weights, ranks, number) for number in range(config.layers)]
        self.norm = weights.take("ln_f.weight"), weights.take("ln_f.bias")
        self.head = make_head(weights.take_head(self.tokens if config.tied else None, ranks), config.vocab, ranks)

    def __call__(self, batch: Batch, attention: Attention) -> Tensor:
        x = self.tokens[batch.tokens] + self.positions[batch.positions]
        for layer in self.layers:
            x = layer(x, batch, attention)
        return self.head(_norm(x[batch.last], self.norm, self.eps))


class Layer:
    """Attention and MLP, each over a norm and added to the stream."""

    def __init__(self, config: ModelConfig, weights: Weights, ranks: Ranks | None, number: int) -> None:
        self.number = number
        self.config = config
        prefix = f"h.{number}."
        self.attention_norm = weights.take(prefix + "ln_1.weight"), weights.take(prefix + "ln_1.bias")
        self.query_key_value = _linear(weights, prefix + "attn.c_attn")
        self.output = _summed(weights, prefix + "attn.c_proj", ranks)
        self.mlp_norm = weights.take(prefix + "ln_2.weight"), weights.take(prefix + "ln_2.bias")
        self.up = _linear(weights, prefix + "mlp.c_fc", config.activation)
        self.down = _summed(weights, prefix + "mlp.c_proj", ranks)

    def __call__(self, x: Tensor, batch: Batch, attention: Attention) -> Tensor:
        eps = self.config.norm_eps
        fused = self.query_key_value(_norm(x, self.attention_norm, eps)).view(len(x), 3, self.config.heads, -1)
        x = x + self.output(attention(self.number, batch, *fused.unbind(1)))
        return x + self.down(self.up(_norm(x, self.mlp_norm, eps)))


def _linear(weights: Weights, name: str, activation: str = "none") -> Linear:
    return make_linear(weights.take(name + ".weight").T, weights.take(name + ".bias"), activation)


def _summed(weights: Weights, name: str, ranks: Ranks | None) -> Linear:
    return make_summed(weights.take(name + ".weight").T, weights.take(name + ".bias"), ranks)


def _norm(x: Tensor, parameters: tuple[Tensor, Tensor], eps: float) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], *parameters, eps)
