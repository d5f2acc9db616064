"""Texts to tokens for an encoder: many at once, each cut to the longest that the model takes, special tokens kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tokenizers

from tokenmill.engine.local.tokenizer import BadText, check_vocabulary, foreign_faults, read_stated
from tokenmill.model.files import BadModel


class TextCutter:
    """The tokenizer of one encoder, in the state in which sentence-transformers uses it.

    The cut and the padding that tokenizer.json may hold are another program's leftovers and are not used.
    """

    def __init__(
        self, folder: Path, vocab: int, *, longest: int, lower: bool, side: Literal["left", "right"] = "right"
    ) -> None:
        path, stated = read_stated(folder)
        with foreign_faults(BadModel, f"{path} isn't a usable tokenizer; download it again"):
            self._inner = tokenizers.Tokenizer.from_buffer(stated)
            self._inner.no_padding()
            if lower:
                before = [] if self._inner.normalizer is None else [self._inner.normalizer]
                self._inner.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Lowercase(), *before])
            self._inner.enable_truncation(longest, strategy="longest_first", direction=side)
            kinds = self._inner.encode("a", add_special_tokens=True).type_ids
        if any(kinds):
            raise BadModel(f"{path}: a text alone gets segment {max(kinds)}; only segment 0 is supported")
        check_vocabulary(path, self._inner, vocab)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text; never none of them.

        Raises:
            BadText: a text isn't Unicode, or has no token.
        """
        for number, text in enumerate(texts):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise BadText(
                    f"text {number}: character {error.start} is half of a surrogate pair; send valid Unicode"
                ) from error
        with foreign_faults(BadText, "the tokenizer can't encode the texts"):
            found = [one.ids for one in self._inner.encode_batch_fast(list(texts), add_special_tokens=True)]
        for number, ids in enumerate(found):
            if not ids:
                raise BadText(f"text {number} has no token, so it has no vector; give it some text")
        return found
