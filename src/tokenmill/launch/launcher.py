"""What every launcher offers, so that the driver's side never knows of which kind it is.

Order of calls: `check` before anything is prepared or started, in any thread and without an event loop; then, on the
driver's event loop, `start` once, `poll` again and again while the run goes on, `dismiss` for each worker that the door
called lost, `part` for each that it sends away, and `stop` in the end, however the run ends. Nothing here may block the
loop for long: what a program says is waited for, files and commands that may hang go to a thread.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.footprint import OwnProcess
from tokenmill.launch.invitation import Invitation
from tokenmill.launch.member import Member
from tokenmill.launch.spec import KINDS, On


class Work(Struct, frozen=True, kw_only=True):
    """What a launcher may know of the run: threads asked of each rank, where they compute, and the run's folder.

    `folder` is None while options are checked before there is a run. `names` are the nodes of the run whose seats are
    to be taken; `whole`: the last of them is one worker with everything that the others share, for comparison.
    """

    threads: int | None = None
    device: str | None = None
    names: tuple[str, ...] = ()
    whole: bool = False
    folder: Path | None = None


class Standing(Struct, frozen=True, kw_only=True):
    """How things are with a launcher.

    `notes`: what users should know and weren't told yet, a line each. `over`: why no further worker will ever come,
    empty while some may; what sits by then works on, and the run ends unfinished only once nobody does.
    """

    notes: tuple[str, ...] = ()
    over: str = ""


class Launcher(Protocol):
    """Makes workers appear, again and again if that makes sense, and makes all of them go.

    `remote`: workers come from other hosts, so the door must be open to them.
    """

    remote: bool

    def check(self) -> None:
        """Raises `UsageError` in one line, cause and remedy, for what can't work; starts and writes nothing."""
        ...

    async def start(self, invitation: Invitation) -> None:
        """Starts what starts workers; `TokenmillError` if that can't be done, and then nothing is left behind.

        What is started finds its way by `invitation.environment()`, or by a file that `invitation.write` made.
        """
        ...

    async def poll(self, present: Sequence[Member]) -> Standing:
        """Looks after what was started, about twice a second; starts again what should be there and isn't.

        `present` are the workers that the door let in and that are there now.
        """
        ...

    def dismiss(self, member: Member) -> None:
        """The door called this worker lost, perhaps only for its silence: what may be left of it must end."""
        ...

    def part(self, member: Member) -> None:
        """The door tells this worker to leave in this moment, the last one in which what it took can be read."""
        ...

    async def stop(self) -> None:
        """Ends everything that was started and waits until it is gone; fine to call twice, or before `start`.

        The door has told all workers to leave by then, so most have gone already.
        """
        ...

    def fresh_processes(self) -> Iterable[tuple[str, OwnProcess]]:
        """Processes on this machine started since this was asked last, for the run's footprint; from any thread.

        Each with a name that says which worker it is and where it computes.
        """
        ...


def make_launcher(on: On, work: Work) -> Launcher:
    """The launcher of that kind; raises `UsageError` if it can't be had here."""
    module, _, name = KINDS[on.kind].partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise UsageError(f"--on {on}: launcher {on.kind!r} needs {error.name}, which isn't installed") from error
    launcher: Launcher = kind(on, work)
    return launcher
