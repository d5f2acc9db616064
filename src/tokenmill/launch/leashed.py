"""Runs another module as if by `python -m`, in a process that ends with its parent.

`python -P -m tokenmill.launch.leashed MODULE ARGS...`: for programs that aren't ours and would outlive a driver that
was killed. On systems other than Linux the parent's end isn't told, and ranks notice it by their connection alone.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

from tokenmill.launch.surroundings import LEASH_VARIABLE, is_left

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Takes the leash, then becomes the module."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if is_left(os.environ):
        sys.exit("the process that started this one is gone")
    os.environ[LEASH_VARIABLE] = str(os.getpid())  # what it starts is on its leash
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
