"""The tokenizer of a model folder as its files have it, checked and typed; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.model.files import BadModel, find_file, parse_object, read_bytes, read_object

#: The largest template that is read, bytes.
TEMPLATE_LIMIT = 1_000_000


class Added(Struct, frozen=True):
    """A piece of the vocabulary that is found before the text is split."""

    id: int
    content: str
    special: bool = False
    normalized: bool = True


class Pieces(Struct, frozen=True):
    """The rules by which pieces are joined: the vocabulary, and pairs in the order in which they are joined."""

    vocab: dict[str, int]
    merges: list[str | tuple[str, str]] = []
    byte_fallback: bool | None = False
    ignore_merges: bool | None = False


class TokenizerJson(Struct, frozen=True):
    """tokenizer.json, as far as it is needed. The parts are objects with a `type`."""

    model: dict[str, Any]
    added_tokens: list[Added] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None


class TokenizerFiles(Struct, frozen=True):
    """`raw` is tokenizer.json itself; `settings` is tokenizer_config.json, empty without one."""

    folder: Path
    raw: bytes
    tokenizer: TokenizerJson | None
    settings: Mapping[str, Any]
    sentencepiece: bytes | None
    added: Mapping[str, Any]

    def refuse(self, reason: str) -> BadModel:
        return BadModel(f"{self.folder}: the tokenizer {reason}")

    def pieces(self) -> Pieces:
        """The vocabulary and the merges of tokenizer.json; refuses kinds of models that GGUF has no words for."""
        assert self.tokenizer is not None, "asked only where there is a tokenizer.json"
        kind = self.tokenizer.model.get("type", "BPE")
        if kind != "BPE":
            raise self.refuse(
                f"is of the kind {kind!r}, and only BPE can be written to a GGUF file here; "
                "quantize to a folder instead, such as --to w8a16"
            )
        try:
            return msgspec.convert(self.tokenizer.model, Pieces)
        except msgspec.ValidationError as error:
            raise self.refuse(f"isn't valid ({error} in tokenizer.json); download it again") from error


def read_tokenizer(folder: Path) -> TokenizerFiles:
    """The files of the tokenizer in `folder`; raises `BadModel` if there is none or one is broken."""
    path = find_file(folder, "tokenizer.json")
    raw = read_bytes(path) if path else b""
    sentencepiece = find_file(folder, "tokenizer.model")
    if not raw and not sentencepiece:
        raise BadModel(f"{folder} has neither tokenizer.json nor tokenizer.model; download the whole model")
    try:
        tokenizer = msgspec.json.decode(raw, type=TokenizerJson) if path else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadModel(f"{path} isn't a valid tokenizer ({error}); download it again") from error
    return TokenizerFiles(
        folder=folder,
        raw=raw,
        tokenizer=tokenizer,
        settings=_object(folder, "tokenizer_config.json"),
        sentencepiece=read_bytes(sentencepiece) if sentencepiece else None,
        added=_object(folder, "added_tokens.json"),
    )


def read_templates(files: TokenizerFiles) -> dict[str, str]:
    """Chat templates by name; the usual one is `default`. Empty for a model that only continues text."""
    found = files.settings.get("chat_template")
    if found is None and (path := find_file(files.folder, "chat_template.jinja")):
        content = read_bytes(path, TEMPLATE_LIMIT)
        try:
            found = content.decode()
        except UnicodeDecodeError as error:
            raise BadModel(f"{path} isn't valid UTF-8; download it again") from error
    if found is None and (path := find_file(files.folder, "chat_template.json")):
        found = parse_object(read_bytes(path, TEMPLATE_LIMIT), str(path)).get("chat_template")
    if found is None:
        return {}
    if isinstance(found, str):
        return {"default": found}
    try:
        named = msgspec.convert(found, list[dict[str, str]])
        return {one["name"]: one["template"] for one in named}
    except (msgspec.ValidationError, KeyError) as error:
        raise files.refuse("has a chat_template that is neither a text nor a list of named ones") from error


def _object(folder: Path, name: str) -> Mapping[str, Any]:
    path = find_file(folder, name)
    return read_object(path) if path else {}
