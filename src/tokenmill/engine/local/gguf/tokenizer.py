"""The tokenizer of a GGUF file, put into the form of tokenizer.json.

GGUF states the vocabulary, the merges or scores, and how text is divided only by a name that llama.cpp knows. The names
of the supported families' tokenizers are known here too; another one is refused, as every guess would make wrong tokens
without an error. A file that carries its tokenizer.json is taken at its word.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tokenmill.engine.local.gguf.division import division
from tokenmill.engine.local.gguf.merges import scored_merges
from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.metadata import Metadata

WHOLE = "tokenizer.huggingface.json"
PREFIX = "tokenizer.ggml."
#: Kinds of tokens, as llama.cpp numbers them.
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"
#: What templates call the special tokens, and their keys.
SPECIAL = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
    "sep_token": "seperator",
}


def make_tokenizer(metadata: Metadata) -> bytes:
    """The tokenizer that `metadata` state, as tokenizer.json writes it."""
    if WHOLE in metadata:
        return metadata.text(WHOLE).encode()
    kind = metadata.text(PREFIX + "model")
    if kind not in ("gpt2", "llama"):
        raise BadModel(f"{metadata.source}: tokenizers of the kind {kind!r} aren't supported; known: gpt2, llama")
    tokens = metadata.texts(PREFIX + "tokens")
    kinds = _kinds(metadata, len(tokens))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        raise BadModel(f"{metadata.source}: the vocabulary has a token twice; convert the model again")
    made = _byte_level(metadata, vocabulary) if kind == "gpt2" else _sentencepiece(metadata, vocabulary, kinds)
    made |= {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds),
        "post_processor": _ends(metadata, tokens, begins=_begins(metadata, kind)),
    }
    return msgspec.json.encode(made)


def special_texts(metadata: Metadata) -> dict[str, str]:
    """The special tokens by the names that chat templates use."""
    tokens = metadata.texts(PREFIX + "tokens")
    found = {name: _token_id(metadata, key, len(tokens)) for name, key in SPECIAL.items()}
    return {name: tokens[number] for name, number in found.items() if number is not None}


def _token_id(metadata: Metadata, kind: str, vocab: int) -> int | None:
    key = f"{PREFIX}{kind}_token_id"
    if key not in metadata:
        return None
    number = metadata.integer(key)
    return number if 0 <= number < vocab else None


def _kinds(metadata: Metadata, count: int) -> list[int]:
    key = PREFIX + "token_type"
    if key not in metadata:
        return [NORMAL] * count
    found = [int(kind) for kind in metadata.numbers(key)]
    if len(found) != count:
        raise BadModel(f"{metadata.source}: {key} is about {len(found)} tokens of {count}; convert the model again")
    return found


def _added(tokens: list[str], kinds: list[int]) -> list[dict[str, object]]:
    """Tokens that are found in a text before it is divided."""
    return [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != USER,
        }
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (UNKNOWN, CONTROL, USER) and token
    ]


def _begins(metadata: Metadata, kind: str) -> bool:
    """Whether a text begins with its own token, where the file doesn't say: as llama.cpp takes it."""
    return kind == "llama" or division(metadata).begins


def _ends(metadata: Metadata, tokens: list[str], *, begins: bool) -> dict[str, object] | None:
    """What is put before and behind every text."""
    parts: list[dict[str, object]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    used: dict[str, object] = {}
    for key, default, place in (("bos", begins, 0), ("eos", False, 1)):
        number = _token_id(metadata, key, len(tokens))
        if number is None or not metadata.flag(f"{PREFIX}add_{key}_token", default):
            continue
        token = tokens[number]
        parts.insert(place * len(parts), {"SpecialToken": {"id": token, "type_id": 0}})
        used[token] = {"id": token, "ids": [number], "tokens": [token]}
    if not used:
        return None
    pair = [*parts, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": parts, "pair": pair, "special_tokens": used}


def _byte_level(metadata: Metadata, vocabulary: Mapping[str, int]) -> dict[str, object]:
    """Tokens are runs of bytes, joined by merges in their order."""
    known = division(metadata)
    return {
        "normalizer": known.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": known.steps},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(vocabulary, _stated_merges(metadata), ignore_merges=known.ignores_merges),
    }


def _stated_merges(metadata: Metadata) -> list[list[str]]:
    pairs = [merge.split(" ", 1) for merge in metadata.texts(PREFIX + "merges")]
    if any(len(pair) < 2 for pair in pairs):
        raise BadModel(f"{metadata.source}: {PREFIX}merges holds one that joins nothing; convert the model again")
    return pairs


def _bpe(vocabulary: Mapping[str, int], merges: list[list[str]], **settings: object) -> dict[str, object]:
    model: dict[str, object] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return model | settings | {"vocab": dict(vocabulary), "merges": merges}


def _sentencepiece(metadata: Metadata, vocabulary: Mapping[str, int], kinds: list[int]) -> dict[str, object]:
    """Tokens are pieces of text; the pair that makes the best one is joined first, and bytes stand in for the rest."""
    if PREFIX + "merges" in metadata:
        merges = _stated_merges(metadata)
    else:
        scores = metadata.numbers(PREFIX + "scores")
        if len(scores) != len(vocabulary):
            raise BadModel(f"{metadata.source}: {len(scores)} scores for {len(vocabulary)} tokens; convert it again")
        usual = {token: scores[number] for token, number in vocabulary.items() if kinds[number] in (NORMAL, UNUSED)}
        merges = scored_merges(usual, vocabulary)
    prefixed = metadata.flag(PREFIX + "add_space_prefix", True)
    tokens = list(vocabulary)
    unknown = _token_id(metadata, "unknown", len(tokens))
    space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}, space] if prefixed else [space]
    backward: list[dict[str, object]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    backward += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefixed else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": backward},
        "model": _bpe(
            vocabulary,
            merges,
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=BYTE in kinds,
        ),
    }
