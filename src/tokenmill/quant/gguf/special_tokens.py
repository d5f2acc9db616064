"""The tokens with a part to play: which begins and ends a text, and whether a tokenizer adds them by itself.

What stands where differs from model to model: the names of tokens are in tokenizer_config.json, their numbers in
tokenizer.json or config.json, and what is added in the template of the post-processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tokenmill.quant.gguf.tokenizer_files import TokenizerFiles
from tokenmill.quant.gguf.value import Value, flag, uint32

#: The word for a part in the keys of a GGUF file; `seperator` is spelt so there.
WORDS = {
    "bos": "bos",
    "eos": "eos",
    "eot": "eot",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "mask": "mask",
}
ADDED = ("bos", "eos", "sep")


class SpecialTokens:
    """Parts and their tokens by name and number, and for parts in `adds` whether they are added by themselves."""

    def __init__(self, files: TokenizerFiles, config: Mapping[str, Any], vocab: int) -> None:
        self.names = {part: _content(files.settings.get(f"{part}_token")) for part in (*WORDS, "cls")}
        self.names["eot"] = None
        self.adds: dict[str, bool] = {}
        self._has_settings = bool(files.settings)
        if self._has_settings:
            self.names["bos"] = self.names["bos"] or self.names["cls"]
            self.names["eos"] = self.names["eos"] or self.names["sep"]
        if files.tokenizer:
            for processor in _processors(files.tokenizer.post_processor):
                self._read(processor)
        for part in ADDED:
            if isinstance(stated := files.settings.get(f"add_{part}_token"), bool):
                self.adds.setdefault(part, stated)
        numbers = {token.content: token.id for token in files.tokenizer.added_tokens} if files.tokenizer else {}
        self.ids: dict[str, int] = {}
        for part, name in self.names.items():
            number = _id(numbers.get(name or ""), config.get(f"{part}_token_id"))
            if number is not None and number < vocab:
                self.ids[part] = number

    def values(self) -> dict[str, Value]:
        found = {
            f"tokenizer.ggml.{word}_token_id": uint32(self.ids[part])
            for part, word in WORDS.items()
            if part in self.ids
        }
        return found | {
            f"tokenizer.ggml.add_{part}_token": flag(self.adds[part]) for part in ADDED if part in self.adds
        }

    def _read(self, processor: Mapping[str, Any]) -> None:
        if processor.get("type") == "ByteLevel":
            self.adds.setdefault("bos", False)
            self.adds.setdefault("eos", False)
        elif processor.get("type") == "TemplateProcessing":
            single, pair = (_template(processor.get(key)) for key in ("single", "pair"))
            if len(single) > 1:
                self._read_single(single)
            self._read_pair(single, pair)

    def _read_single(self, single: list[tuple[str, str]]) -> None:
        """What is put before and after a text. Another end than the named one makes that the end of a turn."""
        names = self.names
        if first := _special(single[0]):
            if not names["bos"] or not self._has_settings:
                names["bos"] = first
            self.adds["bos"] = first in (names["bos"], names["cls"])
        if last := _special(single[-1]):
            if self._has_settings and names["eos"] and last != names["eos"]:
                names["eot"] = names["eos"]
            names["eos"] = last
            self.adds["eos"] = True

    def _read_pair(self, single: list[tuple[str, str]], pair: list[tuple[str, str]]) -> None:
        """Whether two texts are joined by a separator; what begins and ends one text is left out."""
        first, last = (_special(single[0]), _special(single[-1])) if len(single) > 1 else (None, None)
        if first and pair and _special(pair[0]) == first:
            pair = pair[1:]
        if last and pair and _special(pair[-1]) == last:
            pair = pair[:-1]
        if len(pair) > 2 and pair[0] == ("Sequence", "A") and pair[-1] == ("Sequence", "B"):
            between = [_special(step) for step in pair[1:-1]]
            known = [name in (self.names["sep"], self.names["eos"]) and name is not None for name in between]
            self.adds["sep"] = (known[0] and not last) or (len(known) == 2 and known[1])


def _id(*found: object) -> int | None:
    """The first that is a number of a token."""
    return next((one for one in found if isinstance(one, int) and not isinstance(one, bool) and one >= 0), None)


def _content(entry: object) -> str | None:
    """The text of a token, which stands there itself or in an object with its settings."""
    found = entry.get("content") if isinstance(entry, dict) else entry
    return found if isinstance(found, str) else None


def _processors(processor: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    if processor is None:
        return []
    steps = processor.get("processors", [processor])
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _template(steps: object) -> list[tuple[str, str]]:
    """The steps of a template, each the kind and the name of what is put there."""
    found = []
    for step in steps if isinstance(steps, list) else []:
        for kind, what in step.items() if isinstance(step, dict) else []:
            found.append((str(kind), str(what.get("id")) if isinstance(what, dict) else ""))
    return found


def _special(step: tuple[str, str]) -> str | None:
    return step[1] if step[0] == "SpecialToken" else None
