"""Tokens are those of transformers, and text that streams is the text of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.loader.saved_models import TEXTS, TOKENIZERS, byte_level_tokenizer, save_tokenizer, sentencepiece_tokenizer
from tokenmill.engine.local.tokenizer import Tokenizer
from tokenmill.errors import TokenmillError


def opened(folder: Path, tokenizer: Any, **settings: object) -> Tokenizer:
    save_tokenizer(folder, tokenizer, **settings)
    return Tokenizer(folder, tokenizer.get_vocab_size())


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    return {name: opened(tmp_path_factory.mktemp("tokenizer"), make()) for name, make in TOKENIZERS.items()}


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = tokenizer.decoder()
    return [*(decoder.feed(token) for token in ids), decoder.flush()]


@settings(max_examples=600, deadline=None)
@given(data=st.data(), name=st.sampled_from(list(TOKENIZERS)))
def test_streamed_pieces_are_the_whole_text(every: dict[str, Tokenizer], data: st.DataObject, name: str) -> None:
    """For any ids, valid text or not, the pieces joined equal decoding all of them at once."""
    size = TOKENIZERS[name]().get_vocab_size()
    ids = data.draw(st.lists(st.integers(0, size - 1), max_size=40))

    assert "".join(stream(every[name], ids)) == every[name].decode(ids)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=30), name=st.sampled_from(["byte level", "sentencepiece"]))
@example(text="  two  spaces ", name="sentencepiece")
@example(text="🙂\ufffd你好", name="sentencepiece")
@example(text="\ufffd\ufffd", name="byte level")
def test_streamed_text_survives_the_round_trip(every: dict[str, Tokenizer], text: str, name: str) -> None:
    """Text that is encoded and streamed back is what decoding gives, replacement signs of its own included."""
    ids = every[name].encode(text, add_special=True)

    assert "".join(stream(every[name], ids)) == every[name].decode(ids)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=24))
@example(content=b"\xf0\x9f\x99")
@example(content=b"\xe2\x82\xe2\x82\xac\xff\xf0\x9f\x99\x82")
def test_any_bytes_can_be_streamed(every: dict[str, Tokenizer], content: bytes) -> None:
    """Token by token of one byte each, incomplete and invalid UTF-8 comes out as it does at once."""
    raw = sentencepiece_tokenizer()
    ids = [raw.token_to_id(f"<0x{byte:02X}>") for byte in content]
    tokenizer = every["sentencepiece"]
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)

    alphabet = {token: raw_id for token, raw_id in byte_level_tokenizer().get_vocab().items() if len(token) == 1}
    single = sorted(alphabet.values())
    ids = [single[byte % len(single)] for byte in content]
    assert "".join(stream(every["byte level"], ids)) == every["byte level"].decode(ids)


@pytest.mark.parametrize("name", ["byte level", "sentencepiece"])
def test_nothing_is_shown_before_it_is_final(every: dict[str, Tokenizer], name: str) -> None:
    """A character of several tokens comes whole, and no piece ever ends in half of one."""
    pieces = stream(every[name], every[name].encode("a🙂b 你 c", add_special=True))

    assert "".join(pieces).strip() == "a🙂b 你 c"
    assert not any("\ufffd" in piece for piece in pieces)
    assert sum(bool(piece) for piece in pieces) >= 5


def test_every_step_costs_the_same(every: dict[str, Tokenizer]) -> None:
    """What a decoder keeps doesn't grow with the answer, however the answer looks."""
    sentencepiece = sentencepiece_tokenizer()
    words = [sentencepiece.token_to_id(word) for word in ("▁the", "a", "▁", "<s>")]
    decoder = every["sentencepiece"].decoder()
    for step in range(400):
        decoder.feed(words[step % 4])
        assert len(decoder._window) < 8  # type: ignore[attr-defined]


def test_special_tokens_have_no_text(every: dict[str, Tokenizer]) -> None:
    """They neither show nor separate the bytes of a character."""
    tokenizer, raw = every["byte level"], byte_level_tokenizer()
    first, *rest = tokenizer.encode("🙂", add_special=False)
    ids = [0, first, raw.token_to_id("</s>"), *rest, raw.token_to_id("<think>"), 10**6]

    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids) == "🙂<think>"


SETTINGS: list[dict[str, object]] = [
    {},
    {"add_bos_token": False},
    {"add_bos_token": True, "add_eos_token": False},
    {"add_bos_token": True, "add_eos_token": True},
    {"add_eos_token": True},
]


@pytest.mark.parametrize("name", ["byte level", "sentencepiece"])
@pytest.mark.parametrize("stated", SETTINGS, ids=str)
def test_prompts_have_the_special_tokens_of_transformers(tmp_path: Path, name: str, stated: dict[str, object]) -> None:
    """The post-processor decides alone, whatever `add_bos_token` and `add_eos_token` say."""
    ends: dict[str, object] = {"bos_token": "<s>", "eos_token": {"content": "</s>", "__type": "AddedToken"}}
    tokenizer = opened(tmp_path, TOKENIZERS[name](), **ends, **stated)
    oracle = PreTrainedTokenizerFast.from_pretrained(tmp_path)

    for text in [*TEXTS, "", " ", "<s>a</s>"]:
        assert tokenizer.encode(text, add_special=True) == oracle(text)["input_ids"]
        assert tokenizer.encode(text, add_special=False) == oracle(text, add_special_tokens=False)["input_ids"]


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path: Path) -> None:
    """A tokenizer saved after training with a fixed length neither cuts prompts nor fills them up."""
    raw = RawTokenizer.from_str(byte_level_tokenizer().to_str())
    plain = raw.encode("one two three four").ids
    raw.enable_truncation(2)
    raw.enable_padding(length=10**12)

    assert opened(tmp_path, raw).encode("one two three four", add_special=True) == plain


def test_a_vocabulary_beyond_the_model_is_refused(tmp_path: Path) -> None:
    """The last token, its id and the model's size are named."""
    save_tokenizer(tmp_path, byte_level_tokenizer())
    size = byte_level_tokenizer().get_vocab_size()

    assert Tokenizer(tmp_path, size).encode("a", add_special=False)
    with pytest.raises(
        TokenmillError, match=rf"'é̂' has id {size - 1}, but config\.json has a vocab_size of {size - 1}"
    ):
        Tokenizer(tmp_path, size - 1)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"model": {"type": "Evil"}}', b"[" * 100_000])
def test_broken_tokenizers_are_refused(tmp_path: Path, content: bytes) -> None:
    """The file is named."""
    (tmp_path / "tokenizer.json").write_bytes(content)

    with pytest.raises(TokenmillError, match=r"tokenizer\.json"):
        Tokenizer(tmp_path, 100)


def test_special_tokens_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A post-processor that refers to a token it doesn't define, at which the library panics, is found when opening."""
    values = json.loads(sentencepiece_tokenizer().to_str())
    values["post_processor"]["special_tokens"] = {}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))

    with pytest.raises(TokenmillError, match=r"tokenizer\.json isn't a usable tokenizer"):
        Tokenizer(tmp_path, 600)


def test_an_empty_or_missing_vocabulary_is_refused(tmp_path: Path) -> None:
    """Neither a folder without tokenizer nor a tokenizer without tokens is used."""
    with pytest.raises(TokenmillError, match=r"no tokenizer\.json"):
        Tokenizer(tmp_path, 100)
    save_tokenizer(tmp_path, RawTokenizer(models.BPE()))
    with pytest.raises(TokenmillError, match="empty vocabulary"):
        Tokenizer(tmp_path, 100)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 20_000), replacement=st.binary(max_size=4), removed=st.integers(0, 4))
def test_damaged_tokenizers_are_opened_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, replacement: bytes, removed: int
) -> None:
    """Any damage to tokenizer.json gives a `TokenmillError` or a tokenizer that encodes."""
    content = byte_level_tokenizer().to_str().encode()
    at %= len(content)
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_bytes(content[:at] + replacement + content[at + removed :])
    try:
        tokenizer = Tokenizer(folder, 400)
        assert all(token < 400 for token in tokenizer.encode("some words", add_special=True))
    except TokenmillError:
        pass


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.WordPiece(),
        decoders.BPEDecoder(),
        decoders.CTC(),
        decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)]),
        decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]),
        decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "c")]),
        decoders.Sequence([decoders.Metaspace(), decoders.Strip(" ", 1, 0)]),
    ],
)
def test_decoders_that_look_ahead_are_refused(tmp_path: Path, decoder: Any) -> None:
    """A decoder whose text may change with what follows isn't streamed wrongly but refused."""
    raw = RawTokenizer.from_str(byte_level_tokenizer().to_str())
    raw.decoder = decoder

    with pytest.raises(TokenmillError, match="can't be streamed"):
        opened(tmp_path, raw)


def test_text_that_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    """Half surrogates and words that a closed vocabulary lacks are named."""
    raw = RawTokenizer(models.WordLevel({"one": 0, "two": 1}))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = opened(tmp_path, raw)

    assert "".join(stream(tokenizer, tokenizer.encode("one two", add_special=True))) == "one two"
    with pytest.raises(TokenmillError, match="can't encode"):
        tokenizer.encode("three", add_special=True)
    with pytest.raises(TokenmillError, match="character 1 is half of a surrogate pair"):
        tokenizer.encode("a\ud800", add_special=True)
