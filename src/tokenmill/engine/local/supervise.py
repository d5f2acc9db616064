"""Keeps one worker process: starts it, talks to it, says why it ended, and leaves nothing behind.

The two are joined by a socket pair, not by a socket with a name: there is no path to be too long, to be left over or
to be opened by anybody else, and either end sees at once when the other is gone. The token the worker is started with
stays part of the greeting, so that a worker never obeys what merely happens to sit behind its file descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, cast

from tokenmill.engine.local.environment import worker_environment
from tokenmill.engine.local.machine import Machine
from tokenmill.engine.local.wire import (
    SOCKET_VARIABLE,
    TOKEN_VARIABLE,
    Frames,
    FromWorker,
    Hello,
    ToWorker,
    WireError,
    encode,
    from_worker,
)
from tokenmill.footprint import Ended

#: Seconds a worker has to end by itself, once its socket is closed, before it is killed.
GRACE = 5.0
#: Bytes of the worker's last output that are kept for the report of a crash.
TAIL = 8192


class Worker(Protocol):
    """What an engine needs of its worker, wherever that runs.

    `ended` is done with the cause once nothing more can come. `machine` is what the worker says of where it is, None
    for this machine.
    """

    @property
    def ended(self) -> asyncio.Future[str]: ...

    @property
    def machine(self) -> Machine | None: ...

    def send(self, message: ToWorker) -> None:
        """Queues a message; silently dropped if the worker is going, as `ended` will tell. Raises `WireError`."""
        ...

    async def stop(self) -> None:
        """Has it go, and waits until it is gone."""
        ...


#: How an engine gets a worker: told what to call with each message, and the threads it will compute with; an
#: `OSError` or a `TokenmillError` says why there is none.
Hire = Callable[[Callable[[FromWorker], None], int], Awaitable[Worker]]


async def hire_child(receive: Callable[[FromWorker], None], threads: int) -> Worker:
    """A child process of this one."""
    return await WorkerProcess.start(worker_environment(os.environ, threads), receive)


class WorkerProcess:
    """A running worker; `ended` is done once the process is gone and everything it sent has been received.

    `receive` is called in the event loop, for one message after the other.
    """

    def __init__(self, process: Child, link: _Link, output: OutputTail) -> None:
        self._process = process
        self._link = link
        self._output = output
        self.machine: Machine | None = None
        self.ended: asyncio.Future[str] = asyncio.create_task(self._watch(), name=f"worker {process.pid}")

    @classmethod
    async def start(cls, environment: Mapping[str, str], receive: Callable[[FromWorker], None]) -> WorkerProcess:
        """Starts a worker and greets it; an `OSError` if the system can't start any process."""
        token = secrets.token_hex(32)
        link = _Link(receive)
        ours, theirs = socket.socketpair()
        with theirs:
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            output = OutputTail()
            try:
                process = Child(
                    # -P: what lies in the current directory must not take the place of a module
                    [sys.executable, "-P", "-m", "tokenmill.engine.local.worker"],
                    env={**environment, SOCKET_VARIABLE: str(theirs.fileno()), TOKEN_VARIABLE: token},
                    inherited=theirs.fileno(),
                    output=output.write_end,
                )
            except BaseException:
                link.close()
                output.close()
                raise
            finally:
                output.close_write_end()
        output.watch()
        worker = cls(process, link, output)
        worker.send(Hello(token))
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def end(self) -> Ended | None:
        """What the system says of the process once it is gone."""
        return self._process.end

    def send(self, message: ToWorker) -> None:
        """Queues a message; silently dropped if the worker is going, as `ended` will tell. Raises `WireError`."""
        self._link.send(encode(message))

    async def stop(self) -> None:
        """Closes the socket, which ends a worker that is well; one that isn't is killed with its group."""
        self._link.close()
        await asyncio.wait({self.ended})

    async def _watch(self) -> str:
        """Waits for the end; the cause in a few words."""
        loop = asyncio.get_running_loop()
        exited = self._process.exited
        either: set[asyncio.Future[int] | asyncio.Future[None]] = {exited, self._link.closed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        hanging = loop.call_later(GRACE, self._kill)  # without its socket it should have ended
        status = await exited
        hanging.cancel()
        await self._link.closed
        output = self._output.drain()
        return self._link.fault or describe_exit(status, output)

    def _kill(self) -> None:
        if not self._process.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class Child:
    """A child process in a session of its own, waited for with `wait4`, which alone tells the most memory it held.

    A thread waits, as asyncio's own watcher does, but asks for the status only.
    """

    def __init__(self, command: list[str], *, env: Mapping[str, str], inherited: int | None, output: int) -> None:
        self._process = subprocess.Popen(
            command,
            env=env,
            pass_fds=() if inherited is None else (inherited,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self.end: Ended | None = None
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        threading.Thread(target=self._wait, name=f"waits for {self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait(self) -> None:
        _, status, used = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)  # nobody else may wait for this number now
        self.end = Ended.of(used)
        with contextlib.suppress(RuntimeError):  # the loop has ended and needs no more news
            self._loop.call_soon_threadsafe(self._told, self._process.returncode)

    def _told(self, status: int) -> None:
        if not self.exited.done():
            self.exited.set_result(status)


class _Link(asyncio.Protocol):
    """Our end of the socket: bytes become messages here, without a task or a wake-up for each."""

    def __init__(self, receive: Callable[[FromWorker], None]) -> None:
        self._receive = receive
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fault = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop has its methods, and isn't of its class

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                self._receive(from_worker(body))
        except WireError as error:
            self.fault = f"it sent {error}"
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed.set_result(None)

    def send(self, frame: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(frame)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


class OutputTail:
    """The last of what a worker wrote to stdout and stderr; it must be read, or a talkative worker would stall."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._tail = b""
        self._open = True

    def watch(self) -> None:
        asyncio.get_running_loop().add_reader(self._read_end, self._read)

    def close_write_end(self) -> None:
        os.close(self.write_end)

    def drain(self) -> str:
        """What is still there, without waiting for others who may hold the pipe; then it is closed."""
        while self._read():
            pass
        self.close()
        return self._tail.decode("utf-8", errors="replace")

    def close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._read_end)
            os.close(self._read_end)

    def _read(self) -> bool:
        """Whether there was something to read."""
        if not self._open:
            return False
        try:
            data = os.read(self._read_end, 65536)
        except BlockingIOError:
            return False
        self._tail = (self._tail + data)[-TAIL:]
        if not data:
            self.close()
        return bool(data)


def describe_exit(status: int, output: str) -> str:
    """How a process ended, with the last line it wrote; `status` is negative for a signal."""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else "unknown"
        cause = f"exit by signal {-status} ({name})"
        if -status == signal.SIGKILL:
            cause += ", often the system's answer to too little memory"
    else:
        cause = f"exit status {status}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"{cause}: {lines[-1][:500]}" if lines else cause
