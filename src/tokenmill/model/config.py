"""What a model is: its family, sizes and switches, read from config.json and never guessed.

Whatever would make the answers differ from the model's own arithmetic without an error is refused by name: remote
code, quantized weights, experts, scalings of the positions that aren't implemented. Names of both transformers 4
(`rope_theta`, `rope_scaling`, `torch_dtype`) and 5 (`rope_parameters`, `dtype`) are read. Defaults for absent keys
are those of the family's class in transformers, which leaves such keys out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from tokenmill.errors import InputFaults
from tokenmill.model.fields import Fields
from tokenmill.model.files import BadModel, find_file, read_object


class RopeScaling(Struct, frozen=True, kw_only=True):
    """How positions are stretched: `kind` is `linear`, `llama3` or `factors`.

    The frequencies and the context are for `llama3` alone. `factors` slows each rotation by one of its own.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    factors: tuple[float, ...] = ()


class ModelConfig(Struct, frozen=True, kw_only=True):
    """One decoder-only model.

    `context` counts tokens. `attention_bias` is that of queries, keys and values, `output_bias` that of the attention's
    output, `mlp_bias` that of all linears of the MLP. `qk_norm`: queries and keys pass an RMS norm per head.
    `sliding_window`: every layer sees only so many last tokens, its own included; None where that never matters.
    `activation` is one of ACTIVATIONS. `eos_ids` may be empty. `stored_dtype` is a safetensors name such as `BF16`.
    """

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool
    attention_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    sliding_window: int | None
    activation: str
    eos_ids: tuple[int, ...]
    bos_id: int | None
    stored_dtype: str


class Family(Struct, frozen=True, kw_only=True):
    """What transformers takes for granted of one model type."""

    classes: tuple[str, ...]
    tied: bool = False
    bos: int | None = None
    eos: int | None = None
    kv_heads_stated: bool = True
    head_dim: int | None = None
    sliding_window: int | None = None


FAMILIES = {
    "gpt2": Family(classes=("GPT2LMHeadModel", "GPT2Model"), tied=True, bos=50256, eos=50256, kv_heads_stated=False),
    "llama": Family(classes=("LlamaForCausalLM", "LlamaModel"), bos=1, eos=2, kv_heads_stated=False),
    "mistral": Family(classes=("MistralForCausalLM", "MistralModel"), bos=1, eos=2, sliding_window=4096),
    "qwen2": Family(classes=("Qwen2ForCausalLM", "Qwen2Model"), sliding_window=4096),
    "qwen3": Family(classes=("Qwen3ForCausalLM", "Qwen3Model"), head_dim=128, sliding_window=4096),
}

#: The activations of these families; `gelu` is exact, `gelu_new` and `gelu_pytorch_tanh` the tanh approximation.
ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

STORED_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


def read_config(folder: Path) -> ModelConfig:
    """The configuration in `folder`; all faults of config.json are reported together."""
    config, path = read_raw_config(folder)
    return make_config(config, read_generation(folder), path)


def read_raw_config(folder: Path) -> tuple[Mapping[str, object], Path]:
    """What config.json in `folder` says, unchecked, and where it is."""
    path = find_file(folder, "config.json")
    if path is None:
        raise BadModel(f"{folder} has no config.json, so it isn't a model folder; download the whole model")
    return read_object(path), path


def read_generation(folder: Path) -> Mapping[str, object]:
    """What generation_config.json in `folder` says, unchecked; empty without one."""
    path = find_file(folder, "generation_config.json")
    return read_object(path) if path else {}


def make_config(config: Mapping[str, object], generation: Mapping[str, object], path: Path) -> ModelConfig:
    """The configuration that objects in the form of config.json and generation_config.json state.

    `path` names in errors where they are from.
    """
    family = find_family(config, path)
    fields = Fields(config)
    found = _read_gpt2(fields) if family == "gpt2" else _read_llama_type(fields, family)
    found |= _read_tokens(fields, family, Fields(generation), _int(found["vocab"]))
    found["stored_dtype"] = fields.choice(("dtype", "torch_dtype"), STORED_DTYPES, "float32")
    if fields.faults:
        raise InputFaults(str(path), fields.faults)
    return ModelConfig(family=family, **found)  # type: ignore[arg-type]  # Fields checked every value


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def find_family(config: Mapping[str, object], path: Path) -> str:
    """The family, once nothing in the file demands what isn't supported."""
    known = ", ".join(FAMILIES)
    if config.get("auto_map"):
        raise BadModel(
            f"{path}: auto_map asks to run code that came with the model, which is never done; known: {known}"
        )
    if quantized := config.get("quantization_config") or config.get("compression_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise BadModel(
            f"{path}: weights quantized with {str(method or 'an unnamed method')!r} aren't supported; "
            "take the model's original weights (bf16, fp16 or fp32)"
        )
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if config.get(key):
            raise BadModel(f"{path}: {key} {config[key]!r}: models with experts aren't supported; take a dense one")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise BadModel(f"{path}: model_type {kind!r} isn't supported; known: {known}")
    classes = config.get("architectures") or []
    if not isinstance(classes, list) or any(name not in FAMILIES[kind].classes for name in classes):
        raise BadModel(f"{path}: architectures {classes!r} don't generate text; known: {FAMILIES[kind].classes[0]}")
    return kind


def _read_gpt2(fields: Fields) -> dict[str, object]:
    hidden = fields.size(("n_embd", "hidden_size"), 1 << 17)
    heads = fields.size(("n_head", "num_attention_heads"), 4096)
    fields.divides("n_head", heads, "n_embd", hidden)
    fields.must_be("scale_attn_weights", True, default=True)
    fields.must_be("scale_attn_by_inverse_layer_idx", False, default=False)
    fields.must_be("add_cross_attention", False, default=False)
    return {
        "layers": fields.size(("n_layer", "num_hidden_layers"), 4096),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": max(1, hidden // heads),
        "intermediate": fields.size(("n_inner",), 1 << 20, default=4 * hidden),
        "vocab": fields.size(("vocab_size",), 1 << 22),
        "context": fields.size(("n_positions", "max_position_embeddings"), 1 << 24),
        "norm_eps": fields.positive("layer_norm_epsilon", 1e-5, below=1.0),
        "rope_theta": 0.0,
        "rope_scaling": None,
        "tied": fields.flag("tie_word_embeddings", True),
        "attention_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "qk_norm": False,
        "sliding_window": None,
        "activation": fields.choice(("activation_function",), _activations(), "gelu_new"),
    }


def _read_llama_type(fields: Fields, family: str) -> dict[str, object]:
    known = FAMILIES[family]
    hidden = fields.size(("hidden_size",), 1 << 17)
    heads = fields.size(("num_attention_heads",), 4096)
    kv_heads = fields.size(("num_key_value_heads",), 4096, default=None if known.kv_heads_stated else heads)
    fields.divides("num_key_value_heads", kv_heads, "num_attention_heads", heads)
    if not fields.has("head_dim") and known.head_dim is None:
        fields.divides("num_attention_heads", heads, "hidden_size", hidden)
    head_dim = fields.size(("head_dim",), 4096, default=known.head_dim or max(2, hidden // heads))
    fields.divides("the 2 of rotary pairs", 2, "head_dim", head_dim)
    layers = fields.size(("num_hidden_layers",), 4096)
    context = fields.size(("max_position_embeddings",), 1 << 24)
    biased = fields.flag("attention_bias", False) if family in ("llama", "qwen3") else False
    theta, scaling = _rope(fields)
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate": fields.size(("intermediate_size",), 1 << 20),
        "vocab": fields.size(("vocab_size",), 1 << 22),
        "context": context,
        "norm_eps": fields.positive("rms_norm_eps", 1e-6, below=1.0),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tied": fields.flag("tie_word_embeddings", known.tied),
        "attention_bias": biased or family == "qwen2",
        "output_bias": biased,
        "mlp_bias": fields.flag("mlp_bias", False) if family == "llama" else False,
        "qk_norm": family == "qwen3",
        "sliding_window": _sliding_window(fields, family, layers, context),
        "activation": fields.choice(("hidden_act",), _activations(), "silu"),
    }


def _activations() -> dict[str, str]:
    return {name: name for name in ACTIVATIONS} | {"swish": "silu"}


def _rope(fields: Fields) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary positions, from either generation of keys."""
    rope = fields.nested("rope_parameters") or fields.nested("rope_scaling") or Fields({}, fields.faults)
    theta = rope.positive("rope_theta", fields.positive("rope_theta", 10000.0))
    kind = rope.choice(("rope_type", "type"), {name: name for name in ("default", "linear", "llama3")}, "default")
    for place in (fields, rope):
        place.must_be("partial_rotary_factor", 1.0, default=1.0)
    if kind == "default":
        nested = [key for key, value in rope.values.items() if isinstance(value, dict)]
        if nested:
            rope.fault(f"{nested[0]!r}: positions that differ by layer aren't supported")
        return theta, None
    factor = rope.positive("factor", None)
    if kind == "linear":
        return theta, RopeScaling(kind=kind, factor=factor)
    low, high = rope.positive("low_freq_factor", None), rope.positive("high_freq_factor", None)
    if low >= high and not rope.faults:
        rope.fault(f"low_freq_factor {low} must be below high_freq_factor {high}")
    original = rope.size(("original_max_position_embeddings",), 1 << 24)
    scaling = RopeScaling(
        kind=kind, factor=factor, low_freq_factor=low, high_freq_factor=high, original_context=original
    )
    return theta, scaling


def _sliding_window(fields: Fields, family: str, layers: int, context: int) -> int | None:
    """The window if it is in force on every layer; a mixture of layers is refused."""
    if family == "llama":
        return None
    if family != "mistral" and not fields.flag("use_sliding_window", False):
        return None
    if fields.is_null("sliding_window"):
        return None
    window = fields.size(("sliding_window",), 1 << 24, default=FAMILIES[family].sliding_window)
    if window >= context:
        return None
    if family == "mistral":
        return window
    sliding = _sliding_layers(fields, layers)
    if not any(sliding):
        return None
    if not all(sliding):
        fields.fault(
            f"a sliding_window of {window} on {sum(sliding)} of {layers} layers isn't supported; "
            f"set max_position_embeddings to {window}, up to which the window has no effect"
        )
    return window


def _sliding_layers(fields: Fields, layers: int) -> list[bool]:
    kinds = fields.values.get("layer_types")
    if kinds is None:
        first = fields.size(("max_window_layers",), 4096, default=28, least=0)
        return [layer >= first for layer in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers:
        fields.fault(f"layer_types must name one kind for each of the {layers} layers")
        return [False]
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            fields.fault(f"layer_types {kind!r} isn't supported; known: full_attention, sliding_attention")
            break
    return [kind == "sliding_attention" for kind in kinds]


def _read_tokens(fields: Fields, family: str, generation: Fields, vocab: int) -> dict[str, object]:
    """First and end tokens. An id outside the vocabulary can't be generated, so it is left out."""
    known = FAMILIES[family]
    ends = fields.token_ids("eos_token_id") + generation.token_ids("eos_token_id")
    if not ends and known.eos is not None and not fields.has("eos_token_id") and not generation.has("eos_token_id"):
        ends = (known.eos,)
    if not (starts := fields.token_ids("bos_token_id")) and not fields.has("bos_token_id") and known.bos is not None:
        starts = (known.bos,)
    fields.faults += [f"generation_config.json: {fault}" for fault in generation.faults]
    return {
        "eos_ids": tuple(dict.fromkeys(end for end in ends if end < vocab)),
        "bos_id": next((start for start in starts if start < vocab), None),
    }
