"""Workers under torchrun: one agent that starts all ranks, and starts all of them again when one ends.

So the loss of a rank costs what was in flight on all of them, and the run goes on once they have joined again. The
agent itself is started again a limited number of times. Ranks divide the cores among themselves, as torchrun knows
none. The driver hands out the work, so pulled and static distribution are the same here as anywhere.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psutil

from tokenmill.engine.local.machine import usable_cores
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.footprint import OwnProcess
from tokenmill.launch.cores import SHARE_VARIABLE, place
from tokenmill.launch.glimpse import Glimpse
from tokenmill.launch.gpus import visible_gpus
from tokenmill.launch.hand import Hand
from tokenmill.launch.handshake import torch_version
from tokenmill.launch.invitation import Invitation
from tokenmill.launch.launcher import Standing, Work
from tokenmill.launch.member import Member
from tokenmill.launch.processes import check_share
from tokenmill.launch.spec import On
from tokenmill.launch.surroundings import LEASH_VARIABLE, TP_VARIABLE, rank_environment

RANK = "tokenmill.launch.rank"
AGENT = (sys.executable, "-P", "-m", "tokenmill.launch.leashed", "torch.distributed.run")
#: Options by name: how often torchrun starts the ranks again, and how often we start torchrun again.
OPTIONS = {"restarts": 3, "agents": 2}
#: Seconds the agent has to end by itself after its ranks left.
GRACE = 5.0


class NoAgent(TokenmillError):
    """The system can't start torchrun."""


class Torchrun:
    """The launcher of kind `torchrun`."""

    remote = False

    def __init__(self, on: On, work: Work) -> None:
        self._on = on
        self._work = work
        self._agent: Hand | None = None
        self._seen_agent: Glimpse | None = None
        self._left = 0
        self._environment: dict[str, str] = {}
        self._seen: set[int] = set()
        self._ranks: dict[int, Glimpse] = {}  # those of the agent's last start, by process
        self._fresh: list[tuple[str, OwnProcess]] = []
        self._gpus: list[str] = []
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
        self._gpus = visible_gpus() if self._work.device == "cuda" else []
        said = {LEASH_VARIABLE: str(os.getpid()), SHARE_VARIABLE: "1", TP_VARIABLE: str(self._on.tp)}
        threads = self._work.threads or max(1, usable_cores() // self._on.ranks)
        self._environment = rank_environment(threads, said | invitation.environment())
        self._begin()

    async def poll(self, present: Sequence[Member]) -> Standing:
        new = {member.pid for member in present} - self._seen
        self._seen |= new
        if new:
            await self._count_ranks(present)
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
        if member.pid in self._ranks:
            self._ranks[member.pid].kill()

    def part(self, member: Member) -> None:
        first = member.rank // self._on.tp * self._on.tp
        for rank, glimpse in enumerate(self._ranks.values()):
            if first <= rank < first + self._on.tp:
                glimpse.part()
        if self._seen_agent is not None:
            self._seen_agent.part()

    async def stop(self) -> None:
        if self._agent is not None:
            agent = self._agent
            await agent.leave(grace=GRACE)

    def fresh_processes(self) -> Iterator[tuple[str, OwnProcess]]:
        fresh, self._fresh = self._fresh, []
        yield from fresh

    def _begin(self) -> None:
        words = ["--standalone", f"--nproc_per_node={self._on.ranks}", f"--max-restarts={self._number('restarts')}"]
        try:
            self._agent = Hand([*AGENT, *words, "-m", RANK], self._environment)
        except OSError as error:
            raise NoAgent(f"--on {self._on}: torchrun can't be started ({error})") from error
        self._ranks = {}
        self._seen_agent = Glimpse(self._agent.pid)  # what the system says of its end counts its ranks in
        self._fresh.append(("torchrun", self._seen_agent))

    async def _count_ranks(self, present: Sequence[Member]) -> None:
        """Finds the ranks below the agent, those too that never come to the door; they were started in order."""
        assert self._agent is not None, "ranks come after their agent"
        found = await asyncio.to_thread(_ranks_below, self._agent.pid)
        found = found or [member.pid for member in sorted(present, key=lambda each: each.rank)]  # /proc may hide them
        known, self._ranks = self._ranks, {}
        for rank, pid in enumerate(found):
            self._ranks[pid] = known.get(pid) or Glimpse(pid)
            if pid not in known:
                where = place(_cores_of(pid), self._gpus[rank] if rank < len(self._gpus) else None)
                self._fresh.append((f"rank {rank} on {where}", self._ranks[pid]))

    def _number(self, name: str) -> int:
        return int(self._on.options.get(name, OPTIONS[name]))


def _ranks_below(agent: int) -> list[int]:
    """The processes of the ranks that an agent has now, in the order in which they were started."""
    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(agent).children():
            with suppress(psutil.Error):
                if RANK in child.cmdline():
                    found.append((child.create_time(), child.pid))
    return [pid for _, pid in sorted(found)]


def _cores_of(pid: int) -> Sequence[int]:
    """Those that a process is bound to; none if it is gone."""
    with suppress(psutil.Error, AttributeError):
        return psutil.Process(pid).cpu_affinity() or []
    return []
