"""What is to be launched: which kind of launcher, how many workers, how many ranks each.

It is a part of a run's settings, so the manifest keeps it and `resume` launches the same again.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from msgspec import Struct

from tokenmill.errors import UsageError

#: Where each kind of launcher is; imported when one of the kind is made.
KINDS = {
    "processes": "tokenmill.launch.processes:Processes",
    "torchrun": "tokenmill.launch.torchrun:Torchrun",
    "slurm": "tokenmill.launch.slurm.launcher:Slurm",
    "ray": "tokenmill.launch.ray.launcher:Ray",
}
#: Seconds without a word from the other end after which it is called lost.
SILENCE = 10.0
#: Workers, and ranks of all of them together, beyond which a number is a slip of the hand.
MOST = 100_000
WAY = "write KIND:WORKERS, such as processes:2 or torchrun:4"
_OPTION = re.compile(r"[a-z][a-z0-9_-]*")
#: The option whose text is NAME=VALUE, a variable a line: lines that users read have the names alone.
VARIABLES = "environment"


class On(Struct, frozen=True, kw_only=True):
    """What `--on` says, whole.

    `workers`: seats of the run, each a node. `most`: so many workers may sit at the same time if more join later, None
    for `workers`. `tp`: ranks of the tensor parallel group that each worker is. `silence`: seconds without a word
    after which a worker, or a driver, is called lost. `force`: more threads than cores are fine. `address`, `port`:
    where workers of other hosts reach the driver; None and 0 for what is found and free. `options` are those of the
    kind alone, by name without dashes in front; the launcher of that kind checks them.
    """

    kind: str
    workers: int
    most: int | None = None
    tp: int = 1
    tp_engine: Literal["native", "deepspeed"] = "native"
    silence: float = SILENCE
    force: bool = False
    address: str | None = None
    port: int = 0
    options: dict[str, str] = {}

    @property
    def ranks(self) -> int:
        """Processes at the start."""
        return self.workers * self.tp

    @property
    def seats(self) -> int:
        """Nodes of the run: workers that can sit at the same time."""
        return self.workers if self.most is None else self.most

    def __str__(self) -> str:
        """As it is written, in one line: kind, workers, and what isn't the default; of variables the names alone."""
        extra = "".join(f",{name}={_shown(name, value)}" for name, value in sorted(self.options.items()))
        divided = f" --tp {self.tp}" if self.tp > 1 else ""
        divider = f" --tp-engine {self.tp_engine}" if self.tp_engine != "native" else ""
        return f"{self.kind}:{self.workers}{extra}{divided}{divider}"


def parse_on(text: str) -> On:
    """`KIND:WORKERS`, and for a kind with options `KIND:WORKERS,NAME=VALUE,...`; raises `UsageError`."""
    shown, *pairs = text.split(",")  # without what it says of variables
    kind, _, number = shown.partition(":")
    if kind not in KINDS:
        raise UsageError(f"--on {shown}: no launcher {kind!r}; known: {', '.join(KINDS)}; {WAY}")
    if not (number.isascii() and number.isdigit() and len(number) < 10) or int(number) < 1:
        raise UsageError(f"--on {shown}: {number!r} is no number of workers; {WAY}")
    return checked(On(kind=kind, workers=int(number), options=dict(_pair(shown, pair) for pair in pairs)))


def checked(on: On) -> On:
    """Itself, if its numbers go together; raises `UsageError`."""
    if on.kind not in KINDS:
        raise UsageError(f"launcher {on.kind!r} isn't known; known: {', '.join(KINDS)}")
    for name, number in (("workers", on.workers), ("tp", on.tp)):
        if number < 1:
            raise UsageError(f"--on {on}: {name} is {number}; give at least 1")
    if (ranks := max(on.workers, on.seats) * on.tp) > MOST:
        raise UsageError(f"--on {on}: {ranks:,} ranks are more than any launcher starts ({MOST:,}); start fewer")
    if on.most is not None and on.most < on.workers:
        raise UsageError(f"--on {on}: at most {on.most} workers are fewer than the {on.workers} it starts with")
    if not 1 <= on.silence < math.inf:
        raise UsageError(f"--on {on}: {on.silence:g} s of silence can't be told by; give 1 or more")
    return on


def _pair(shown: str, pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not _OPTION.fullmatch(name):
        raise UsageError(f"--on {shown}: {name!r} is no option; write NAME=VALUE after the number of workers")
    return name, value


def _shown(name: str, value: str) -> str:
    """Options that may be given more than once have a line for each time."""
    lines = value.split("\n")
    return "+".join(line.partition("=")[0] if name == VARIABLES else line for line in lines)
