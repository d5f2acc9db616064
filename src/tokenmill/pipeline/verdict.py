"""The number that a judge gives, and its reason, in an answer that may be sloppy.

A number counts where the answer says what it is: in JSON, after a label, over the end of the scale, or alone. One that
goes on as a range, as a fraction or over another scale is no clear one, and makes no verdict: it may mean anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf, isnan, nan

from msgspec import Struct

from tokenmill.pipeline.json_value import find_values

#: Longest reason that is kept, in characters.
_LONGEST = 1000

_NUMBER = r"([-+]?\d+(?:\.\d+)?)"
_MARKS = r"[ \t*_`\"]*"
_NAMES = r"(?:score|rating|grade|verdict)\b"
_BETWEEN = r"(?:[-\u2010-\u2015\u2212~]|(?:to|or|and)\b)"
_SCORE = re.compile(rf"\b{_NAMES}[\s*_`\"]*(?:(?:is|of|[:=])[\s*_`\"]*)?{_NUMBER}", re.IGNORECASE)
_SCORE_LINE = re.compile(rf"\n[ \t\r>*_#`\"\-]*{_NAMES}", re.IGNORECASE)
_ONLY_MARKS = ' \t\r>*_#`"-'
#: What a number is over, and what makes it another number or one of several.
_OVER = re.compile(rf"{_MARKS}\(?(?:/|out of\b|of\b(?={_MARKS}\d)|%){_MARKS}([\d./]*)", re.IGNORECASE)
_GOES_ON = re.compile(
    rf"[.,]\d|[\u00bc-\u00be\u2150-\u215e]|{_MARKS}(?:{_BETWEEN}{_MARKS})?[\d\u00bc-\u00be\u2150-\u215e]", re.IGNORECASE
)
_SHARE = re.compile(
    rf"(?<![\d./])(\d+(?:\.\d+)?(?:,|[ \t]*{_BETWEEN}[ \t]*))?{_NUMBER}"
    r"[ \t]*(?:/|out of)[ \t]*(\d+(?:\.\d+)?)(?![\d/])",
    re.IGNORECASE,
)
_BARE = re.compile(rf"[\s*_`]*{_NUMBER}[\s*_`.]*")
#: A line such as `9 - fine` or `9/10: fine`; where one comes first and no other follows, it is a verdict.
_LED = re.compile(
    rf"^[ \t>*_`\"]*{_NUMBER}(?:[ \t]*(?:/|out of)[ \t]*(\d+))?[*_`\"]*"
    r"(?:[ \t]+[-\u2013\u2014]+|[ \t]*:)[ \t*_`]+(?=[^\W\d])",
    re.MULTILINE | re.IGNORECASE,
)
_REASON = re.compile(
    r"\b(?:reason|reasoning|explanation|because)\b[\s*_`\"]*[:=]?[\s*_`\"]*(.+)", re.IGNORECASE | re.DOTALL
)


class Verdict(Struct, frozen=True):
    """`score` and why; None where the answer gives no score, and then `said` is what is wrong with it."""

    score: float | None
    said: str


def verdict(text: str, low: float, high: float) -> Verdict:
    """A number and why; two different numbers are no verdict, and neither is an unclear one or one out of range."""
    numbers, reason = _of_json(text)
    led = [each for each in _LED.finditer(text.strip()) if each[2] in (None, f"{high:g}")]
    leads = bool(led) and led[0].start() == 0
    numbers = numbers or list(_labelled(text, high)) or list(_shares(text, high))
    if not numbers and (alone := _BARE.fullmatch(text)):
        numbers = [float(alone[1])]
    if not numbers and leads:
        numbers = [float(found[1]) for found in led]
    if fault := _fault(numbers, low, high):
        return Verdict(None, fault)
    if not reason and (found := _REASON.search(text)):
        reason = _before_score(found[1])
    if not reason and len(led) == 1 and leads:
        reason = text.strip()[led[0].end() :]
    return Verdict(numbers[0], " ".join(reason.split())[:_LONGEST])


def _fault(numbers: list[float], low: float, high: float) -> str:
    asked = f"a score from {low:g} to {high:g}"
    if not numbers:
        return f"the answer gives no score; it must give {asked}"
    if any(map(isnan, numbers)):
        return f"the answer gives no clear score; it must give {asked}"
    if len(set(numbers)) > 1:
        return f"the answer gives {len(set(numbers))} different scores; it must give one"
    if not low <= numbers[0] <= high:
        return f"the score {numbers[0]:g} is out of range; it must be {asked}"
    return ""


def _labelled(text: str, high: float) -> Iterator[float]:
    """The numbers after a label; NaN for each that isn't clear."""
    for found in _SCORE.finditer(text):
        over = _OVER.match(text, found.end())
        if over is not None:
            whole = 100 if "%" in over[0] else _number(over[1])
            yield float(found[1]) if whole == high else nan
        else:
            yield nan if _GOES_ON.match(text, found.end()) else float(found[1])


def _shares(text: str, high: float) -> Iterator[float]:
    """The numbers over the end of the scale; NaN for each of several, as in `7-8/10`."""
    for found in _SHARE.finditer(text):
        if float(found[3]) == high:
            yield nan if found[1] else float(found[2])


def _number(text: str) -> float:
    try:
        return float(text.rstrip("."))
    except ValueError:
        return nan


def _before_score(reason: str) -> str:
    """A reason up to the line of the score, and without the lines of mere marks between the two."""
    lines = _SCORE_LINE.split(reason, maxsplit=1)[0].split("\n")
    while lines and not lines[-1].strip(_ONLY_MARKS):
        lines.pop()
    return "\n".join(lines)


def _float(number: float) -> float:
    """Whole numbers of JSON may be larger than any float."""
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf


def _of_json(text: str) -> tuple[list[float], str]:
    numbers, reason = [], ""
    for value in find_values(text):
        if isinstance(value, dict):
            low = {str(name).casefold(): each for name, each in value.items()}
            numbers += [
                _float(low[name])
                for name in ("score", "rating", "grade")
                if isinstance(low.get(name), int | float) and not isinstance(low.get(name), bool)
            ]
            reason = next(
                (str(low[name]) for name in ("reason", "explanation") if isinstance(low.get(name), str)), reason
            )
    return numbers, reason
