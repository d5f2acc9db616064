"""The sizes and switches of a model folder as keys of a GGUF file, and what llama.cpp can't be told."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path

from tokenmill.model.config import ModelConfig
from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.value import FLOAT32, INT32, Value, float32, text, uint32

#: llama.cpp's names of the families; mistral is a llama to it.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2"}
#: Activations as llama.cpp has them built in: of the gated families, and of gpt2, whose gelu is the approximate one.
_GATED, _GELU = ("silu",), ("gelu_new", "gelu_pytorch_tanh")

_SAMPLING = {
    "top_k": ("top_k", INT32),
    "top_p": ("top_p", FLOAT32),
    "min_p": ("min_p", FLOAT32),
    "temperature": ("temp", FLOAT32),
    "repetition_penalty": ("penalty_repeat", FLOAT32),
}


def hyperparameters(config: ModelConfig, folder: Path) -> dict[str, Value]:
    """The keys of the architecture; raises `BadModel` for an activation that llama.cpp would replace unasked."""
    known = _GELU if config.family == "gpt2" else _GATED
    if config.activation not in known:
        raise BadModel(
            f"{folder}: the activation {config.activation!r} can't be stated in a GGUF file: llama.cpp always takes "
            f"{known[0]!r} for {config.family}; quantize to a folder instead, such as --to w8a16"
        )
    name = ARCHITECTURES[config.family]
    found = _gpt2(config) if config.family == "gpt2" else _llama(config)
    return {"general.architecture": text(name)} | {f"{name}.{key}": value for key, value in found.items()}


def _gpt2(config: ModelConfig) -> dict[str, Value]:
    return _sizes(config) | {"attention.layer_norm_epsilon": float32(config.norm_eps)}


def _sizes(config: ModelConfig) -> dict[str, Value]:
    return {
        "block_count": uint32(config.layers),
        "context_length": uint32(config.context),
        "embedding_length": uint32(config.hidden),
        "feed_forward_length": uint32(config.intermediate),
        "attention.head_count": uint32(config.heads),
    }


def _llama(config: ModelConfig) -> dict[str, Value]:
    found = _sizes(config)
    found["attention.head_count_kv"] = uint32(config.kv_heads)
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        found["rope.scaling.type"] = text("linear")
        found["rope.scaling.factor"] = float32(config.rope_scaling.factor)
    found["rope.freq_base"] = float32(config.rope_theta)
    found["attention.layer_norm_rms_epsilon"] = float32(config.norm_eps)
    if config.family != "qwen2" or config.head_dim * config.heads != config.hidden:
        found["attention.key_length"] = uint32(config.head_dim)
        found["attention.value_length"] = uint32(config.head_dim)
    if ARCHITECTURES[config.family] == "llama":
        found["vocab_size"] = uint32(config.vocab)
        found["rope.dimension_count"] = uint32(config.head_dim)
    return found


def notes(config: ModelConfig) -> tuple[str, ...]:
    """What the file can't say about the model."""
    if config.sliding_window is None:
        return ()
    return (
        f"every layer sees only the last {config.sliding_window} tokens, which a GGUF file of this architecture can't "
        f"say; beyond {config.sliding_window} tokens llama.cpp answers as a model without that window",
    )


def rope_factors(config: ModelConfig) -> bytes | None:
    """What divides the frequency of each pair of numbers, for positions stretched as Llama 3.1 does; else None."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "llama3":
        return None
    longest = scaling.original_context / scaling.low_freq_factor
    shortest = scaling.original_context / scaling.high_freq_factor
    factors = []
    for pair in range(config.head_dim // 2):
        length = 2 * math.pi * config.rope_theta ** (2 * pair / config.head_dim)
        if length < shortest:
            factors.append(1.0)
        elif length > longest:
            factors.append(scaling.factor)
        else:
            smooth = (scaling.original_context / length - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return struct.pack(f"<{len(factors)}f", *factors)


def general(folder: Path, count: int, generation: Mapping[str, object]) -> dict[str, Value]:
    """What the file says about itself: a name, how many weights, and how the makers sample from it."""
    found = {
        "general.type": text("model"),
        "general.name": text(_title(folder.resolve())),
        "general.size_label": text(_label(count)),
    }
    for key, (name, kind) in _SAMPLING.items():
        number = generation.get(key)
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1 << 31:
            payload = struct.pack("<i", int(number)) if kind == INT32 else struct.pack("<f", number)
            found[f"general.sampling.{name}"] = Value(kind, payload)
    return found


def _title(folder: Path) -> str:
    """The name of a model by that of its folder; a folder of the hub's cache is called after a commit."""
    name = folder.name
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        name = folder.parent.parent.name.split("--")[-1]
    words = name.replace("-", " ").split()
    return " ".join(word.title() if word.islower() and not word[0].isdecimal() else word for word in words)


def _label(count: int) -> str:
    """Weights in the largest unit, with two digits at least."""
    unit, scale = next(
        ((unit, scale) for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)) if count > scale), ("K", 1e3)
    )
    digits = len(str(round(count / scale)).lstrip("0"))
    return f"{count / scale:.{max(2 - digits, 0)}f}{unit}"
