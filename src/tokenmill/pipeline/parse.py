"""Answers become items: text, labelled sections, lines, JSON, verdicts.

Models are sloppy, so marks, case, fences and preambles are forgiven. But nothing is guessed: what is missing, empty,
given twice in different words, or left as a placeholder makes no item, and is told in a sentence that can go into the
next prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from tokenmill.pipeline.json_value import find_values, misfit
from tokenmill.pipeline.recipe import Parser
from tokenmill.pipeline.thoughts import without_thoughts
from tokenmill.pipeline.verdict import verdict

#: Longest answer that is read; a longer one is no answer of the kind that recipes ask for.
MAX_ANSWER = 4 * 1024 * 1024
#: Most items of one answer.
MAX_ITEMS = 1000
#: Most faults of one answer that are told.
TOLD = 5

_ENTRY = re.compile(r"[ \t]*(?:[-*+\u2022]|(?P<mark>[*_]{0,2})\(?\d{1,3}(?:[.):](?P=mark)|(?P=mark)[.):]))[ \t]+(?=\S)")
_LABEL_LEFT = re.compile(r"[\s>*_#`\"\u2022+\-]*(?:\(?\d{1,3}[.)]\s+)?[\s*_`\"\[(]*")
_LABEL_END = re.compile(r"[ \t*_`\"\])]*(?:[:=\uff1a]|[ \t][-\u2013\u2014](?=[ \t])|$)[ \t*_`]*")
#: In brackets words alone are a place to fill in; numbers, and what JSON has around it, are an answer.
_FILL = r"(?![\s.\-]*\d[\d\s.\-]*[\]}])[\w\s'\u2019.\u2026\-]*"
_PLACEHOLDER = re.compile(
    rf"(?:\[{_FILL}\]|<[^<>]*>|\{{{_FILL}\}}|\.{{3}}|\u2026|n/?a|none|null|-+)[.!]?", re.IGNORECASE
)
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb", "`": "`"}


class Piece(Struct, frozen=True, kw_only=True):
    """One item as an answer gave it; `data` is what else was said of it, `value` the number of a verdict."""

    role: str
    text: str
    data: dict[str, Any] = {}
    value: float | None = None


class Parsed(Struct, frozen=True):
    """The items of an answer, in order, and what was wrong with it, in one sentence; empty if nothing was."""

    pieces: tuple[Piece, ...]
    reason: str = ""


def parse(parser: Parser, answer: str, role: str) -> Parsed:
    """Reads an answer; `role` is that of items to which the parser gives none. Never raises for any text."""
    if len(answer) > MAX_ANSWER:
        return Parsed((), f"the answer has {len(answer)} characters, more than {MAX_ANSWER}")
    text = without_thoughts(answer)
    if text is None:
        return Parsed((), "the answer ends inside its thoughts and says nothing after them")
    if not text.strip():
        return Parsed((), "the answer is empty")
    if parser.kind == "sections":
        return _sections(parser, text)
    if parser.kind == "json":
        return _json(parser, text, role)
    if parser.kind == "lines":
        return _lines(text, role)
    if parser.kind == "verdict":
        return _verdict(parser, text, role)
    bare = _bare(text)
    return Parsed((Piece(role=role, text=bare),)) if bare else Parsed((), "the answer is only a placeholder")


def _told(faults: list[str]) -> str:
    more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
    return "; ".join(faults[:TOLD]) + more


def _bare(text: str) -> str:
    """Text without the marks around it; empty if nothing is left, or only a place to fill in."""
    found = text.strip()
    while True:
        before = found
        found = _unbolded(found)
        closing = _QUOTES.get(found[:1])
        if closing and len(found) > 1 and found.endswith(closing) and found[1:-1].count(closing) == 0:
            found = found[1:-1].strip()
        if found == before:
            break
    return "" if _PLACEHOLDER.fullmatch(found) else found


def _unbolded(text: str) -> str:
    """Text without a mark around all of it."""
    for mark in ("**", "__"):
        if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark) and mark not in text[2:-2]:
            text = text[2:-2].strip()
    return text


# -- labelled sections -------------------------------------------------------------------------------------------------


def _sections(parser: Parser, text: str) -> Parsed:
    known = {_folded(label): (role, label) for role, labels in parser.labels.items() for label in labels}
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    current: str | None = None
    for line in text.splitlines():
        label, rest = _label(line, known)
        if label is not None:
            if current is not None:
                found[current].append("\n".join(lines))
            current, lines = label, [rest]
            found.setdefault(label, [])
        elif not line.strip().startswith("```"):
            lines.append(line)
    if current is not None:
        found[current].append("\n".join(lines))
    pieces, faults = [], []
    for folded, (role, label) in known.items():
        texts = list(dict.fromkeys(filter(None, map(_section_text, found.get(folded, [])))))
        if len(texts) == 1:
            pieces.append(Piece(role=role, text=texts[0], data={"label": label}))
        elif texts:
            faults.append(f"the answer gives {label!r} {len(texts)} times in different words")
        else:
            faults.append(
                f"the answer has no {label!r}" if folded not in found else f"{label!r} is empty in the answer"
            )
    return Parsed(tuple(pieces), _told(faults))


def _folded(label: str) -> str:
    return " ".join(re.findall(r"\w+", label.casefold().replace("_", " ")))


def _label(line: str, known: Mapping[str, object]) -> tuple[str | None, str]:
    """The label that a line begins with, and the text after it on the same line."""
    start = _LABEL_LEFT.match(line)
    for begin in dict.fromkeys((start.end() if start else 0, _marks(line))):
        for end in _word_ends(line, begin):
            label = _folded(line[begin:end])
            if label in known and (after := _LABEL_END.match(line, end)):
                return label, line[after.end() :]
    return None, ""


def _marks(line: str) -> int:
    """Where a line begins when a leading number is part of the label, as in `1. sentence`."""
    found = re.match(r"[\s>*_#`\"]*", line)
    return found.end() if found else 0


def _word_ends(line: str, begin: int) -> Iterator[int]:
    """The ends of the first words of a line, so that a label is found whatever follows it."""
    for count, word in enumerate(re.finditer(r"[^\W_]+", line[begin : begin + 200])):
        if count == 12:
            return
        yield begin + word.end()


def _section_text(text: str) -> str:
    """The first paragraph of a section: what comes after an empty line is mostly a remark to the reader."""
    first = re.split(r"\n[ \t]*\n", text.strip(), maxsplit=1)[0]
    return _bare(" ".join(first.split()))


# -- lines -------------------------------------------------------------------------------------------------------------


def _lines(text: str, role: str) -> Parsed:
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("```")]
    is_list = any(_entry(line) is not None for line in lines)
    found: list[list[str]] = []
    for line in lines:
        entry = _entry(line)
        if entry is not None:
            found.append([entry])
        elif not is_list:
            found.append([line])
        elif found and line[:1] in " \t":
            found[-1].append(line.strip())  # an entry that goes on
    entries = [" ".join(parts) for parts in found]
    if not is_list and len(entries) > 1 and entries[0].rstrip().endswith(":"):
        entries = entries[1:]
    texts = [bare for bare in map(_bare, entries) if bare]
    if not texts:
        return Parsed((), "the answer has no lines of its own")
    if len(texts) > MAX_ITEMS:
        return Parsed((), f"the answer has {len(texts)} lines, more than {MAX_ITEMS}")
    return Parsed(tuple(Piece(role=role, text=each) for each in texts))


def _entry(line: str) -> str | None:
    """What an entry of a list says; None for a line that is none. All of it may be bold, or its number."""
    for each in (line, _unbolded(line.strip())):
        if mark := _ENTRY.match(each):
            return each[mark.end() :]
    return None


# -- JSON --------------------------------------------------------------------------------------------------------------


def _json(parser: Parser, text: str, role: str) -> Parsed:
    values = find_values(text)
    if not values:
        return Parsed((), "the answer holds no JSON")
    faults = [misfit(value, parser.schema) for value in values]
    fitting = [value for value, fault in zip(values, faults, strict=True) if not fault]
    if not fitting:
        return Parsed((), faults[0])
    if len(fitting) > 1:
        return Parsed((), "the answer holds several JSON values that differ")
    if not parser.labels:
        return _whole_value(fitting[0], role)
    return _by_keys(parser, fitting[0])


def _whole_value(value: Any, role: str) -> Parsed:
    """Without labels a list is a list of items, and anything else one item."""
    pieces, faults = [], []
    for number, each in enumerate(value if isinstance(value, list) else [value], 1):
        piece = _piece(each, role)
        if piece is None:
            faults.append(f"entry {number} of the JSON has no text")
        else:
            pieces.append(piece)
    return _at_most(pieces, _told(faults) or ("" if pieces else "the JSON has no entries"))


def _by_keys(parser: Parser, value: Any) -> Parsed:
    if not isinstance(value, dict):
        return Parsed((), "the JSON is no object")
    pieces: list[Piece] = []
    faults = []
    for role, keys in parser.labels.items():
        for key in keys:
            given = value.get(key)
            found = [_piece(each, role) for each in (given if isinstance(given, list) else [given])]
            pieces += [piece for piece in found if piece is not None]
            if not any(found):
                faults.append(f"the JSON has no text under {key!r}")
            elif None in found:
                faults.append(f"the JSON has entries without text under {key!r}")
    return _at_most(pieces, _told(faults))


def _at_most(pieces: list[Piece], reason: str) -> Parsed:
    """Nothing of an answer with more items than anyone asks for, as of one with too many lines."""
    if len(pieces) > MAX_ITEMS:
        return Parsed((), f"the JSON has {len(pieces)} entries, more than {MAX_ITEMS}")
    return Parsed(tuple(pieces), reason)


def _piece(value: Any, role: str) -> Piece | None:
    """A string, or an object with its text under `text` and more beside it; an object without is kept as it is."""
    if isinstance(value, str):
        bare = _bare(value)
        return Piece(role=role, text=bare) if bare else None
    if not isinstance(value, dict) or not value:
        return None
    given = value.get("text")
    if isinstance(given, str):
        bare = _bare(given)
        return Piece(role=role, text=bare, data={k: v for k, v in value.items() if k != "text"}) if bare else None
    said = [f"{name}: {each}" for name, each in value.items() if isinstance(each, str) and _bare(each)]
    return Piece(role=role, text="\n".join(said), data=value) if said else None


# -- verdicts ----------------------------------------------------------------------------------------------------------


def _verdict(parser: Parser, text: str, role: str) -> Parsed:
    found = verdict(text, parser.low, parser.high)
    if found.score is None:
        return Parsed((), found.said)
    return Parsed((Piece(role=role, text=found.said, value=found.score),))
