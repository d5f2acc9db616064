"""Three machines on one wire, for tests: network namespaces joined by a bridge, each of which can be cut off.

Every namespace has processes of its own and shares the files. Nothing of the machine's own network is touched: the
bridge has a namespace too, and all of them are gone with the land.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOSTS = ("a", "b", "c")
#: Seconds after which a command in a host hangs; far beyond what one takes.
PATIENCE = 120.0
WIRE = "hub"


class Land:
    """The hosts and what was started in them. Host number N is 10.77.0.N to the others, and 127.0.0.1 to itself."""

    def __init__(self) -> None:
        self._prefix = f"tm{os.getpid()}-{time.monotonic_ns() % 10**6}"
        self._started: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        _ip("netns", "add", self._space(WIRE))
        self._inside(WIRE, "link", "add", "wire", "type", "bridge")
        self._inside(WIRE, "link", "set", "wire", "up")
        for host in HOSTS:
            space = self._space(host)
            _ip("netns", "add", space)
            self._inside(WIRE, "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", space)
            self._inside(WIRE, "link", "set", f"to-{host}", "master", "wire", "up")
            self._inside(host, "link", "set", "lo", "up")
            self._inside(host, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            self._inside(host, "link", "set", "eth0", "up")

    def close(self) -> None:
        """Ends what was started, and takes the hosts away."""
        for process in self._started:
            process.kill()
            process.communicate()  # waits, and closes its pipe
        for host in (*HOSTS, WIRE):
            subprocess.run(["ip", "netns", "del", self._space(host)], capture_output=True, check=False)

    @staticmethod
    def address(host: str) -> str:
        return f"10.77.0.{HOSTS.index(host) + 1}"

    def cut(self, host: str) -> None:
        """Nothing comes to the host or from it any more; what it does inside goes on."""
        self._inside(WIRE, "link", "set", f"to-{host}", "down")

    def restore(self, host: str) -> None:
        """Puts the host back on the wire."""
        self._inside(WIRE, "link", "set", f"to-{host}", "up")

    def run(self, host: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of Python in the host, to its end."""
        return subprocess.run(
            self._line(host, words), env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE
        )

    def start(self, host: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """A command of Python in the host that goes on until the land is closed."""
        process = subprocess.Popen(
            self._line(host, words), env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        self._started.append(process)
        return process

    def python(self, host: str) -> list[str]:
        """How Python is called in the host."""
        return self._line(host, ())

    def serve(self, host: str, folder: Path, script: str, *, port: int, address: str = "0.0.0.0") -> None:
        """A fault server in the host, which answers when this returns."""
        path = folder / f"{host}-{port}-{address}.toml"
        path.write_text(script, encoding="utf-8")
        words = ("--script", str(path), "--port", str(port), "--address", address)
        process = self.start(host, "-m", "tokenmill.testing", *words)
        assert process.stdout is not None, "the process was started with a pipe"
        assert process.stdout.readline(), "the server tells its URLs once it listens"

    def _space(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def _line(self, host: str, words: tuple[str, ...]) -> list[str]:
        return ["ip", "netns", "exec", self._space(host), sys.executable, *words]

    def _inside(self, host: str, *words: str) -> None:
        _ip("-netns", self._space(host), *words)


@contextmanager
def land() -> Iterator[Land]:
    """Three hosts while the block runs."""
    made = Land()
    try:
        made.open()
        yield made
    finally:
        made.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=PATIENCE)
