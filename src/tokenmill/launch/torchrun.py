"""Workers under torchrun: one agent that starts all ranks, and starts all of them again when one ends.

So the loss of a rank costs what was in flight on all of them, and the run goes on once they have joined again. The
agent itself is started again a limited number of times. Ranks divide the cores among themselves, as torchrun knows
none. The driver hands out the work, so pulled and static distribution are the same here as anywhere.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from tokenmill.engine.local.environment import worker_environment
from tokenmill.engine.local.machine import usable_cores
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.footprint import Ended, OwnProcess
from tokenmill.launch.cores import SHARE_VARIABLE
from tokenmill.launch.hand import Hand
from tokenmill.launch.handshake import torch_version
from tokenmill.launch.invitation import Invitation
from tokenmill.launch.launcher import Standing, Work
from tokenmill.launch.member import Member
from tokenmill.launch.processes import check_share
from tokenmill.launch.spec import On
from tokenmill.launch.surroundings import LEASH_VARIABLE, TP_VARIABLE

AGENT = (sys.executable, "-P", "-m", "tokenmill.launch.leashed", "torch.distributed.run")
#: Options by name: how often torchrun starts the ranks again, and how often we start torchrun again.
OPTIONS = {"restarts": 3, "agents": 2}
#: Seconds the agent has to end by itself after its ranks left.
GRACE = 5.0


class NoAgent(TokenmillError):
    """The system can't start torchrun."""


class RankSeen:
    """A rank that is no child of ours, so nobody tells us of its end."""

    end: Ended | None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid


class Torchrun:
    """The launcher of kind `torchrun`."""

    remote = False

    def __init__(self, on: On, work: Work) -> None:
        self._on = on
        self._work = work
        self._agent: Hand | None = None
        self._left = 0
        self._environment: dict[str, str] = {}
        self._seen: set[int] = set()
        self._fresh: list[OwnProcess] = []
        self._over = ""

    def check(self) -> None:
        on = self._on
        for name, value in on.options.items():
            if name not in OPTIONS:
                raise UsageError(f"--on {on}: torchrun has no option {name!r}; known: {', '.join(OPTIONS)}")
            if not (value.isascii() and value.isdecimal()):
                raise UsageError(f"--on {on}: {name} is {value!r}; give a whole number of 0 or more")
        if on.most not in (None, on.workers):
            raise UsageError(f"--on {on}: nobody joins late under torchrun; leave --most out")
        if not torch_version():
            raise UsageError(f"--on {on}: torch isn't installed here; pip install 'tokenmill[local]'")
        check_share(on, self._work)

    async def start(self, invitation: Invitation) -> None:
        self._left = self._number("agents")
        said = {LEASH_VARIABLE: str(os.getpid()), SHARE_VARIABLE: "1", TP_VARIABLE: str(self._on.tp)}
        threads = self._work.threads or max(1, usable_cores() // self._on.ranks)
        self._environment = worker_environment(os.environ, threads) | said | invitation.environment()
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            self._environment.pop(name, None)
        self._begin()

    async def poll(self, present: Sequence[Member]) -> Standing:
        new = {member.pid for member in present} - self._seen
        self._seen |= new
        self._fresh += map(RankSeen, new)
        agent = self._agent
        if agent is None or not agent.is_done or self._over:
            return Standing(over=self._over)
        if agent.status == 0:  # ranks end well only when the driver wants them no more
            self._over = "all ranks were told to leave"
            return Standing(over=self._over)
        if self._left == 0:
            starts = self._number("agents") + 1
            self._over = f"torchrun ended, the last of {starts} starts ({agent.cause})"
            return Standing(over=self._over)
        self._left -= 1
        note = f"torchrun ended ({agent.cause}) and is started again; {self._left} such starts are left"
        self._begin()
        return Standing(notes=(note,))

    def dismiss(self, member: Member) -> None:
        """Killed, unless it is gone: torchrun sees it and starts all ranks again."""
        if member.pid in self._seen:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member.pid, signal.SIGKILL)

    async def stop(self) -> None:
        if self._agent is not None:
            agent = self._agent
            await agent.leave(grace=GRACE)

    def fresh_processes(self) -> Iterator[OwnProcess]:
        fresh, self._fresh = self._fresh, []
        yield from fresh

    def _begin(self) -> None:
        words = ["--standalone", f"--nproc_per_node={self._on.ranks}", f"--max-restarts={self._number('restarts')}"]
        try:
            self._agent = Hand([*AGENT, *words, "-m", "tokenmill.launch.rank"], self._environment)
        except OSError as error:
            raise NoAgent(f"--on {self._on}: torchrun can't be started ({error})") from error
        self._fresh.append(self._agent)

    def _number(self, name: str) -> int:
        return int(self._on.options.get(name, OPTIONS[name]))
