"""What an encoder is: sizes and switches of a BERT, read from config.json and never guessed.

As for decoders, whatever would change the vectors without an error is refused by name, and absent keys have the
defaults of the class in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from tokenmill.errors import InputFaults
from tokenmill.model.config import ACTIVATIONS, STORED_DTYPES, read_raw_config
from tokenmill.model.fields import Fields
from tokenmill.model.files import BadModel

BERT = "bert"


class EncoderConfig(Struct, frozen=True, kw_only=True):
    """One encoder; `positions` counts tokens, `types` kinds of segments, of which a text alone has the first."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocab: int
    positions: int
    types: int
    norm_eps: float
    activation: str


def read_encoder_config(folder: Path) -> EncoderConfig:
    """The configuration in `folder`; all faults of config.json are reported together."""
    config, path = read_raw_config(folder)
    _refuse(config, path)
    fields = Fields(config)
    hidden = fields.size(("hidden_size",), 1 << 17, default=768)
    heads = fields.size(("num_attention_heads",), 4096, default=12)
    fields.divides("num_attention_heads", heads, "hidden_size", hidden)
    fields.must_be("position_embedding_type", "absolute", default="absolute")
    fields.must_be("is_decoder", False, default=False)
    fields.must_be("add_cross_attention", False, default=False)
    fields.choice(("dtype", "torch_dtype"), STORED_DTYPES, "float32")
    found = EncoderConfig(
        layers=fields.size(("num_hidden_layers",), 4096, default=12),
        hidden=hidden,
        heads=heads,
        intermediate=fields.size(("intermediate_size",), 1 << 20, default=3072),
        vocab=fields.size(("vocab_size",), 1 << 22, default=30522),
        positions=fields.size(("max_position_embeddings",), 1 << 20, default=512),
        types=fields.size(("type_vocab_size",), 1 << 16, default=2),
        norm_eps=fields.positive("layer_norm_eps", 1e-12, below=1.0),
        activation=fields.choice(("hidden_act",), {name: name for name in ACTIVATIONS}, "gelu"),
    )
    if fields.faults:
        raise InputFaults(str(path), fields.faults)
    return found


def _refuse(config: Mapping[str, object], path: Path) -> None:
    """Raises what makes it another kind of model than is known here."""
    if config.get("auto_map"):
        raise BadModel(
            f"{path}: auto_map asks to run code that came with the model, which is never done; known: {BERT}"
        )
    if config.get("quantization_config") or config.get("compression_config"):
        raise BadModel(f"{path}: quantized encoders aren't supported; take the model's original weights")
    kind = config.get("model_type")
    if kind != BERT:
        raise BadModel(f"{path}: model_type {kind!r} makes no sentence embeddings here; known: {BERT}")
    classes = config.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) and name.startswith("Bert") for name in classes):
        raise BadModel(f"{path}: architectures {classes!r} aren't those of a BERT; known: BertModel")
