"""The sampling options a row may carry, checked one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from difflib import get_close_matches

from msgspec.structs import replace

from tokenmill.request import Sampling
from tokenmill.workload.faults import RowFault, shown

MAX_INT = 2**31 - 1
MAX_SEED = 2**63 - 1
MAX_STOPS = 16


def read_options(
    fields: Mapping[str, object], defaults: Sampling, *, lenient: bool, data: Container[str] = ()
) -> Sampling:
    """The row's own options over the defaults. An option that is null is as if it were not there.

    `lenient` reads table cells, where a number may come as text, as a whole float, or as an empty cell. Fields in
    `data` are no options whatever their name. Raises `RowFault`.
    """
    found: dict[str, object] = {}
    for name, value in fields.items():
        check = CHECKS.get(name)
        if check is None or value is None or name in data:
            continue
        if lenient:
            value = _from_cell(name, value)
            if value is None:
                continue
        _take(found, ALIASES.get(name, name), name, check(name, value))
    return replace(defaults, **found) if found else defaults


def _take(found: dict[str, object], option: str, name: str, value: object) -> None:
    if found.get(option, value) != value:
        raise RowFault(f"{option} and {name} disagree ({found[option]} and {value}); keep one")
    found[option] = value


def _from_cell(name: str, value: object) -> object:
    if isinstance(value, float) and name not in _FRACTIONS and value.is_integer():
        return int(value)
    if not isinstance(value, str) or name == "stop":
        return None if value == "" else value
    if not value.strip():
        return None
    try:
        return float(value) if name in _FRACTIONS else int(value)
    except ValueError as error:
        kind = "a number" if name in _FRACTIONS else "a whole number"
        raise RowFault(f"{name} must be {kind}, not {shown(value)}") from error


def _whole(low: int, high: int, remedy: str) -> Callable[[str, object], object]:
    def check(name: str, value: object) -> object:
        if type(value) is not int:
            raise RowFault(f"{name} must be a whole number, not {shown(value)}")
        if not low <= value <= high:
            raise RowFault(f"{name} {shown(value)} is out of range; {remedy}")
        return value

    return check


def _number(name: str, value: object) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise RowFault(f"{name} must be a number, not {shown(value)}")
    return float(value)


def _temperature(name: str, value: object) -> float:
    number = _number(name, value)
    if not (number >= 0 and math.isfinite(number)):
        raise RowFault(f"{name} {shown(value)} is out of range; use 0 (greedy) or more")
    return number


def _top_p(name: str, value: object) -> float:
    number = _number(name, value)
    if not 0 < number <= 1:
        raise RowFault(f"{name} {shown(value)} is out of range; use more than 0 and at most 1 (off)")
    return number


def _stop(name: str, value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) for stop in stops):
        raise RowFault(f"{name} must be a string or a list of strings, not {shown(value)}")
    if "" in stops:
        raise RowFault(f"{name} holds an empty string, which would end every answer at once; remove it")
    if len(stops) > MAX_STOPS:
        raise RowFault(f"{name} holds {len(stops)} strings, more than {MAX_STOPS}; shorten the list")
    return tuple(stops)


_AT_LEAST_ONE = _whole(1, MAX_INT, f"use 1 to {MAX_INT}")
CHECKS: dict[str, Callable[[str, object], object]] = {
    "max_tokens": _AT_LEAST_ONE,
    "max_completion_tokens": _AT_LEAST_ONE,
    "temperature": _temperature,
    "top_p": _top_p,
    "top_k": _whole(0, MAX_INT, f"use 0 (off) to {MAX_INT}"),
    "seed": _whole(0, MAX_SEED, "use 0 to 2**63 - 1"),
    "stop": _stop,
}
ALIASES = {"max_completion_tokens": "max_tokens"}
_FRACTIONS = ("temperature", "top_p")

#: What a plain row may hold beside data of its own.
KNOWN = frozenset({*CHECKS, "custom_id", "prompt", "messages", "model"})

#: Parameters of the OpenAI interface that would change the answer, and the values that leave it unchanged.
UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "function_call": ("none",),
    "parallel_tool_calls": (),
    "response_format": ({"type": "text"},),
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_tokens": (0,),
    "stream": (False,),
    "stream_options": (),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
}


def check_supported(name: str, value: object) -> None:
    """Raises `RowFault` if this parameter asks for what is not offered yet."""
    if value is None or any(value == neutral for neutral in UNSUPPORTED[name]):
        return
    raise RowFault(f"{name} {shown(value)} is not supported yet; remove it")


def misspelt(name: str) -> str | None:
    """The known field that this unknown one looks like, if any."""
    folded = name.lower().replace("-", "_").replace(" ", "_")
    close = get_close_matches(folded, KNOWN, n=1, cutoff=0.8)
    return close[0] if close else None
