"""config.json becomes a `ModelConfig` or a refusal that names the key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.loader.saved_models import MODELS, edit_json, save_model
from tokenmill.errors import TokenmillError
from tokenmill.model.config import RopeScaling, read_config

LLAMA: dict[str, object] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 100,
    "max_position_embeddings": 32,
}
GPT2: dict[str, object] = {
    "model_type": "gpt2",
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "vocab_size": 60000,
}
QWEN2 = LLAMA | {"model_type": "qwen2", "architectures": None, "num_key_value_heads": 2}
MISTRAL = QWEN2 | {"model_type": "mistral"}


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_configurations_written_by_transformers_are_read(tmp_path: Path, name: str) -> None:
    """Sizes, switches and end tokens of every family are those of the model that was saved."""
    model = save_model(tmp_path, name)
    found, config = read_config(tmp_path), model.config

    assert found.family == config.model_type
    assert (found.layers, found.hidden) == (config.num_hidden_layers, config.hidden_size)
    assert (found.vocab, found.context) == (config.vocab_size, config.max_position_embeddings)
    assert found.kv_heads == getattr(config, "num_key_value_heads", found.heads)
    assert found.tied == config.tie_word_embeddings
    assert (found.bos_id, found.eos_ids, found.stored_dtype) == (1, (2,), "F32")
    assert found.sliding_window == (8 if name == "mistral" else None)


def test_old_and_new_keys_mean_the_same(tmp_path: Path) -> None:
    """`rope_theta`, `rope_scaling`, `torch_dtype` and `rope_parameters`, `dtype` give equal configurations."""
    scaling = {
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }
    old = LLAMA | {"rope_theta": 500000.0, "rope_scaling": scaling, "torch_dtype": "bfloat16"}
    new = LLAMA | {"rope_parameters": scaling | {"rope_theta": 500000.0}, "dtype": "bfloat16"}

    found = read_config(write(tmp_path, old))
    assert found == read_config(write(tmp_path, new))
    assert found.rope_theta == 500000.0
    assert found.rope_scaling == RopeScaling(kind="llama3", factor=32.0)
    assert found.stored_dtype == "BF16"


def test_linear_scaling_under_its_oldest_key(tmp_path: Path) -> None:
    """`type` is read where `rope_type` is absent."""
    found = read_config(write(tmp_path, LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}}))

    assert found.rope_scaling == RopeScaling(kind="linear", factor=2.0)


def test_absent_keys_have_the_defaults_of_their_class(tmp_path: Path) -> None:
    """A bare GPT-2 has tied embeddings, its end token and an inner size of four times the hidden one."""
    found = read_config(write(tmp_path, GPT2))

    assert (found.tied, found.eos_ids, found.bos_id, found.intermediate) == (True, (50256,), 50256, 256)
    assert read_config(write(tmp_path, LLAMA)).kv_heads == 8
    assert read_config(write(tmp_path, MISTRAL | {"max_position_embeddings": 8192})).sliding_window == 4096
    assert read_config(write(tmp_path, MISTRAL | {"sliding_window": None})).sliding_window is None


@pytest.mark.parametrize(
    ("stated", "generation", "ends"),
    [
        (2, {}, (2,)),
        (2, {"eos_token_id": [2, 7]}, (2, 7)),
        ([3, 4], {"eos_token_id": 5}, (3, 4, 5)),
        (None, {"eos_token_id": 9}, (9,)),
        (None, {}, ()),
        (..., {"eos_token_id": [8]}, (8,)),
        (..., {}, (2,)),
        ([2, 100], {"eos_token_id": 101}, (2,)),
    ],
)
def test_end_tokens_of_both_files_count(
    tmp_path: Path, stated: object, generation: dict[str, object], ends: tuple[int, ...]
) -> None:
    """Ids of config.json and generation_config.json are joined; those outside the vocabulary left out."""
    write(tmp_path, LLAMA)
    edit_json(tmp_path / "config.json", eos_token_id=stated)
    edit_json(tmp_path / "generation_config.json", **generation)

    assert read_config(tmp_path).eos_ids == ends


def test_a_window_on_all_layers_is_kept_and_an_idle_one_dropped(tmp_path: Path) -> None:
    """A sliding window counts only where it is switched on and shorter than the context."""
    sliding = QWEN2 | {"use_sliding_window": True, "sliding_window": 16}

    assert read_config(write(tmp_path, QWEN2 | {"sliding_window": 16})).sliding_window is None
    assert read_config(write(tmp_path, sliding | {"max_window_layers": 0})).sliding_window == 16
    assert read_config(write(tmp_path, sliding | {"max_window_layers": 2})).sliding_window is None
    assert read_config(write(tmp_path, sliding | {"max_window_layers": 1, "sliding_window": 32})).sliding_window is None
    all_full = {"layer_types": ["full_attention"] * 2}
    assert read_config(write(tmp_path, sliding | all_full)).sliding_window is None


REFUSED: list[tuple[dict[str, object], str]] = [
    (LLAMA | {"model_type": "bert"}, "model_type 'bert'"),
    (LLAMA | {"model_type": None}, "model_type None"),
    (LLAMA | {"model_type": "mixtral"}, "known: gpt2, llama, mistral, qwen2, qwen3"),
    (LLAMA | {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
    (LLAMA | {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
    (LLAMA | {"quantization_config": {"quant_method": "gptq"}}, "'gptq'"),
    (LLAMA | {"num_local_experts": 8}, "num_local_experts 8"),
    (LLAMA | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling.rope_type 'yarn'"),
    (LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope_scaling.type 'dynamic'"),
    (LLAMA | {"rope_parameters": {"rope_type": "longrope"}}, "rope_parameters.rope_type 'longrope'"),
    (LLAMA | {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing"),
    (LLAMA | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is missing"),
    (LLAMA | {"rope_scaling": "yarn"}, "rope_scaling 'yarn' must be an object"),
    (LLAMA | {"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "differ by layer"),
    (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    (LLAMA | {"hidden_size": 0}, "hidden_size 0 is out of range"),
    (LLAMA | {"hidden_size": -64}, "hidden_size -64 is out of range"),
    (LLAMA | {"vocab_size": 10**12}, "vocab_size 1000000000000 is out of range"),
    (LLAMA | {"num_hidden_layers": True}, "num_hidden_layers True must be a whole number"),
    (LLAMA | {"num_hidden_layers": 2.0}, "num_hidden_layers 2.0 must be a whole number"),
    (LLAMA | {"intermediate_size": None}, "intermediate_size is missing"),
    (LLAMA | {"num_attention_heads": 7}, "num_attention_heads 7 doesn't divide hidden_size 64"),
    (LLAMA | {"num_key_value_heads": 3}, "num_key_value_heads 3 doesn't divide num_attention_heads 8"),
    (LLAMA | {"head_dim": 7}, "doesn't divide head_dim 7"),
    (LLAMA | {"hidden_act": "mish"}, "hidden_act 'mish'"),
    (LLAMA | {"rms_norm_eps": -1.0}, "rms_norm_eps -1.0"),
    (LLAMA | {"rope_theta": "high"}, "rope_theta 'high' must be a number"),
    (LLAMA | {"torch_dtype": "float8_e4m3fn"}, "torch_dtype 'float8_e4m3fn'"),
    (LLAMA | {"eos_token_id": "</s>"}, "eos_token_id '</s>'"),
    (LLAMA | {"tie_word_embeddings": 1}, "tie_word_embeddings 1"),
    (MISTRAL | {"num_key_value_heads": None}, "num_key_value_heads is missing"),
    (GPT2 | {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
    (GPT2 | {"scale_attn_weights": False}, "scale_attn_weights False"),
    (GPT2 | {"add_cross_attention": True}, "add_cross_attention True"),
    (GPT2 | {"n_head": 5}, "n_head 5 doesn't divide n_embd 64"),
    (QWEN2 | {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, "on 1 of 2 layers"),
    (QWEN2 | {"use_sliding_window": True, "sliding_window": 16, "layer_types": ["full_attention"]}, "layer_types"),
    (QWEN2 | {"use_sliding_window": True, "sliding_window": 16, "layer_types": ["odd", "odd"]}, "layer_types 'odd'"),
]


@pytest.mark.parametrize(("config", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, config: dict[str, object], words: str) -> None:
    """The error names the file, the key and its value."""
    with pytest.raises(TokenmillError) as refusal:
        read_config(write(tmp_path, config))

    assert words in str(refusal.value)
    assert "config.json" in str(refusal.value)


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    """One error lists every wrong key."""
    with pytest.raises(TokenmillError) as refusal:
        read_config(write(tmp_path, LLAMA | {"hidden_size": -1, "vocab_size": "x", "hidden_act": "mish"}))

    assert all(word in str(refusal.value) for word in ("3 faults", "hidden_size", "vocab_size", "hidden_act"))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"a":' + b"[" * 100_000, b"null"])
def test_broken_json_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever isn't a JSON object ends with one line that names the file."""
    (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(TokenmillError, match=r"config\.json"):
        read_config(tmp_path)


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    """The missing file is named."""
    with pytest.raises(TokenmillError, match=r"no config\.json"):
        read_config(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from([*LLAMA, *GPT2, "rope_scaling", "rope_parameters", "eos_token_id", "layer_types", "head_dim"])


@settings(max_examples=300, deadline=None)
@given(base=st.sampled_from([LLAMA, GPT2, QWEN2, MISTRAL]), changes=st.dictionaries(KEYS, JSON, max_size=3))
def test_any_value_under_any_key_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, base: dict[str, object], changes: dict[str, object]
) -> None:
    """Hostile values never cause anything but a `TokenmillError`, and what is read has usable sizes."""
    folder = write(tmp_path_factory.mktemp("model"), base | changes)
    try:
        found = read_config(folder)
    except TokenmillError:
        return
    assert found.heads % found.kv_heads == 0
    assert min(found.layers, found.hidden, found.head_dim, found.intermediate, found.vocab, found.context) >= 1


def test_the_loader_of_the_parent_process_never_loads_torch() -> None:
    """Importing all that validation and counting need leaves torch out."""
    code = "import sys; from tokenmill.engine.local import folder; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
