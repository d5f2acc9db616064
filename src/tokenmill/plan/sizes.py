"""Sizes, rates and times as people state them, always with a unit, and as they are shown again.

A GB is 10^9 bytes, as makers of devices and of networks count; a GiB is 2^30. What is predicted is shown with two
digits, because it isn't known better.
"""

from __future__ import annotations

import re
from math import floor, log10

from tokenmill.errors import UsageError

_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)\s*"
_SIZE = re.compile(_NUMBER + r"([KMGT]i?B)", re.IGNORECASE)
_RATE = re.compile(_NUMBER + r"([KMGT])(i?B|bit)/s", re.IGNORECASE)
_COMPUTE = re.compile(_NUMBER + r"([GTP])FLOP(?:/s|S)", re.IGNORECASE)
_TIME = re.compile(_NUMBER + r"(ns|us|ms|s)", re.IGNORECASE)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def read_size(text: str, place: str) -> int:
    """Bytes, of `11GB` or `24GiB`. `place` says in errors where it stands."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{place}: {text!r} is no size; write a number and its unit, such as 11GB or 24GiB")
    return round(_above_zero(found[1], text, place) * _times(found[2][0], _base(found[2])))


def read_rate(text: str, place: str) -> float:
    """Bytes per second, of `616GB/s` or `100Gbit/s`."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{place}: {text!r} is no rate; write a number and its unit, such as 616GB/s or 100Gbit/s")
    bits = 8 if found[3].lower() == "bit" else 1
    return _above_zero(found[1], text, place) * _times(found[2], _base(found[3])) / bits


def read_compute(text: str, place: str) -> float:
    """Operations per second, of `65TFLOP/s` or `65TFLOPS`."""
    found = _COMPUTE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{place}: {text!r} is no rate of operations; write it with its unit, such as 65TFLOP/s")
    return _above_zero(found[1], text, place) * _times(found[2], 1000)


def read_time(text: str, place: str) -> float:
    """Seconds, of `10us` or `60s`."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{place}: {text!r} is no time; write a number and its unit, such as 10us or 60s")
    return float(found[1]) * _SECONDS[found[2].lower()]


def _above_zero(number: str, text: str, place: str) -> float:
    if float(number) <= 0:
        raise UsageError(f"{place}: {text!r} must be above 0")
    return float(number)


def _times(letter: str, base: int) -> float:
    return float(base) ** _POWERS[letter.upper()]


def _base(unit: str) -> int:
    return 1024 if "i" in unit.lower().removesuffix("bit") else 1000


def two_digits(value: float) -> str:
    """A number as it is known: 46.7 is 47, 467 is 470, 4.67 is 4.7."""
    if value == 0:
        return "0"
    digits = 1 - floor(log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:.{digits}f}" if digits > 0 and abs(rounded) < 10 else f"{rounded:.0f}"


def show_size(size: float) -> str:
    """A predicted size with two digits: 4.7 GB, 830 MB."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 0.995 * 10**power:
            return f"{two_digits(size / 10**power)} {unit}"
    return f"{size:.0f} B"


def show_stated(size: float) -> str:
    """A size that somebody stated, as it is: 110 GB, 25.8 GB."""
    return f"{size / 1e9:.4g} GB" if size >= 1e9 else f"{size / 1e6:.4g} MB"


def show_token(size: float) -> str:
    """The keys and values of a token, which are counted in powers of 2: 128 KiB."""
    return f"{size / 1024:.4g} KiB"
