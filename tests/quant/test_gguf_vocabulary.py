"""Tokenizers of all kinds become keys: pieces and scores of SentencePiece, parts of special tokens, templates."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.sentencepiece import read_pieces
from tokenmill.quant.gguf.splitting import split_name
from tokenmill.quant.gguf.tokenizer_files import read_tokenizer
from tokenmill.quant.gguf.value import Decoded
from tokenmill.quant.gguf.vocabulary import plan_vocabulary

PIECES = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<0x0A>", 0.0, 6), ("▁t", -0.5, 1), ("<u>", 0.0, 4)]


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + (varint(len(content)) if kind == 2 else b"") + content


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def sentencepiece_model(pieces: list[tuple[str, float, int]]) -> bytes:
    """A protocol buffer as SentencePiece writes it, with fields that nobody asks for."""
    messages = [
        field(1, 2, text.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, varint(kind))
        for text, score, kind in pieces
    ]
    parts = [field(1, 2, message) for message in messages]
    return b"".join([*parts, field(2, 2, field(3, 0, varint(300)) + field(9, 1, bytes(8)))])


def keys(folder: Path, vocab: int, family: str = "llama", **config: Any) -> dict[str, Decoded]:
    found = plan_vocabulary(read_tokenizer(folder), config, vocab, family)
    return {key.removeprefix("tokenizer."): value.decoded() for key, value in found.values.items()}


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content))


def byte_level(folder: Path, added: dict[str, int], post_processor: object = None, **settings: object) -> None:
    """A byte-level tokenizer of two letters and the special tokens `added`."""
    tokenizer = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        "added_tokens": [{"id": number, "content": text, "special": True} for text, number in added.items()],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "post_processor": post_processor,
    }
    write(folder, "tokenizer.json", tokenizer)
    write(folder, "tokenizer_config.json", settings)


def test_pieces_of_sentencepiece_are_read(tmp_path: Path) -> None:
    """Pieces come with their scores and types; what the settings add stands above them, and gaps are filled."""
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model(PIECES))
    write(tmp_path, "added_tokens.json", {"<x>": 7})
    added = {"8": {"content": "a▁b"}, "0": {"content": "<unk>", "special": True}, "99": {"content": "far"}}
    write(tmp_path, "tokenizer_config.json", {"added_tokens_decoder": added, "add_prefix_space": False})
    found = keys(tmp_path, 10, bos_token_id=1, eos_token_id=2)
    texts = ["<unk>", "<s>", "</s>", "<0x0A>", "▁t", "<u>", "[PAD6]", "<x>", "a b", "[PAD9]"]
    assert found["ggml.tokens"] == texts
    assert found["ggml.token_type"] == [3, 3, 3, 6, 1, 1, 5, 4, 4, 5]
    assert found["ggml.scores"] == [-1000.0, 0.0, 0.0, 0.0, -0.5, 0.0, -10000.0, -1000.0, -1000.0, -10000.0]
    assert (found["ggml.model"], found["ggml.bos_token_id"], found["ggml.eos_token_id"]) == ("llama", 1, 2)
    assert found["ggml.add_space_prefix"] is False


def test_a_broken_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    """Whatever bytes stand in tokenizer.model, they are pieces or refused."""
    good = sentencepiece_model(PIECES)
    numbers = random.Random(1)
    outcomes = set()
    for _ in range(2000):
        damaged = bytearray(good)
        damaged[numbers.randrange(len(good))] = numbers.randrange(256)
        try:
            read_pieces(bytes(damaged[: numbers.randint(1, len(good))]), tmp_path / "tokenizer.model")
            outcomes.add("read")
        except BadModel:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_numbers_of_special_tokens_come_from_the_tokenizer_first(tmp_path: Path) -> None:
    """A token named in the settings has the number that tokenizer.json gives it, else that of config.json."""
    byte_level(tmp_path, {"<e>": 3, "<p>": 4}, eos_token={"content": "<e>"}, pad_token="<p>")
    found = keys(tmp_path, 8, eos_token_id=[1, 2], pad_token_id=0, bos_token_id=4)
    assert (found["ggml.eos_token_id"], found["ggml.padding_token_id"], found["ggml.bos_token_id"]) == (3, 4, 4)
    assert "ggml.add_bos_token" not in found


def template(*steps: tuple[str, str]) -> list[dict[str, dict[str, object]]]:
    return [{kind: {"id": name, "type_id": 0}} for kind, name in steps]


def test_another_end_than_the_named_one_ends_a_turn(tmp_path: Path) -> None:
    """Where the template ends a text with another token, that is the end, and the named one ends a turn."""
    post = {"type": "TemplateProcessing", "single": template(("Sequence", "A"), ("SpecialToken", "<end>"))}
    byte_level(tmp_path, {"<turn>": 3, "<end>": 4}, post, eos_token="<turn>")
    found = keys(tmp_path, 8)
    assert (found["ggml.eot_token_id"], found["ggml.eos_token_id"], found["ggml.add_eos_token"]) == (3, 4, True)


def test_a_separator_of_two_texts_is_noticed(tmp_path: Path) -> None:
    """What stands between two texts counts as a separator only if it is one of the model's."""
    pair = [("Sequence", "A"), ("SpecialToken", "<sep>"), ("Sequence", "B")]
    post = {"type": "TemplateProcessing", "single": template(("Sequence", "A")), "pair": template(*pair)}
    byte_level(tmp_path, {"<sep>": 3}, post, sep_token="<sep>", eos_token="<sep>")
    assert keys(tmp_path, 8)["ggml.add_sep_token"] is True


def test_letters_of_bytes_in_special_tokens_are_spelt_out(tmp_path: Path) -> None:
    """A token found in unchanged text whose letters stand for bytes is written as those bytes."""
    tokenizer = {
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "added_tokens": [
            {"id": 1, "content": "<Ġx>", "special": True, "normalized": False},
            {"id": 2, "content": "é", "special": False, "normalized": True},
            {"id": 3, "content": "<|y|>", "special": False},
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }
    write(tmp_path, "tokenizer.json", tokenizer)
    found = keys(tmp_path, 5)
    assert found["ggml.tokens"] == ["a", "< x>", "é", "<|y|>", "[PAD4]"]
    assert found["ggml.token_type"] == [1, 3, 4, 3, 5]


@pytest.mark.parametrize("place", ["settings", "jinja", "json"])
def test_chat_templates_are_found_wherever_they_lie(tmp_path: Path, place: str) -> None:
    """A template stands in the settings or in a file of its own."""
    byte_level(tmp_path, {}, **({"chat_template": "T"} if place == "settings" else {}))
    if place == "jinja":
        (tmp_path / "chat_template.jinja").write_text("T")
    elif place == "json":
        write(tmp_path, "chat_template.json", {"chat_template": "T"})
    assert keys(tmp_path, 4)["chat_template"] == "T"


@pytest.mark.parametrize("wrong", [3, [1], [{"name": "x"}]])
def test_a_template_that_is_none_is_refused(tmp_path: Path, wrong: object) -> None:
    """Anything else than texts is refused."""
    byte_level(tmp_path, {}, chat_template=wrong)
    with pytest.raises(BadModel, match="chat_template"):
        keys(tmp_path, 4)


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
RULES = {
    "gpt-2": ([{"type": "ByteLevel", "add_prefix_space": False}], False),
    "smollm": ([{"type": "Digits", "individual_digits": True}, BYTES | {"use_regex": True}], False),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_without_an_expression_have_names(name: str) -> None:
    """A rule made of steps has its name, and none if words are taken whole, which llama.cpp wouldn't do."""
    steps, whole = RULES[name]
    assert split_name({"type": "Sequence", "pretokenizers": steps}, whole) == name
    assert split_name({"type": "Sequence", "pretokenizers": steps}, not whole) is None


@pytest.mark.parametrize(
    ("expression", "whole", "name"),
    [
        (r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", True, "llama-bpe"),
        (r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", False, "smaug-bpe"),
        (r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", False, "qwen2"),
        (r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", True, None),
        (r"|\p{N}{1,9}", True, None),
    ],
)
def test_expressions_have_names(expression: str, whole: bool, name: str | None) -> None:
    """A known expression has llama.cpp's name for it and for whether words are taken whole."""
    pattern = {"Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+" + expression}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    assert split_name({"type": "Sequence", "pretokenizers": [split, BYTES]}, whole) == name
    removed = split | {"behavior": "Removed"}
    assert split_name({"type": "Sequence", "pretokenizers": [removed, BYTES]}, whole) is None


@pytest.mark.parametrize(
    ("normalizer", "named"), [(None, True), ({"type": "NFC"}, True), ({"type": "Lowercase"}, False)]
)
def test_a_tokenizer_that_changes_text_goes_along_whole(tmp_path: Path, normalizer: object, named: bool) -> None:
    """What llama.cpp can't do to a text before it splits it is told, and the tokenizer is put into the file."""
    byte_level(tmp_path, {})
    content = json.loads((tmp_path / "tokenizer.json").read_text()) | {"normalizer": normalizer}
    write(tmp_path, "tokenizer.json", content)
    found = plan_vocabulary(read_tokenizer(tmp_path), {}, 4, "llama")
    assert ("tokenizer.huggingface.json" not in found.values) == named
    assert bool(found.notes) != named
