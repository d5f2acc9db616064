"""What llama.cpp calls the rule by which a tokenizer splits text before it joins pieces.

llama.cpp knows such rules by name and recognises them by what known vocabularies make of a test text. Here they are
recognised by the rule itself, so that a new vocabulary with a known rule is fine too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_MARKS = _REST.replace(r"\p{L}", r"\p{L}\p{M}")
_REST_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_CASED = rf"{_WORD}{_UPPER}*{_LOWER}+"
_CAPITALS = rf"{_WORD}{_UPPER}+{_LOWER}*"

#: Names by the expression that splits.
_EXPRESSIONS = {
    **{rf"{end}|{_WORD}\p{{L}}+|\p{{N}}{{1,3}}{_REST}": "llama-bpe" for end in _ENDINGS},
    **{rf"{end}|{_WORD}\p{{L}}+|\p{{N}}{_REST}": "qwen2" for end in _ENDINGS},
    **{rf"{end}|{_WORD}[\p{{L}}\p{{M}}]+|\p{{N}}{_REST_MARKS}": "qwen35" for end in _ENDINGS},
    rf"{_CASED}|{_CAPITALS}|\p{{N}}{_REST_SLASH}": "tekken",
    **{rf"{_CASED}{end}?|{_CAPITALS}{end}?|\p{{N}}{{1,3}}{_REST_SLASH}": "gpt-4o" for end in _ENDINGS},
}


def expression_of(name: str) -> str:
    """The expression of a rule that has one; where it may be written in two ways, the shorter."""
    return next(expression for expression, known in _EXPRESSIONS.items() if known == name)


#: Rules under which llama.cpp takes a word that is a piece as it is; and the same rule without that, if it has a name.
_WHOLE_WORDS = {"llama-bpe": "smaug-bpe", "tekken": None}
#: Rules under which llama.cpp begins every text with the first token unless the file says otherwise.
BEGINS = ("llama-bpe", "tekken")


def split_name(rule: Mapping[str, Any] | None, ignore_merges: bool) -> str | None:
    """llama.cpp's name for the rule of a byte-level tokenizer; None if it has none."""
    steps = _steps(rule)
    kinds = [step.get("type") for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space", True):
        return None
    splits_itself = steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and splits_itself:
        return None if ignore_merges else "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and splits_itself and steps[0].get("individual_digits"):
        return None if ignore_merges else "smollm"
    if kinds != ["Split", "ByteLevel"] or splits_itself:
        return None
    return _by_expression(steps[0], ignore_merges)


def _by_expression(split: Mapping[str, Any], ignore_merges: bool) -> str | None:
    pattern = split.get("pattern")
    if not isinstance(pattern, dict) or split.get("behavior") != "Isolated" or split.get("invert"):
        return None
    name = _EXPRESSIONS.get(str(pattern.get("Regex")))
    if name is None or ignore_merges == (name in _WHOLE_WORDS):
        return name
    return _WHOLE_WORDS.get(name)


def is_byte_level(rule: Mapping[str, Any] | None) -> bool:
    """Whether text becomes bytes, each shown as a letter, before pieces are joined."""
    return any(step.get("type") == "ByteLevel" for step in _steps(rule))


def _steps(rule: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if rule is None:
        return []
    steps = rule.get("pretokenizers") if rule.get("type") == "Sequence" else [rule]
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
