"""What is known of a process that somebody else waits for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tokenmill.launch.glimpse import Glimpse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's marks are read from /proc")


@contextmanager
def playing() -> Iterator[subprocess.Popen[str]]:
    """A process that lives until it is told a line, and has held 40 MB by the time it says one itself."""
    code = "import time; held = b'x' * 40_000_000; del held; print('ready', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_the_last_look_is_its_end() -> None:
    """The most it ever held, and its processor time, though nobody here waits for it."""
    with playing() as process:
        glimpse = Glimpse(process.pid)
        assert glimpse.end is None
        glimpse.part()
        first = glimpse.end
        glimpse.part()

    assert first is not None
    assert first.peak_rss > 40_000_000
    assert first.cpu_seconds >= 0
    assert glimpse.end is first


def test_of_one_that_is_gone_nothing_is_known() -> None:
    """Its end stays unknown, and nobody is killed in its place."""
    with playing() as process:
        glimpse = Glimpse(process.pid)
    glimpse.part()
    glimpse.kill()

    assert glimpse.end is None


def test_it_can_be_killed() -> None:
    """The process that was seen, and at once."""
    with playing() as process:
        Glimpse(process.pid).kill()
        assert process.wait(60) == -9
