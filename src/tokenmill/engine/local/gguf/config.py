"""The configuration of a model from the metadata of its GGUF file.

The facts are those of config.json under other names, so they are put into its form and checked as every configuration
is. Some of them are told only by which tensors are there.
"""

from __future__ import annotations

import math
import struct

from msgspec.structs import replace

from tokenmill.model.config import ModelConfig, RopeScaling, make_config
from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.names import ROPE_FACTORS
from tokenmill.quant.gguf.reader import GgufFile
from tokenmill.quant.tensor import Tensor

#: The architectures of GGUF by the family whose arithmetic they are. `llama` stands for Mistral's models too.
ARCHITECTURES = {"gpt2": "gpt2", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
#: Tokens that end an answer, by their keys: of texts, of turns, of messages.
ENDS = ("eos", "eot", "eom")


def read_config(file: GgufFile) -> ModelConfig:
    """The configuration of the model in `file`; raises `TokenmillError` for one that the engine can't compute."""
    architecture = file.metadata.text("general.architecture")
    if architecture not in ARCHITECTURES:
        raise BadModel(
            f"{file.path}: the architecture {architecture!r} isn't supported; known: {', '.join(ARCHITECTURES)}"
        )
    facts = Facts(file, architecture)
    family = ARCHITECTURES[architecture]
    stated = _gpt2(facts) if family == "gpt2" else _llama_type(facts)
    stated |= {"model_type": family, "vocab_size": facts.vocab, "tie_word_embeddings": not facts.has("output.weight")}
    ends = [facts.token(key) for key in ENDS]
    stated["eos_token_id"] = [end for end in dict.fromkeys(ends) if end is not None]
    stated["bos_token_id"] = facts.token("bos")
    config = make_config(stated, {}, file.path)
    factors = facts.rope_factors(config.head_dim)
    return replace(config, rope_scaling=RopeScaling(kind="factors", factor=1.0, factors=factors)) if factors else config


class Facts:
    """What the file says of its model, by the keys of its architecture."""

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self._file = file
        self._architecture = architecture
        self._tensors = {tensor.name: tensor for tensor in file.weights.tensors}

    def has(self, tensor: str) -> bool:
        return tensor in self._tensors

    @property
    def vocab(self) -> int:
        return self._tensor("token_embd.weight").rows

    def integer(self, key: str, default: int | None = None) -> int:
        return self._file.metadata.integer(f"{self._architecture}.{key}", default)

    def real(self, key: str, default: float | None = None) -> float:
        """A number as its writer meant it: files hold it in 32 bits, which know some seven digits."""
        return float(f"{self._file.metadata.real(f'{self._architecture}.{key}', default):.7g}")

    def refuse(self, key: str, allowed: tuple[object, ...], reason: str) -> None:
        """Refuses a model in which a key has none of the `allowed` values; an absent key is allowed."""
        found = self._file.metadata.get(f"{self._architecture}.{key}")
        if found is not None and (value := found.decoded()) not in allowed:
            raise BadModel(f"{self._file.path}: {self._architecture}.{key} is {value!r}; {reason}")

    def token(self, kind: str) -> int | None:
        """The id of a special token, such as the one that ends a text."""
        key = f"tokenizer.ggml.{kind}_token_id"
        return self._file.metadata.integer(key) if key in self._file.metadata else None

    def rope_factors(self, head_dim: int) -> tuple[float, ...]:
        """By how much each rotation is slowed; none where all turn as they were made."""
        if ROPE_FACTORS not in self._tensors:
            return ()
        tensor = self._tensors[ROPE_FACTORS]
        if tensor.element != "F32" or tensor.shape != (head_dim // 2,):
            raise BadModel(
                f"{self._file.path}: {ROPE_FACTORS} must be {head_dim // 2} numbers of F32; convert it again"
            )
        factors = struct.unpack(f"<{head_dim // 2}f", self._bytes(tensor))
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise BadModel(f"{self._file.path}: {ROPE_FACTORS} holds a number that is no factor; convert it again")
        return factors

    def _bytes(self, tensor: Tensor) -> bytes:
        try:
            with self._file.path.open("rb") as file:
                file.seek(tensor.offset)
                content = file.read(tensor.size)
        except OSError as error:
            raise BadModel(f"{self._file.path}: can't be read ({error.strerror})") from error
        if len(content) < tensor.size:
            raise BadModel(f"{self._file.path} shrank while it was read; start again once the download is over")
        return content

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise BadModel(f"{self._file.path}: the tensor {name} is missing; download the file again")
        return self._tensors[name]


def _gpt2(facts: Facts) -> dict[str, object]:
    hidden = facts.integer("embedding_length")
    return {
        "n_embd": hidden,
        "n_head": facts.integer("attention.head_count"),
        "n_layer": facts.integer("block_count"),
        "n_inner": facts.integer("feed_forward_length", 4 * hidden),
        "n_positions": facts.integer("context_length"),
        "layer_norm_epsilon": facts.real("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
    }


def _llama_type(facts: Facts) -> dict[str, object]:
    heads, hidden = facts.integer("attention.head_count"), facts.integer("embedding_length")
    head_dim = facts.integer("attention.key_length", hidden // max(1, heads))
    facts.refuse("attention.value_length", (head_dim,), "keys and values of different lengths aren't supported")
    facts.refuse("rope.dimension_count", (head_dim,), "heads that turn only in part aren't supported")
    facts.refuse("expert_count", (0,), "models with experts aren't supported; take a dense one")
    return {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": facts.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "num_hidden_layers": facts.integer("block_count"),
        "intermediate_size": facts.integer("feed_forward_length"),
        "max_position_embeddings": facts.integer("context_length"),
        "rms_norm_eps": facts.real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(facts),
        "attention_bias": facts.has("blk.0.attn_q.bias"),
        "mlp_bias": facts.has("blk.0.ffn_gate.bias"),
        "hidden_act": "silu",
        "sliding_window": None,
    }


def _rope(facts: Facts) -> dict[str, object]:
    theta = facts.real("rope.freq_base", 10000.0)
    facts.refuse("rope.scaling.type", ("none", "linear"), "such a scaling of the positions isn't supported")
    factor = facts.real("rope.scaling.factor", facts.real("rope.scale_linear", 1.0))
    if factor in (0.0, 1.0):
        return {"rope_theta": theta, "rope_type": "default"}
    return {"rope_theta": theta, "rope_type": "linear", "factor": factor}
