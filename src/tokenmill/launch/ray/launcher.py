"""The launcher of kind `ray`: an agent that speaks to Ray, and what it reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata

import msgspec

from tokenmill import __version__
from tokenmill.engine.local.machine import usable_cores
from tokenmill.errors import UsageError
from tokenmill.footprint import OwnProcess
from tokenmill.launch.invitation import Invitation
from tokenmill.launch.launcher import Standing, Work
from tokenmill.launch.member import Member
from tokenmill.launch.processes import check_share
from tokenmill.launch.ray.options import read_options
from tokenmill.launch.ray.wire import Connected, Dismiss, Failed, Hold, Order, Over, Told, as_line, read_report
from tokenmill.launch.spec import On

AGENT = (sys.executable, "-P", "-m", "tokenmill.launch.ray.agent")
#: Seconds for a port to answer, and for the Ray behind it to take us in or to start: a busy machine takes its time.
REACH, CONNECT = 3.0, 120.0
#: Seconds that the agent has to end actors, and its Ray, before it is killed.
GRACE = 20.0
#: How a client of HTTP/2 begins, the bytes of a frame's head, and the type of the frame that a server begins with.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
FRAME, SETTINGS = 9, 4
WAY = "give the address that 'ray start --head' showed, or leave it out to start Ray on this machine"
#: How often an agent that ended by itself is started again.
RESTARTS = 3
#: Bytes of the agent's last output that are kept.
TAIL = 4096


class Ray:
    """Workers on a Ray cluster; see the package."""

    def __init__(self, on: On, work: Work) -> None:
        self._on = on
        self._work = work
        self._options = read_options(on, os.environ)
        self._invitation: Invitation | None = None
        self._agent: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._answer: asyncio.Future[Connected | Failed] | None = None
        self._tail = b""
        self._notes: list[str] = []
        self._over = ""
        self._restarts = 0
        self._stopping = False

    @property
    def remote(self) -> bool:
        """A Ray of our own is on this machine alone."""
        return self._options.address is not None

    def check(self) -> None:
        if self._options.gpus and not self._on_gpu:
            raise UsageError(f"--on {self._on}: a GPU for each rank, which computes on the CPU; add --device cuda")
        if self._on.address is not None and not self.remote:
            raise UsageError(
                f"--on {self._on}: --address {self._on.address} is for workers of other hosts, and without a cluster "
                "Ray is started on this one; name a cluster by --ray-address, or leave --address out"
            )
        try:
            metadata.version("ray")
        except metadata.PackageNotFoundError as error:
            raise UsageError(
                f"--on {self._on}: Ray isn't installed here; pip install 'tokenmill[local,ray]', or use --on processes"
            ) from error
        if not self.remote:
            check_share(self._on, self._work)
        elif (place := self._options.place) is not None:
            _knock(f"--on {self._on}", place)

    @property
    def _on_gpu(self) -> bool:
        return self._work.device not in (None, "cpu")

    async def start(self, invitation: Invitation) -> None:
        self._invitation = invitation
        said = await self._begin()
        if isinstance(said, Failed):
            await self.stop()
            raise UsageError(f"--on {self._on}: {said.message}")
        self._notes.append(said.text)

    async def poll(self, _present: Sequence[Member]) -> Standing:
        if self._agent is not None and self._agent.returncode is not None and not self._over:
            await self._replace()
        notes, self._notes = tuple(self._notes), []
        return Standing(notes=notes, over=self._over)

    def dismiss(self, member: Member) -> None:
        self._order(Dismiss(member.rank // self._on.tp, member.restart))

    def part(self, member: Member) -> None:
        """It is a process of Ray's, mostly elsewhere."""

    async def stop(self) -> None:
        self._stopping = True
        agent, self._agent = self._agent, None
        if agent is not None:
            assert agent.stdin is not None, "the agent was started with a pipe"
            with contextlib.suppress(OSError):
                agent.stdin.close()
            try:
                await asyncio.wait_for(agent.wait(), GRACE)
            except TimeoutError:
                _kill(agent)
                await agent.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._readers = []

    def fresh_processes(self) -> Iterable[tuple[str, OwnProcess]]:
        return ()  # ranks are children of Ray's processes, and the agent only waits

    async def _begin(self) -> Connected | Failed:
        """Starts an agent; what came of it."""
        try:
            self._agent = agent = await asyncio.create_subprocess_exec(
                *AGENT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return Failed(f"no process can be started ({error})")
        self._answer = asyncio.get_running_loop().create_future()
        self._readers = [
            asyncio.create_task(self._hear(agent), name="Ray's agent"),
            asyncio.create_task(self._overhear(agent), name="Ray's words"),
        ]
        self._order(self._hold())
        ended = asyncio.create_task(agent.wait())
        either: set[asyncio.Future[Connected | Failed] | asyncio.Task[int]] = {self._answer, ended}
        await asyncio.wait(either, timeout=CONNECT, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await asyncio.gather(*self._readers)
        else:
            ended.cancel()
        if self._answer.done():
            return self._answer.result()
        if not ended.done():
            _kill(agent)
            return Failed(f"{self._place()} didn't answer as Ray does within {CONNECT:.0f} s ({self._last_words()})")
        return Failed(f"the agent for {self._place()} ended with status {agent.returncode}: {self._last_words()}")

    def _hold(self) -> Hold:
        assert self._invitation is not None, "an agent is started after the door was opened"
        on, options = self._on, self._options
        return Hold(
            address=options.address,
            workers=on.workers,
            seats=on.seats,
            tp=on.tp,
            cpus=options.cpus or self._work.threads,
            gpus=options.gpus if options.gpus is not None else float(self._on_gpu),
            resource=options.resource,
            environment=self._invitation.environment(),
            version=__version__,
            local_cpus=max(usable_cores(), on.seats * on.tp),
        )

    async def _replace(self) -> None:
        """The agent ended by itself, and Ray ended its actors: another one begins anew, if that isn't in vain."""
        self._restarts += 1
        words = self._last_words()
        if self._restarts > RESTARTS:
            self._over = f"the agent for {self._place()} ended {self._restarts} times: {words}"
            return
        self._notes.append(f"the agent for {self._place()} ended ({words}) and is started again")
        said = await self._begin()
        if isinstance(said, Failed):
            self._over = said.message

    async def _hear(self, agent: asyncio.subprocess.Process) -> None:
        assert agent.stdout is not None, "the agent was started with a pipe"
        async for line in agent.stdout:
            try:
                report = read_report(line)
            except msgspec.DecodeError:
                continue
            match report:
                case Connected() | Failed():
                    if self._answer is not None and not self._answer.done():
                        self._answer.set_result(report)
                case Told(text=text):
                    self._notes.append(text)
                case Over(cause=cause):
                    self._over = cause

    async def _overhear(self, agent: asyncio.subprocess.Process) -> None:
        assert agent.stderr is not None, "the agent was started with a pipe"
        while data := await agent.stderr.read(65536):
            self._tail = (self._tail + data)[-TAIL:]

    def _order(self, order: Order) -> None:
        """Dropped if the agent is gone: then its actors are too."""
        if self._agent is not None and self._agent.stdin is not None and not self._agent.stdin.is_closing():
            self._agent.stdin.write(as_line(order))

    def _place(self) -> str:
        return self._options.address or "a Ray of this machine"

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:500] if lines else "it said nothing"


def _knock(what: str, place: tuple[str, int]) -> None:
    """Raises `UsageError` unless what listens there speaks as Ray does; Ray itself takes a minute to find out.

    Ray's servers speak gRPC, so a first frame of HTTP/2 comes by itself; one behind TLS is believed.
    """
    host, port = place
    try:
        with socket.create_connection(place, timeout=REACH) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(GREETING)
            first = connection.recv(FRAME, socket.MSG_WAITALL)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise UsageError(f"{what}: no Ray answers at {host} port {port} ({reason}); {WAY}") from error
    if len(first) < FRAME or first[3] != SETTINGS:
        raise UsageError(f"{what}: what answers at {host} port {port} isn't Ray; {WAY}")


def _kill(agent: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(agent.pid, signal.SIGKILL)
