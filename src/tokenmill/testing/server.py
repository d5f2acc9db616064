"""A fault server in a process of its own, for tests."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from tokenmill.errors import UsageError
from tokenmill.testing.behaviour import Behaviour, Change, Curve, Script, checked, name_of
from tokenmill.testing.ledger import State, Tally

PATIENCE = 10.0


class FaultServer:
    """Starts one process with a server for each behaviour, and ends it surely.

    `with FaultServer(Behaviour(slots=2)) as server:` and then `server.url`. Behaviours without a name of their own are
    named a, b, c in order. `devices` are those that several behaviours name. `said` is what the process wrote to its
    standard error, known once it has ended; a process without a bug writes nothing.
    """

    def __init__(self, *behaviours: Behaviour, devices: dict[str, Curve] | None = None) -> None:
        given = behaviours or (Behaviour(),)
        plain = Behaviour.__struct_defaults__[0]
        servers = [
            msgspec.structs.replace(behaviour, name=name_of(number)) if behaviour.name == plain else behaviour
            for number, behaviour in enumerate(given)
        ]
        self._script = checked(Script(server=tuple(servers), device=devices or {}), "FaultServer")
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self.urls: tuple[str, ...] = ()
        self.said = ""
        self._control = ""

    @property
    def url(self) -> str:
        """The URL of the first server."""
        return self.urls[0]

    @property
    def pid(self) -> int:
        assert self._process is not None, "a server has a process while it is open"
        return self._process.pid

    def open(self) -> Self:
        """Starts the process and waits for its first line; raises `UsageError` with what it said if none comes."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        command = [sys.executable, "-m", "tokenmill.testing", "--script", "-"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._process = process
        assert process.stdin is not None, "the process was started with pipes"
        assert process.stdout is not None, "the process was started with pipes"
        try:
            process.stdin.write(msgspec.json.encode(self._script) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; what it said on its way out is read below
        *urls, control = process.stdout.readline().decode().split() or [""]
        if not urls:
            self.close()
            raise UsageError(f"the fault server did not start: {self.said}")
        self.urls, self._control = tuple(urls), control
        return self

    def close(self) -> None:
        """Ends the process: asks, and kills it if it doesn't listen."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=PATIENCE)  # closes its input, which ends it
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert self._errors is not None, "the process was started with a file for its errors"
        with self._errors as errors:
            errors.seek(0)
            self.said = errors.read().decode(errors="replace").strip()

    def state(self, server: int = 0) -> State:
        """What a server saw so far."""
        return msgspec.json.decode(self._ask("state", server), type=State)

    def trail(self, server: int = 0) -> list[tuple[float, int, int]]:
        """Seconds since the start, running and waiting, at each of the last 20,000 changes."""
        return msgspec.json.decode(self._ask("trail", server), type=list[tuple[float, int, int]])

    def prompts(self, server: int = 0) -> dict[str, Tally]:
        """What became of each prompt."""
        return msgspec.json.decode(self._ask("prompts", server), type=dict[str, Tally])

    def requests(self, server: int = 0) -> list[dict[str, Any]]:
        """The last requests of any kind, oldest first."""
        return msgspec.json.decode(self._ask("requests", server), type=list[dict[str, Any]])

    def behave(self, server: int = 0, **changes: Any) -> None:
        """Changes fields of a behaviour from now on."""
        self._ask("behaviour", server, msgspec.json.encode(changes))

    def forget(self, server: int = 0) -> None:
        """Lets a server count from the start, and the process forget how often each prompt was tried."""
        self._ask("forget", server, b"")

    def change(self, change: Change, server: int = 0) -> None:
        """Makes a change now: down, up, unload, or fields."""
        self._ask("change", server, msgspec.json.encode(change))

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, path: str, server: int, body: bytes | None = None) -> bytes:
        url = f"{self._control}/__control/{path}?server={self._script.server[server].name}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(url, body), timeout=PATIENCE) as reply:
                read: bytes = reply.read()
                return read
        except urllib.error.HTTPError as error:
            with error:
                raise UsageError(f"fault server: {msgspec.json.decode(error.read())['error']}") from error
