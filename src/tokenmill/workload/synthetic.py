"""Synthetic requests: lengths drawn from named distributions, for benchmarks that need a known mix.

Written `synthetic:rows=1000,output=lognormal(5,1),prompt=uniform(10,200),seed=7`. Every part may be left out.
`output` becomes the row's `max_tokens`, `prompt` is the length of the prompt in words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from random import Random

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.workload.words import text

PREFIX = "synthetic:"
MAX_ROWS = 10_000_000
MAX_LENGTH = 1_000_000

_EXAMPLE = "synthetic:rows=1000,output=lognormal(5,1),prompt=uniform(10,200),seed=7"
_PART = re.compile(r"\s*(\w+)\s*=\s*([^,()]+(?:\([^()]*\))?)\s*(?:,|$)")
_CALL = re.compile(r"(\w+)\s*\(([^()]*)\)\s*")
_PARAMETERS = {
    "uniform": ("low", "high"),
    "lognormal": ("mu", "sigma"),
    "normal": ("mean", "sd"),
    "exponential": ("mean",),
}


class Lengths(Struct, frozen=True):
    """A distribution of lengths; `constant` has one parameter, the others as in `_PARAMETERS`."""

    kind: str
    parameters: tuple[float, ...]

    def draw(self, rng: Random) -> int:
        """A length from 1 to MAX_LENGTH."""
        return min(max(1, round(min(self._value(rng), MAX_LENGTH))), MAX_LENGTH)

    def _value(self, rng: Random) -> float:
        first, second = (*self.parameters, 0.0)[:2]
        match self.kind:
            case "uniform":
                return first + math.floor(rng.random() * (second - first + 1))
            case "normal":
                return first + second * _standard_normal(rng)
            case "lognormal":
                return math.exp(min(first + second * _standard_normal(rng), 100.0))
            case "exponential":
                return -first * math.log(1 - rng.random())
        return first


class Synthetic(Struct, frozen=True, kw_only=True):
    """A whole synthetic input."""

    rows: int = 100
    output: Lengths = Lengths("uniform", (10.0, 300.0))
    prompt: Lengths = Lengths("constant", (20.0,))
    seed: int = 0


def parse_synthetic(source: str) -> Synthetic:
    """Reads the part after `synthetic:`; raises `UsageError` that shows a valid form."""
    body, position, found = source.removeprefix(PREFIX).strip(), 0, dict[str, str]()
    while position < len(body):
        part = _PART.match(body, position)
        if part is None:
            raise UsageError(f"{source!r} can't be read from {body[position:]!r} on; write it like {_EXAMPLE}")
        name, value = part[1], part[2].strip()
        if name not in ("rows", "output", "prompt", "seed"):
            raise UsageError(f"{source!r} has no part {name!r}; known: rows, output, prompt, seed")
        if name in found:
            raise UsageError(f"{source!r} gives {name} twice; keep one")
        found[name] = value
        position = part.end()
    default = Synthetic()
    return Synthetic(
        rows=_whole(source, found, "rows", default.rows, 1, MAX_ROWS),
        output=_lengths(source, found["output"]) if "output" in found else default.output,
        prompt=_lengths(source, found["prompt"]) if "prompt" in found else default.prompt,
        seed=_whole(source, found, "seed", default.seed, 0, 2**63 - 1),
    )


def synthetic_rows(made: Synthetic) -> Iterator[dict[str, object]]:
    """The rows; the n-th is the same however many follow it."""
    rng = Random(made.seed)
    for number in range(1, made.rows + 1):
        length, words = made.output.draw(rng), made.prompt.draw(rng)
        prompt = " ".join(text(rng, words + 10).split()[:words])
        yield {"custom_id": f"synthetic-{number}", "prompt": prompt, "max_tokens": length}


def _whole(source: str, found: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    if name not in found:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", found[name]) or not low <= int(found[name]) <= high:
        raise UsageError(f"{source!r}: {name} must be a whole number from {low} to {high}, not {found[name]!r}")
    return int(found[name])


def _lengths(source: str, written: str) -> Lengths:
    call = _CALL.fullmatch(written)
    kind, inside = (call[1], call[2].split(",")) if call else ("constant", [written])
    names = _PARAMETERS.get(kind, ("length",))
    known = ", ".join(f"{name}({','.join(parameters)})" for name, parameters in _PARAMETERS.items())
    try:
        values = tuple(float(value) for value in inside)
    except ValueError:
        values = ()
    if (call and kind not in _PARAMETERS) or len(values) != len(names) or not all(map(math.isfinite, values)):
        raise UsageError(f"{source!r}: {written!r} is no distribution; known: a number, {known}")
    lengths = Lengths(kind, values)
    if not _is_valid(lengths):
        raise UsageError(f"{source!r}: {written!r} gives no lengths of 1 or more; change its parameters")
    return lengths


def _is_valid(lengths: Lengths) -> bool:
    first, second = (*lengths.parameters, 0.0)[:2]
    match lengths.kind:
        case "uniform":
            return 1 <= first <= second
        case "lognormal":
            return second >= 0
        case "normal":
            return first >= 1 and second >= 0
    return first >= 1


def _standard_normal(rng: Random) -> float:
    return math.sqrt(-2 * math.log(1 - rng.random())) * math.cos(2 * math.pi * rng.random())
