"""The tokenizer as a GGUF file has it: pieces with types, and either the pairs to join or scores to join by.

There are two kinds. `gpt2` splits text by a rule with a name and joins bytes by a list of pairs; `llama` is
SentencePiece's, which joins what gives the piece of the best score. Where only tokenizer.json is there for the second,
the scores are made of the places of the pairs in their list, so that llama.cpp joins in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from tokenmill.quant.gguf.sentencepiece import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, read_pieces
from tokenmill.quant.gguf.special_tokens import SpecialTokens
from tokenmill.quant.gguf.splitting import BEGINS, is_byte_level, split_name
from tokenmill.quant.gguf.tokenizer_files import Added, Pieces, TokenizerFiles, TokenizerJson, read_templates
from tokenmill.quant.gguf.value import FLOAT32, INT32, Value, flag, numbers, text, texts

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
#: The score of what is found before anything is joined.
_FOUND_BEFORE = -1000.0
_NEVER = -10000.0


class Vocabulary(Struct, frozen=True):
    """The keys of the tokenizer, and sentences on what llama.cpp does otherwise."""

    values: dict[str, Value]
    notes: tuple[str, ...] = ()


class _Pieces:
    """Texts, scores and types by number, padded to the rows of the embedding."""

    def __init__(self, count: int) -> None:
        self.texts = [f"[PAD{number}]" for number in range(count)]
        self.scores = [_NEVER] * count
        self.kinds = [UNUSED] * count

    def put(self, number: int, content: str, score: float, kind: int) -> None:
        if 0 <= number < len(self.texts):
            self.texts[number], self.scores[number], self.kinds[number] = content, score, kind

    def put_added(self, number: int, content: str, is_special: bool) -> None:
        if is_special or _looks_special(content):
            self.put(number, content, _FOUND_BEFORE, CONTROL)
        else:
            self.put(number, content.replace("▁", " "), _FOUND_BEFORE, USER_DEFINED)

    def values(self) -> dict[str, Value]:
        return {
            "tokenizer.ggml.tokens": texts(self.texts),
            "tokenizer.ggml.token_type": numbers(INT32, self.kinds),
        }


def plan_vocabulary(files: TokenizerFiles, config: Mapping[str, Any], vocab: int, family: str) -> Vocabulary:
    """The tokenizer in `files` for a model with so many tokens; `config` is its config.json."""
    special = SpecialTokens(files, config, vocab)
    tokenizer = files.tokenizer
    if files.sentencepiece is not None and family != "gpt2":
        found = _sentencepiece(files, vocab)
    elif tokenizer and is_byte_level(tokenizer.pre_tokenizer):
        found = _byte_level(files, tokenizer, special, vocab)
    elif tokenizer and files.pieces().byte_fallback:
        found = _with_byte_fallback(files, tokenizer, special, vocab)
    else:
        raise files.refuse(
            "joins pieces neither of bytes nor with bytes to fall back to, which a GGUF file has no words for; "
            "quantize to a folder instead, such as --to w8a16"
        )
    values = found.values | special.values() | _templates(files)
    if isinstance(prefix := files.settings.get("add_prefix_space"), bool) and family in ("llama", "mistral"):
        values["tokenizer.ggml.add_space_prefix"] = flag(prefix)
    return Vocabulary(values, found.notes)


def _byte_level(files: TokenizerFiles, tokenizer: TokenizerJson, special: SpecialTokens, vocab: int) -> Vocabulary:
    rules = files.pieces()
    _check_numbers(files, rules, tokenizer.added_tokens, vocab)
    pieces = _Pieces(vocab)
    for content, number in rules.vocab.items():
        pieces.put(number, content, 0.0, NORMAL)
    named = _named(files, special)
    for content in named & rules.vocab.keys():
        pieces.put(rules.vocab[content], content, 0.0, CONTROL)
    for added in tokenizer.added_tokens:
        content = added.content if added.normalized else _as_written(added.content)
        pieces.put_added(added.id, content, added.special or added.content in named)
    name = split_name(tokenizer.pre_tokenizer, bool(rules.ignore_merges)) if _is_unchanged(tokenizer) else None
    values = {"tokenizer.ggml.model": text("gpt2"), "tokenizer.ggml.pre": text(name or "gpt-2")}
    values |= pieces.values() | {"tokenizer.ggml.merges": texts(_merge(pair) for pair in rules.merges)}
    if name in BEGINS and "bos" not in special.adds:
        values["tokenizer.ggml.add_bos_token"] = flag(False)
    if name is not None:
        return Vocabulary(values)
    values["tokenizer.huggingface.json"] = text(files.raw.decode())
    note = (
        "llama.cpp has no name for how this tokenizer changes or splits text; the rule of GPT-2 is written, so "
        "llama.cpp may split some texts otherwise. The whole tokenizer.json is in the file too, for who reads it"
    )
    return Vocabulary(values, (note,))


def _with_byte_fallback(
    files: TokenizerFiles, tokenizer: TokenizerJson, special: SpecialTokens, vocab: int
) -> Vocabulary:
    rules = files.pieces()
    _check_numbers(files, rules, tokenizer.added_tokens, vocab)
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(rules.merges):
        ranks.setdefault("".join(_parts(pair)), rank)
    named = _named(files, special)
    named |= {added.content for added in tokenizer.added_tokens if added.special}
    pieces = _Pieces(vocab)
    for content, number in rules.vocab.items():
        kind = BYTE if _BYTE.fullmatch(content) else CONTROL if content in named else NORMAL
        pieces.put(number, content, float(-ranks.get(content, 0)), kind)
    for added in tokenizer.added_tokens:
        if rules.vocab.get(added.content) != added.id:
            kind = CONTROL if added.content in named else USER_DEFINED
            pieces.put(added.id, added.content, _FOUND_BEFORE, kind)
    values = _llama(pieces)
    if not _puts_space_first(tokenizer):
        values["tokenizer.ggml.add_space_prefix"] = flag(False)
    if "bos" not in special.adds:
        values["tokenizer.ggml.add_bos_token"] = flag(False)
    return Vocabulary(values)


def _sentencepiece(files: TokenizerFiles, vocab: int) -> Vocabulary:
    assert files.sentencepiece is not None, "asked only where there is a tokenizer.model"
    pieces = _Pieces(vocab)
    for number, piece in enumerate(read_pieces(files.sentencepiece, files.folder / "tokenizer.model")):
        pieces.put(number, piece.text, piece.score, NORMAL if piece.kind == USER_DEFINED else piece.kind)
    for content, number in files.added.items():
        if isinstance(number, int):
            pieces.put(number, content, _FOUND_BEFORE, USER_DEFINED)
    listed = files.settings.get("added_tokens_decoder")
    for key, entry in listed.items() if isinstance(listed, dict) else []:
        if not key.isdecimal() or not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise files.refuse(f"has the entry {key!r} in added_tokens_decoder, which isn't one; download it again")
        pieces.put_added(int(key), entry["content"], bool(entry.get("special")))
    return Vocabulary(_llama(pieces))


def _llama(pieces: _Pieces) -> dict[str, Value]:
    values = {"tokenizer.ggml.model": text("llama"), "tokenizer.ggml.pre": text("default")}
    return values | pieces.values() | {"tokenizer.ggml.scores": numbers(FLOAT32, pieces.scores)}


def _check_numbers(files: TokenizerFiles, rules: Pieces, added: Sequence[Added], vocab: int) -> None:
    most = max((*rules.vocab.values(), *(one.id for one in added)), default=0)
    if most >= vocab or min(rules.vocab.values(), default=0) < 0:
        raise files.refuse(
            f"has the number {most}, but the model has {vocab} tokens; take the tokenizer that belongs to the model"
        )


def _named(files: TokenizerFiles, special: SpecialTokens) -> set[str]:
    """Texts of tokens that the settings give a part to play; those never come from joining."""
    named: set[str] = set()
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = files.settings.get(key)
        listed: Iterable[Any] = more.values() if isinstance(more, dict) else more if isinstance(more, list) else ()
        named |= {one for one in listed if isinstance(one, str)}
    return named | {name for name in special.names.values() if name}


def _is_unchanged(tokenizer: TokenizerJson) -> bool:
    """Whether text is split as it is. Composing letters is let pass: Qwen does it, and llama.cpp leaves it out."""
    return tokenizer.normalizer is None or tokenizer.normalizer.get("type") == "NFC"


def _puts_space_first(tokenizer: TokenizerJson) -> bool:
    steps = [tokenizer.normalizer or {}, tokenizer.pre_tokenizer or {}]
    for key in ("normalizers", "pretokenizers"):
        steps += [one for step in steps for one in step.get(key) or [] if isinstance(one, dict)]
    return any(
        step.get("type") == "Prepend"
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


def _parts(pair: str | tuple[str, str]) -> Sequence[str]:
    return pair.split(" ") if isinstance(pair, str) else pair


def _merge(pair: str | tuple[str, str]) -> str:
    """A pair in one text; a space within a part is shown as byte-level tokenizers show it."""
    return pair if isinstance(pair, str) else " ".join(part.replace(" ", "Ġ") for part in pair)


def _looks_special(content: str) -> bool:
    """Some models don't mark tokens as special that are."""
    if content in ("<pad>", "<mask>", "<2mass>", "[@BOS@]"):
        return True
    pairs = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return any(content.startswith(begin) and content.endswith(end) for begin, end in pairs)


def _letters() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTES = _letters()


def _as_written(content: str) -> str:
    """What decoding gives for a piece that is found in unchanged text: letters that stand for bytes become those."""
    if any(letter not in _BYTES for letter in content):
        return content
    return bytes(_BYTES[letter] for letter in content).decode(errors="replace")


def _templates(files: TokenizerFiles) -> dict[str, Value]:
    templates = read_templates(files)
    values = {}
    if (usual := templates.pop("default", None)) is not None:
        values["tokenizer.chat_template"] = text(usual)
    named = {re.sub(r"[^A-Za-z0-9]", "_", name): template for name, template in templates.items()}
    values |= {f"tokenizer.chat_template.{name}": text(template) for name, template in named.items()}
    return values | ({"tokenizer.chat_templates": texts(named)} if named else {})
