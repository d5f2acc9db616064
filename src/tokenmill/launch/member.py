"""What a worker says of itself when it knocks at the door, and what becomes of it."""

from __future__ import annotations

from msgspec import Struct


class Member(Struct, frozen=True, kw_only=True):
    """A worker: where it is and what it may use there.

    `rank` is its number among all that the launcher started, `restart` how often that launcher started it again.
    `cores` and `memory` (bytes) are its share of the host if several share one; `fast_bf16`: whether its CPU multiplies
    bfloat16 itself. `device`: where it computes unless the user said otherwise. `seat`: the name of the seat it wants,
    empty if any will do. `tp`: ranks of its group.
    """

    host: str = ""
    pid: int = 0
    rank: int = 0
    restart: int = 0
    cores: int = 1
    memory: int = 0
    fast_bf16: bool = False
    seat: str = ""
    tp: int = 1

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host} (process {self.pid})"
