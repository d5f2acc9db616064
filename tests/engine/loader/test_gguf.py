"""A GGUF file is a model like its folder: the same configuration, weights, tokens and answers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer

from engine.loader.saved_models import (
    MODELS,
    TEXTS,
    byte_level_tokenizer,
    make_model,
    save_model,
    save_tokenizer,
    sentencepiece_tokenizer,
)
from engine.loader.written_gguf import GGUF_DIVISIONS, TYPES, divided_tokenizer, write_gguf
from tokenmill.engine.local.folder import ModelFolder, resolve
from tokenmill.engine.local.gguf.division import DIVISIONS
from tokenmill.engine.local.models.llama import rope_frequencies
from tokenmill.engine.local.weights import load_weights
from tokenmill.errors import TokenmillError
from tokenmill.model.config import RopeScaling
from tokenmill.quant.gguf.splitting import BEGINS, split_name
from tokenmill.request import Message, Request

TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
ODD = [
    *TEXTS,
    "",
    " ",
    " leading and trailing ",
    "<s>hi</s>  there <think>x</think>",
    "can't WON'T I'LL 12345 1,000.50 ½ Ⅷ",
    "a\r\n\r\nb\t\tc \u00a0\u3000 d",
    "e\u0301 \u00e9 \ufb01 \u200d \ufffd \u2581x",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "def f(x):\n    return x ** 2  # \\o/",
]


def both(path: Path, name: str, kind: str = "F32", **how: Any) -> tuple[ModelFolder, ModelFolder]:
    """The model as a folder and as a file."""
    tokenizer = how.pop("tokenizer", None) or (
        sentencepiece_tokenizer() if name in ("llama", "mistral") else byte_level_tokenizer()
    )
    model = save_model(path / "folder", name)
    save_tokenizer(path / "folder", tokenizer)
    write_gguf(path / "model.gguf", model, tokenizer, kind, **how)
    return ModelFolder(path / "folder"), ModelFolder(resolve(str(path / "model.gguf")))


@pytest.mark.parametrize("name", MODELS)
def test_a_file_holds_what_its_folder_holds(tmp_path: Path, name: str) -> None:
    """Configuration and weights of F32 are the folder's: rows are back in their order, matrices turned back."""
    folder, file = both(tmp_path, name)

    changes = {"family": "llama", "sliding_window": None} if name == "mistral" else {}
    changes |= {"bos_id": file.config.bos_id, "eos_ids": file.config.eos_ids}
    assert file.config == msgspec.structs.replace(folder.config, **changes)
    expected, found = (dict(load_weights(one.index, torch.float32)) for one in (folder, file))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert file.index.parameters == folder.index.parameters


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "F32"])
def test_stored_types_are_decoded_as_the_format_does(tmp_path: Path, kind: str) -> None:
    """What is loaded is what the format's own package makes of the bytes, at the run's precision."""
    _, file = both(tmp_path, "qwen3", kind)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    stored = {tensor.name: tensor for tensor in reader.tensors}
    own = stored["blk.1.attn_output.weight"]
    expected = torch.from_numpy(gguf.quants.dequantize(own.data, own.tensor_type).copy())

    assert own.tensor_type == TYPES[kind]
    for dtype in (torch.float32, torch.bfloat16):
        found = dict(load_weights(file.index, dtype))["layers.1.self_attn.o_proj.weight"]
        assert torch.equal(found, expected.to(dtype))


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_texts_become_the_tokens_of_the_folder(tmp_path: Path, make: Callable[[], RawTokenizer]) -> None:
    """Odd texts too, with and without special tokens; and tokens become the same text."""
    folder, file = both(tmp_path, "llama", tokenizer=make())

    for text in ODD:
        for special in (True, False):
            tokens = folder.tokenizer.encode(text, special)
            assert file.tokenizer.encode(text, special) == tokens
            assert file.tokenizer.decode(tokens) == folder.tokenizer.decode(tokens)


@pytest.mark.parametrize("pre", GGUF_DIVISIONS)
def test_texts_are_divided_as_the_models_own_tokenizers_do(tmp_path: Path, pre: str) -> None:
    """The name that a file gives stands for the expressions of the families' tokenizer.json."""
    folder, file = both(tmp_path, "qwen2", tokenizer=divided_tokenizer(pre), pre=pre, begins=False)

    for text in ODD:
        assert file.tokenizer.encode(text, False) == folder.tokenizer.encode(text, False)


def test_a_text_begins_with_its_token_where_the_file_says_so(tmp_path: Path) -> None:
    """The flag counts; without one Llama 3's tokenizers begin a text and GPT-2's don't."""
    for pre, begins, expected in (
        ("gpt-2", None, False),
        ("gpt-2", True, True),
        ("llama-bpe", None, True),
        ("llama-bpe", False, False),
    ):
        write_gguf(tmp_path / "m.gguf", make_model("llama"), byte_level_tokenizer(), pre=pre, begins=begins)
        tokens = ModelFolder(tmp_path / "m.gguf").tokenizer.encode("fox", True)
        assert (tokens[0] == byte_level_tokenizer().token_to_id("<s>")) == expected


def test_messages_pass_the_template_in_the_file(tmp_path: Path) -> None:
    """Special tokens have the names that templates use."""
    _, file = both(tmp_path, "llama", template=TEMPLATE)
    request = Request(row=0, custom_id="a", prompt=None, messages=(Message("user", "the fox"),))

    assert file.encode_request(request) == file.tokenizer.encode("<s>[user] the fox</s>", add_special=False)


def test_a_name_does_not_change_what_a_model_is(tmp_path: Path) -> None:
    """The digest is that of the content: a copy has it too, another byte of the weights has another."""
    _, file = both(tmp_path, "qwen2")
    copy = tmp_path / "copy.gguf"
    shutil.copy(tmp_path / "model.gguf", copy)
    same = ModelFolder(copy).digest
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)

    assert same == file.digest
    assert ModelFolder(copy).digest != file.digest


def test_factors_of_rotations_are_those_of_llama_3(tmp_path: Path) -> None:
    """The tensor of factors slows each rotation as the folder's configuration does."""
    folder, plain = both(tmp_path, "llama")
    scaling = RopeScaling(kind="llama3", factor=8.0, original_context=32)
    wanted = rope_frequencies(msgspec.structs.replace(folder.config, rope_scaling=scaling))
    factors = (rope_frequencies(plain.config) / wanted).numpy()
    write_gguf(tmp_path / "scaled.gguf", make_model("llama"), sentencepiece_tokenizer(), factors=factors)

    found = rope_frequencies(ModelFolder(tmp_path / "scaled.gguf").config)
    assert torch.allclose(found, wanted, rtol=1e-6)
    assert not torch.allclose(found, rope_frequencies(plain.config), rtol=1e-6)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "unknown division": ({"pre": "of-my-own"}, "named 'of-my-own' and not known"),
    "experts": ({"keys": {"llama.expert_count": 8}}, "expert_count is 8; models with experts"),
    "scaled positions": ({"keys": {"llama.rope.scaling.type": "yarn"}}, "scaling.type is 'yarn'; such a scaling"),
    "heads that turn in part": ({"keys": {"llama.rope.dimension_count": 2}}, "turn only in part"),
    "more layers": (
        {"keys": {"llama.block_count": 3}},
        r"'layers.2.mlp.up_proj.weight' of shape \[32, 16\] is missing",
    ),
    "fewer layers": ({"keys": {"llama.block_count": 1}}, "'blk.1.attn_q.weight' has no place"),
    "another width": ({"keys": {"llama.feed_forward_length": 8}}, r"shape \[32, 16\]; the metadata make it \[8, 16\]"),
    "a factor that is none": ({"factors": np.float32([1.0, 0.0])}, "holds a number that is no factor"),
    "another architecture": ({"architecture": "mamba"}, "architecture 'mamba' isn't supported; known: gpt2, llama"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_would_change_the_answers_is_refused(tmp_path: Path, case: str) -> None:
    """By file, key or tensor and what is wrong with it, before anything is loaded."""
    how, words = BROKEN[case]
    write_gguf(tmp_path / "model.gguf", make_model("llama"), byte_level_tokenizer(), **how)
    file = ModelFolder(tmp_path / "model.gguf")

    with pytest.raises(TokenmillError, match=words) as refusal:
        _ = file.config, file.tokenizer, file.index
    assert "model.gguf" in str(refusal.value)


def test_a_type_that_is_not_decoded_is_refused(tmp_path: Path) -> None:
    """The tensor, its type and those that can be loaded are named."""
    write_gguf(tmp_path / "model.gguf", make_model("gpt2"), byte_level_tokenizer(), integers="output_norm.bias")

    with pytest.raises(TokenmillError, match=r"'output_norm.bias' has type I8; only F32, F16"):
        _ = ModelFolder(tmp_path / "model.gguf").index


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, int]:
    """A place for files, the bytes of a good one, and how many of them are its header."""
    place = tmp_path_factory.mktemp("mutated")
    write_gguf(place / "good.gguf", make_model("llama"), sentencepiece_tokenizer(), template=TEMPLATE)
    tensors = gguf.GGUFReader(place / "good.gguf").tensors
    return place, (place / "good.gguf").read_bytes(), min(tensor.data_offset for tensor in tensors)


@settings(max_examples=400, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_broken_file_is_an_error_of_ours(whole: tuple[Path, bytes, int], changes: list[tuple[float, int]]) -> None:
    """Whatever bytes of the header are changed, the model is read or refused, never anything else."""
    place, good, header = whole
    content = bytearray(good)
    for where, byte in changes:
        content[int(where * (header - 1))] = byte
    path = place / "bad.gguf"
    path.write_bytes(content)
    model = ModelFolder(path)

    for part in ("config", "tokenizer", "template", "index", "digest"):
        with contextlib.suppress(TokenmillError):
            getattr(model, part)


def test_every_name_of_a_division_means_one_thing() -> None:
    """A file of ours is divided when it is read as its writer meant it."""
    for name, known in DIVISIONS.items():
        rule = {"type": "Sequence", "pretokenizers": known.steps}
        named = split_name(rule, known.ignores_merges)
        assert named is None or DIVISIONS[named] == known, name
    assert set(BEGINS) == {name for name in BEGINS if DIVISIONS[name].begins}
