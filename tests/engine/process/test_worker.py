"""A worker before it has loaded anything: whom it obeys, and what ends it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.process.local_stories import wait_for_end
from tokenmill.engine.local import wire

SECONDS = 60
TOKEN = "the right token"


@contextmanager
def start_worker(token: str = TOKEN) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A worker in a session of its own, and our end of its socket."""
    ours, theirs = socket.socketpair()
    environment = os.environ | {wire.SOCKET_VARIABLE: str(theirs.fileno()), wire.TOKEN_VARIABLE: token}
    with theirs:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tokenmill.engine.local.worker"],
            env=environment,
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    try:
        with ours:
            yield worker, ours
    finally:
        worker.kill()
        worker.communicate()


def end_of(worker: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit status and last words of a worker that ends by itself."""
    _, words = worker.communicate(timeout=SECONDS)
    return worker.returncode, words.decode()


def load(folder: Path) -> wire.Load:
    return wire.Load(folder=str(folder), digest="", dtype="fp32", device="cpu", threads=1, slots=1, context=8,
                     kv_memory=1 << 20)  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "hello"),
    [(TOKEN, wire.Hello("a wrong token")), (TOKEN, wire.Hello("")), ("", wire.Hello("")), (TOKEN, wire.Cancel(0))],
    ids=["wrong", "empty", "none on either side", "no greeting"],
)
def test_a_caller_without_the_token_is_refused(expected: str, hello: wire.ToWorker) -> None:
    """A worker obeys only who started it; no token at all is no permission."""
    with start_worker(expected) as (worker, ours):
        ours.sendall(wire.encode(hello))

        assert end_of(worker) == (1, "refused a caller without the right token\n")


def test_another_protocol_is_refused() -> None:
    """Two versions that would misunderstand each other don't start to talk."""
    with start_worker() as (worker, ours):
        ours.sendall(wire.encode(wire.Hello(TOKEN, wire.PROTOCOL + 1)))
        status, words = end_of(worker)

    assert status == 1
    assert f"protocol {wire.PROTOCOL + 1}, this is {wire.PROTOCOL}" in words


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
        (b"\x00\x00\x00\x03abc", "a message that can't be read"),
        (b"\x00\x00\x00\x09abc", "ended 7 bytes into a frame"),
    ],
    ids=["oversized", "garbage", "cut"],
)
def test_bad_frames_end_it_with_a_cause(sent: bytes, words: str) -> None:
    """After a frame that can't be understood nothing is done any more."""
    with start_worker() as (worker, ours):
        ours.sendall(wire.encode(wire.Hello(TOKEN)) + sent)
        ours.shutdown(socket.SHUT_WR)
        status, said = end_of(worker)

    assert status == 1
    assert words in said


def test_it_ends_quietly_with_its_socket() -> None:
    """A closed socket is how a worker is told to go; no signal is needed."""
    with start_worker() as (worker, ours):
        ours.sendall(wire.encode(wire.Hello(TOKEN)))
        ours.close()

        assert end_of(worker) == (0, "")


def test_signals_meant_for_the_job_are_ignored() -> None:
    """SIGINT and SIGTERM leave a worker running; its caller decides what is still finished."""
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from tokenmill.engine.local.worker import isolate; isolate();"
        "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM); print('still here')"
    )

    assert subprocess.check_output([sys.executable, "-c", code]) == b"still here\n"


def test_a_load_that_fails_is_told(tmp_path: Path) -> None:
    """The reason goes to the caller as a message, and the worker ends with its socket."""
    with start_worker() as (worker, ours):
        ours.sendall(wire.encode(wire.Hello(TOKEN)) + wire.encode(load(tmp_path)))
        (body,) = wire.Frames().feed(ours.recv(65536))
        ours.close()

        assert end_of(worker) == (0, "")
    message = wire.from_worker(body)
    assert isinstance(message, wire.LoadFailed)
    assert str(tmp_path) in message.message


PARENT = """
import os, subprocess, sys
worker = subprocess.Popen([sys.executable, "-m", "tokenmill.engine.local.worker"], pass_fds=(int(sys.argv[1]),))
sys.stdout.write(f"{worker.pid}\\n")
sys.stdout.flush()
worker.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_it_ends_with_its_parent_even_if_its_socket_stays_open(tmp_path: Path) -> None:
    """Native code that holds the interpreter for long can't keep an orphan alive: the kernel ends it."""
    ours, theirs = socket.socketpair()
    environment = os.environ | {wire.SOCKET_VARIABLE: str(theirs.fileno()), wire.TOKEN_VARIABLE: TOKEN}
    with ours, theirs:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(theirs.fileno())],
            env=environment,
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE,
        )
        with parent:
            assert parent.stdout is not None
            worker = int(parent.stdout.readline())
            ours.sendall(wire.encode(wire.Hello(TOKEN)) + wire.encode(load(tmp_path)))
            ours.recv(65536)  # it is past its start
            parent.kill()

        assert wait_for_end(worker)


def test_started_by_hand_it_says_what_is_missing() -> None:
    """Without a socket a worker explains itself instead of showing a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "tokenmill.engine.local.worker"], capture_output=True, timeout=SECONDS, check=False
    )

    assert result.returncode == 1
    assert result.stderr.decode().startswith("started without its socket")
    assert b"Traceback" not in result.stderr


def test_nothing_heavy_is_imported_before_the_greeting() -> None:
    """A worker that is refused, or whose caller dies at once, never loads torch."""
    code = "import sys, tokenmill.engine.local.worker; print({'torch', 'numpy', 'asyncio'} & set(sys.modules))"

    assert subprocess.check_output([sys.executable, "-c", code]) == b"set()\n"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is a call of Linux")
def test_its_memory_is_never_dumped() -> None:
    """Neither to a file nor to a program, or prompts would lie about on disk after a crash."""
    code = (
        "import ctypes, resource; from tokenmill.engine.local.worker import isolate; isolate();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))"
    )

    assert subprocess.check_output([sys.executable, "-c", code]) == b"(0, 0) 0\n"
