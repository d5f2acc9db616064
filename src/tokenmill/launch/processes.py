"""Workers as processes of this machine, its cores divided among them.

Each worker is one process, or the ranks of one tensor parallel group, bound to its part of the cores. One that ends is
started again; one that ends three times in a row before it came through the door is given up.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence

from tokenmill.engine.local.machine import physical_cores, usable_cores
from tokenmill.errors import UsageError
from tokenmill.footprint import OwnProcess
from tokenmill.launch.cores import CORES_VARIABLE, divide, place
from tokenmill.launch.gpus import visible_gpus
from tokenmill.launch.hand import Hand, free_port, leave_all
from tokenmill.launch.invitation import Invitation
from tokenmill.launch.launcher import Standing, Work
from tokenmill.launch.member import Member
from tokenmill.launch.spec import On
from tokenmill.launch.surroundings import (
    BESIDE_VARIABLE,
    LEASH_VARIABLE,
    RANK_VARIABLE,
    SEAT_VARIABLE,
    TP_VARIABLE,
    rank_environment,
)

RANK = (sys.executable, "-P", "-m", "tokenmill.launch.rank")  # -P: the working folder must hide no module
#: Looks to wait before a worker is started again after it ended so often in vain.
DELAYS = (0, 2, 8)
LOOPBACK = "127.0.0.1"


class Processes:
    """The launcher of kind `processes`; it has no options of its own."""

    remote = False

    def __init__(self, on: On, work: Work) -> None:
        self._on = on
        self._work = work
        self._teams: list[Team] = []
        self._fresh: list[tuple[str, OwnProcess]] = []

    def check(self) -> None:
        on = self._on
        if on.options:
            raise UsageError(f"--on {on}: processes has no option {min(on.options)!r}; leave it out")
        if on.most not in (None, on.workers):
            raise UsageError(f"--on {on}: nobody joins late on one machine; leave --most out")
        check_share(on, self._work)

    async def start(self, invitation: Invitation) -> None:
        on, tp = self._on, self._on.tp
        names = self._work.names or tuple(f"worker-{index}" for index in range(on.workers))
        shares = divide(physical_cores(), on.ranks)
        gpus = visible_gpus() if self._work.device == "cuda" else []
        for index, name in enumerate(names):
            is_whole = self._work.whole and index == on.workers
            cores = divide(physical_cores(), tp) if is_whole else shares[index * tp : (index + 1) * tp]
            own = gpus[index * tp : (index + 1) * tp]
            team = Team(name, index * tp, cores, invitation, own, beside=on.ranks + tp * is_whole)
            self._teams.append(team)
            self._begin(team)

    async def poll(self, present: Sequence[Member]) -> Standing:
        here = {member.pid for member in present}
        notes = []
        for team in self._teams:
            team.joined |= any(hand.pid in here for hand in team.hands)
            if team.is_over or not team.has_ended():
                continue
            if team.was_told_to_leave:
                team.retire()
                continue
            if team.pause is None:
                notes.append(team.count_end())
            if team.pause == 0:
                self._begin(team)
            elif team.pause is not None:
                team.pause -= 1
        if all(team.is_over for team in self._teams):
            return Standing(notes=tuple(notes), over=f"no worker process is left: {self._teams[0].cause}")
        return Standing(notes=tuple(notes))

    def dismiss(self, member: Member) -> None:
        for team in self._teams:
            if any(hand.pid == member.pid for hand in team.hands):
                team.joined = True
                team.kill()

    def part(self, member: Member) -> None:
        """Our own children: the system says what they took once they have ended."""

    async def stop(self) -> None:
        await leave_all(hand for team in self._teams for hand in team.hands)

    def fresh_processes(self) -> Iterator[tuple[str, OwnProcess]]:
        fresh, self._fresh = self._fresh, []
        yield from fresh

    def _begin(self, team: Team) -> None:
        team.begin()
        self._fresh += zip(team.titles, team.hands, strict=False)


class Team:
    """One worker: its processes, and how often it ended in vain. `cores` are those of each of its ranks."""

    def __init__(
        self,
        name: str,
        first: int,
        cores: Sequence[Sequence[int]],
        invitation: Invitation,
        gpus: Sequence[str],
        beside: int,
    ) -> None:
        self.name = name
        self.hands: list[Hand] = []
        self.joined = self.is_over = False
        self.pause: int | None = None
        self.cause = ""
        self._vain = 0
        self._first, self._cores, self._invitation, self._gpus = first, cores, invitation, gpus
        self._beside = beside

    def begin(self) -> None:
        """Starts all of its ranks; what the system can't start counts as ended in vain."""
        self.pause, self.joined, self.hands = None, False, []
        port = free_port()
        try:
            for rank, cores in enumerate(self._cores):
                self.hands.append(Hand(RANK, self._environment(rank, cores, port)))
        except OSError as error:
            self.cause = f"no process can be started ({error})"
            self.kill()

    @property
    def titles(self) -> list[str]:
        """What each of its ranks is called, with where it computes."""
        ranks = [f", rank {rank}," if len(self._cores) > 1 else "" for rank in range(len(self._cores))]
        gpus: Sequence[str | None] = self._gpus or [None] * len(ranks)
        return [
            f"{self.name}{rank} on {place(cores, gpu)}"
            for rank, cores, gpu in zip(ranks, self._cores, gpus, strict=False)
        ]

    def has_ended(self) -> bool:
        """Whether all of it is gone; where one rank is, the others have nothing left to do."""
        if len(self.hands) == len(self._cores) and not any(hand.is_done for hand in self.hands):
            return False
        self.kill()
        return all(hand.is_done for hand in self.hands)

    @property
    def was_told_to_leave(self) -> bool:
        """Whether it ended well: ranks do so only when the driver wants them no more."""
        return bool(self.hands) and self.hands[0].status == 0

    def retire(self) -> None:
        """It isn't wanted any more."""
        self.is_over, self.cause = True, "it was told to leave"
        for each in self.hands:
            _ = each.cause  # closes its pipe

    def count_end(self) -> str:
        """Decides whether it begins again, and when; the line for the user."""
        fallen = next((hand for hand in self.hands if hand.status not in (0, -signal.SIGKILL)), None)
        hand = fallen or next(iter(self.hands), None)
        self.cause = hand.cause if hand is not None else self.cause
        for each in self.hands:
            _ = each.cause  # closes its pipe
        self._vain = 0 if self.joined else self._vain + 1
        if self._vain >= len(DELAYS):
            self.is_over = True
            return f"{self.name} is given up after {self._vain} starts in vain: {self.cause}"
        self.pause = DELAYS[self._vain]
        return f"{self.name} ended ({self.cause}) and is started again"

    def kill(self) -> None:
        for hand in self.hands:
            hand.signal(signal.SIGKILL)

    def _environment(self, rank: int, cores: Sequence[int], port: int) -> dict[str, str]:
        size = len(self._cores)
        said = {
            RANK_VARIABLE: str(self._first + rank),
            SEAT_VARIABLE: self.name,
            LEASH_VARIABLE: str(os.getpid()),
            BESIDE_VARIABLE: str(self._beside),
            CORES_VARIABLE: ",".join(map(str, cores)),
            TP_VARIABLE: str(size),
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": LOOPBACK,
            "MASTER_PORT": str(port),
        }
        if self._gpus:
            said["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus)
        return rank_environment(len(cores), said | self._invitation.environment())


def check_share(on: On, work: Work) -> None:
    """Refuses ranks that this machine has no cores, or no GPUs, for."""
    if work.device == "cuda":
        gpus = len(visible_gpus())
        if on.ranks > gpus:
            raise UsageError(f"--on {on}: {on.ranks} ranks and {gpus} GPUs here; start one rank for each GPU at most")
        return
    cores, each = usable_cores(), work.threads or 1
    if on.force or on.ranks * each <= cores:
        return
    raise UsageError(
        f"--on {on}: {on.ranks} ranks x {each} threads are {on.ranks * each}, and {cores} cores can be used here; "
        "start fewer, or add --force"
    )
