"""What launcher and agent say to each other: one JSON value a line, orders in, reports out."""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Hold(Struct, frozen=True, tag="hold", kw_only=True):
    """The first order: connect to `address` (None: start Ray here), and have `seats` workers of `tp` ranks each.

    `workers` are there at the start, the rest may join later. `cpus`, `gpus`: for each rank; `cpus` None for what suits
    the cluster. `environment` is the ranks' own: where the driver is and what proves it; `version` is that of this
    tokenmill. `local_cpus`: processors of a Ray that is started here.
    """

    address: str | None
    workers: int
    seats: int
    tp: int
    cpus: float | None
    gpus: float
    resource: tuple[str, float] | None
    environment: dict[str, str]
    version: str
    local_cpus: int


class Dismiss(Struct, frozen=True, tag="dismiss"):
    """End this worker and place another; void if it was replaced since."""

    index: int
    generation: int


class Connected(Struct, frozen=True, tag="connected"):
    """Ray answers, and workers are being placed; `text` says where."""

    text: str


class Failed(Struct, frozen=True, tag="failed"):
    """There will be no workers, and nothing was left behind; one line for the user."""

    message: str


class Told(Struct, frozen=True, tag="told"):
    """Something that users should know."""

    text: str


class Over(Struct, frozen=True, tag="over"):
    """No worker is left and none will be placed any more."""

    cause: str


Order = Hold | Dismiss
Report = Connected | Failed | Told | Over

_ORDERS: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_REPORTS: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def as_line(message: Order | Report) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def read_order(line: bytes) -> Order:
    return _ORDERS.decode(line)


def read_report(line: bytes) -> Report:
    return _REPORTS.decode(line)
