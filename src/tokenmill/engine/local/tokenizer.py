"""Text to tokens and back, by the tokenizers library and a folder's tokenizer.json, which runs no code.

Prompts become the same tokens as `tokenizer(text)` of transformers 5 makes: special tokens are those that the file's
post-processor adds, whatever `add_bos_token` of tokenizer_config.json says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import tokenizers

from tokenmill.engine.local.decoding import ByteLevelDecoder, IncrementalDecoder, WindowDecoder
from tokenmill.errors import TokenmillError
from tokenmill.model.files import BadModel, find_file, read_bytes

#: Parts of decoders that look back only, which is what streaming relies on. `ByteLevel` is streamed alone.
STREAMABLE = ("Metaspace", "Replace", "ByteFallback", "Fuse", "Strip")


class BadText(TokenmillError):
    """Text that can't be turned into tokens."""


class Tokenizer:
    """The tokenizer of one model; `vocab` is the number of tokens the model knows.

    `model` is its folder. Where the model states its tokenizer elsewhere, `stated` is that in the form of
    tokenizer.json, and `model` only names it in errors.
    """

    def __init__(self, model: Path, vocab: int, stated: bytes | None = None) -> None:
        path = model
        if stated is None:
            path, stated = read_stated(model)
        with foreign_faults(BadModel, f"{path} isn't a usable tokenizer; download it again"):
            self._inner = tokenizers.Tokenizer.from_buffer(stated)
            self._inner.no_truncation()
            self._inner.no_padding()
            self._inner.encode("", add_special_tokens=True)  # finds special tokens that aren't there
        check_vocabulary(path, self._inner, vocab)
        added = self._inner.get_added_tokens_decoder().values()
        self._special = frozenset(token.content for token in added if token.special)
        self._visible: dict[int, str | None] = {}
        self._decoder = _decoder_kind(path, self._inner)

    def encode(self, text: str, add_special: bool) -> list[int]:
        """The tokens of `text`; `add_special` adds those that begin or end a text of this model."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadText(f"character {error.start} is half of a surrogate pair; send valid Unicode") from error
        with foreign_faults(BadText, "the tokenizer can't encode the text"):
            ids: list[int] = self._inner.encode(text, add_special_tokens=add_special).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, without special ones."""
        text: str = self._inner.decode(tokens, skip_special_tokens=True)
        return text

    def visible(self, token: int) -> str | None:
        """The token as the vocabulary writes it; None for a special or unknown one, which has no text."""
        try:
            return self._visible[token]
        except KeyError:
            written: str | None = self._inner.id_to_token(token)
            self._visible[token] = None if written in self._special else written
            return self._visible[token]

    def decoder(self) -> IncrementalDecoder:
        """A decoder for one answer."""
        return self._decoder(self)


def read_stated(folder: Path) -> tuple[Path, bytes]:
    """Where tokenizer.json of a model is, and what it says."""
    path = find_file(folder, "tokenizer.json")
    if path is None:
        raise BadModel(f"{folder} has no tokenizer.json; save one with save_pretrained of transformers' tokenizer")
    return path, read_bytes(path)


@contextmanager
def foreign_faults(kind: type[TokenmillError], what: str) -> Iterator[None]:
    """Turns what the library raises, which is a bare `Exception` or a panic of Rust, into an error of ours."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{what} ({error})") from error


def check_vocabulary(path: Path, inner: tokenizers.Tokenizer, vocab: int) -> None:
    """Refuses a tokenizer with words that a model of `vocab` doesn't have."""
    ids = inner.get_vocab(with_added_tokens=True)
    if not ids:
        raise BadModel(f"{path} has an empty vocabulary; download it again")
    last = max(ids, key=lambda token: ids[token])
    if ids[last] >= vocab:
        raise BadModel(
            f"{path}: token {last!r} has id {ids[last]}, but config.json has a vocab_size of {vocab}; "
            "take tokenizer and weights of the same model"
        )


def _decoder_kind(path: Path, inner: tokenizers.Tokenizer) -> type[ByteLevelDecoder] | type[WindowDecoder]:
    """The decoder that is exact for this tokenizer; a combination that can't be streamed is refused."""
    if inner.decoder is None:
        return WindowDecoder
    stated = msgspec.json.decode(inner.decoder.__getstate__())
    parts = stated["decoders"] if stated["type"] == "Sequence" else [stated]
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"]:
        return ByteLevelDecoder
    strips = [part for part in parts if part["type"] in ("Metaspace", "Strip")]
    if (
        any(kind not in STREAMABLE for kind in kinds)
        or len(strips) > 1
        or any(part["type"] == "Strip" and (part["start"] > 1 or part["stop"]) for part in strips)
        or ("Fuse" in kinds and "Replace" in kinds[kinds.index("Fuse") :])
    ):
        raise BadModel(
            f"{path}: answers can't be streamed through the decoder {' + '.join(kinds)}; "
            "known: ByteLevel, Metaspace, or Replace + ByteFallback + Fuse + Strip of one leading space"
        )
    return WindowDecoder
