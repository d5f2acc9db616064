"""How long an answer will be, judged by the prompt's own words.

The prediction orders requests (longest first) and sizes a plan before anything has run. It is right about "three
sentences" against "thirty", which is what the order needs; the schedule corrects the scale while it runs.
"""

from __future__ import annotations

import re

#: Output tokens when neither the words nor a cap say anything.
DEFAULT = 256.0
#: A cap says little above this: "at most 8,192 tokens" is a safeguard, not a length.
CAP_TRUSTED = 1024
#: Characters looked at from either end; what to do stands before or after the material, not amid it.
WINDOW = 1000

UNITS = {
    "page": 650.0,
    "paragraph": 110.0,
    "verse": 40.0,
    "sentence": 22.0,
    "step": 22.0,
    "example": 18.0,
    "question": 18.0,
    "reason": 18.0,
    "bullet": 18.0,
    "point": 18.0,
    "fact": 18.0,
    "idea": 18.0,
    "item": 18.0,
    "tip": 18.0,
    "line": 12.0,
    "title": 10.0,
    "name": 5.0,
    "word": 1.35,
    "token": 1.0,
    "character": 0.25,
    "letter": 0.25,
}
ITEM = 18.0

_UP_TO_19 = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NAMES = {name: value for value, name in enumerate(_UP_TO_19.split(), 1)}
_NAMES |= {name: 10 * value for value, name in enumerate(_TENS.split(), 2)}
_NAMES |= {"a": 1, "an": 1, "dozen": 12, "hundred": 100, "thousand": 1000}

_WORD = "|".join(sorted(_NAMES, key=len, reverse=True))
_NUMBER = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d{{1,6}}|(?:{_WORD})(?:[ -](?:{_WORD}))*)"
_FILLER = r"(?:(?:short|brief|single|long|concise|detailed|full|simple|different|bullet|new|good|key|main|more)[ -]+)"
_UNIT = re.compile(rf"(?:{'|'.join(UNITS)})s?(?![a-z])")
_BEFORE = re.compile(rf"(?<![\w.,])({_NUMBER})(?:\s?(?:-|\u2013|to|or)\s?({_NUMBER}))?[\s-]+{_FILLER}{{0,2}}$")
_LIST = re.compile(rf"(?<![a-z])(?:list(?: of)?|top|name)\s+({_NUMBER})(?![\w.])")
#: Characters in front of a unit that can hold its number.
_REACH = 48


def predict(prompt: str, max_tokens: int | None = None) -> float:
    """Predicted output tokens, at least 1 and at most `max_tokens`.

    The last length named counts, as in "summarise these 500 words in 2 sentences"; one that is meant for each of
    an earlier one multiplies it, as in "3 paragraphs of 5 sentences each".
    """
    text = prompt if len(prompt) <= 2 * WINDOW else f"{prompt[:WINDOW]}\n{prompt[-WINDOW:]}"
    found = _from_words(text.lower())
    if found is None:
        found = DEFAULT if max_tokens is None else float(min(max_tokens, CAP_TRUSTED))
    elif max_tokens is not None:
        found = min(found, float(max_tokens))
    return max(found, 1.0)


def _from_words(text: str) -> float | None:
    length, count = None, 1.0
    for unit in _UNIT.finditer(text):
        start = max(0, unit.start() - _REACH)
        number = _BEFORE.search(text, start, unit.start())
        if number is None:
            continue
        amount = _amount(number)
        each = length is not None and text[unit.end() : unit.end() + 5].strip(" ,.") == "each"
        factor = count if each else 1.0
        count = amount
        length = factor * amount * UNITS[unit[0] if unit[0] in UNITS else unit[0][:-1]]
    if length is None and (listed := _LIST.search(text)):
        return _value(listed[1]) * ITEM
    return length


def _amount(number: re.Match[str]) -> float:
    low = _value(number[1])
    return low if number[2] is None else (low + _value(number[2])) / 2


def _value(text: str) -> float:
    if text[0].isdigit():
        return float(text.replace(",", ""))
    total = part = 0
    for word in re.split("[ -]", text):
        value = _NAMES[word]
        if value in (12, 100, 1000) and word != "twelve":
            part = max(part, 1) * value
        else:
            part += value
        if word == "thousand":
            total, part = total + part, 0
    return float(total + part)
