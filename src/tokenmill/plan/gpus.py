"""The devices that a plan is made for, as they are stated: `10x11GB`, or `8x80GB,2x24GB` where they differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.plan.sizes import read_size, show_stated

#: More devices than this are several hosts.
MOST = 4096
_GROUP = re.compile(r"\s*(\d+)\s*[xX]\s*(.+?)\s*")
_PLACE = "--gpus"


class Gpus(Struct, frozen=True, kw_only=True):
    """`count` equal devices of `memory` bytes each; `bandwidth` and `compute` are per second, None if unknown."""

    count: int
    memory: int
    bandwidth: float | None = None
    compute: float | None = None

    def __str__(self) -> str:
        return f"{self.count} x {show_stated(self.memory)}"


def parse_gpus(text: str) -> tuple[Gpus, ...]:
    """Groups of equal devices.

    Raises:
        UsageError: it isn't COUNTxSIZE, or says of none, or of more than one plan is for.
    """
    groups = tuple(_parse_group(part) for part in text.split(","))
    total = sum(group.count for group in groups)
    if total > MOST:
        raise UsageError(
            f"{_PLACE}: {total} devices are more than the {MOST} that one plan takes; state those of one "
            "host, and how many hosts with --hosts"
        )
    return groups


def _parse_group(text: str) -> Gpus:
    found = _GROUP.fullmatch(text)
    if found is None:
        raise UsageError(f"{_PLACE}: {text!r} can't be read; write COUNTxSIZE, such as 10x11GB or 8x80GB,2x24GB")
    if int(found[1]) < 1:
        raise UsageError(f"{_PLACE}: {text!r} is no device; write how many there are, such as 10x11GB")
    return Gpus(count=int(found[1]), memory=read_size(found[2], _PLACE))


def count_of(groups: Sequence[Gpus]) -> int:
    return sum(group.count for group in groups)


def memory_of(groups: Sequence[Gpus]) -> int:
    return sum(group.count * group.memory for group in groups)
