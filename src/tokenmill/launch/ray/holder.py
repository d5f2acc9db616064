"""The actor of one worker: starts its ranks beside itself, where Ray placed it, and ends them with itself.

The kernel kills a rank whose parent is gone, so ranks end however the actor ends: told to, killed, with its node, or
with the driver's job. Nothing heavy is imported here: but for `facts` this is plain Python in Ray's process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from tokenmill.launch.surroundings import (
    LEASH_VARIABLE,
    RANK_VARIABLE,
    TP_VARIABLE,
    rank_environment,
)

#: Bytes of a rank's last output that are kept for the report of its end.
TAIL = 4096
#: Seconds between two looks at the ranks.
LOOK = 0.2
#: Seconds for the other ranks of a group to end by themselves after one did.
GRACE = 5.0
#: Variables that Ray sets for actors, and that mean something else to a rank.
NOT_FOR_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class Holder:
    """Holds one worker; `facts` says where it came to be, `hold` lasts as long as its ranks do."""

    def facts(self) -> tuple[str, str, str]:
        """The version of tokenmill here, the host, and what Ray calls this node."""
        import ray

        import tokenmill

        return tokenmill.__version__, socket.gethostname(), ray.get_runtime_context().get_node_id()

    def hold(self, environment: dict[str, str], index: int, generation: int, tp: int) -> str:
        """Runs the ranks of worker `index`; returns how the first of them ended. Runs in the process's main thread."""
        port = _free_port() if tp > 1 else 0
        ranks: list[_Rank] = []
        try:
            for local in range(tp):  # one by one: those that were started are ended if a later one can't be
                own = _environment(environment, index, generation, local, tp, port)
                ranks.append(_Rank(own))
            while all(rank.process.poll() is None for rank in ranks):
                time.sleep(LOOK)
            ended = next(rank for rank in ranks if rank.process.poll() is not None)
            deadline = time.monotonic() + GRACE
            while any(rank.process.poll() is None for rank in ranks) and time.monotonic() < deadline:
                time.sleep(LOOK)
            return ended.story()
        finally:
            for rank in ranks:
                rank.end()


class _Rank:
    """One rank's process, and the last that it said."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._tail = b""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tokenmill.launch.rank"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"reads {self.process.pid}", daemon=True)
        self._reader.start()

    def story(self) -> str:
        """How it ended, and its last line."""
        status = self.process.wait()
        self._reader.join(1.0)
        how = f"exit by signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return f"{how}: {lines[-1][:500]}" if lines else how

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            while data := os.read(pipe.fileno(), 65536):
                self._tail = (self._tail + data)[-TAIL:]


def _environment(given: dict[str, str], index: int, generation: int, local: int, tp: int, port: int) -> dict[str, str]:
    """What a rank of this host is started with; GPUs are those that Ray gave this actor."""
    own = rank_environment(1, {})  # once a rank knows its model it sets the number of threads itself
    own = {name: value for name, value in own.items() if name not in NOT_FOR_RANKS} | given
    own |= {
        LEASH_VARIABLE: str(os.getpid()),
        RANK_VARIABLE: str(index * tp + local),
        "TORCHELASTIC_RESTART_COUNT": str(generation),
        TP_VARIABLE: str(tp),
        "RANK": str(local),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(tp),
        "LOCAL_WORLD_SIZE": str(tp),
    }
    if tp > 1:
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return own


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
