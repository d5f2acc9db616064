"""What a driver inside a job can say of the step that holds its ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tokenmill.launch.slurm.launcher import is_gone


def test_a_step_that_ended_is_gone_where_its_number_means_something() -> None:
    """In a container with processes of its own the number may be anybody's, so nothing is made of it there."""
    here = str(Path("/proc/self/ns/pid").readlink())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert is_gone(f"{ended.pid} {here}")
    assert not is_gone(f"{os.getpid()} {here}")
    assert not is_gone(f"{ended.pid} pid:[1]")
    assert not is_gone(str(ended.pid))
    assert not is_gone("")
