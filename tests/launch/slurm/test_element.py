"""The rules of jobs that work on one run: one drives, the others stand by."""

from __future__ import annotations

import pytest

from tokenmill.launch.slurm.element import TRIES, Next, decide


@pytest.mark.parametrize(
    ("locked", "finished", "told", "code", "died", "expected"),
    [
        (False, False, False, None, 0, Next.DRIVE),  # it comes first
        (True, False, False, None, 0, Next.STAND_BY),  # another drives
        (True, False, False, 2, 0, Next.STAND_BY),  # another was quicker
        (False, True, False, None, 0, Next.END),  # the other has finished
        (False, False, False, 0, 0, Next.END),
        (False, True, False, 3, 0, Next.END),
        (False, False, False, 4, 0, Next.END),  # it stopped by itself: for want of workers, or of space
        (False, False, False, 2, 0, Next.END),  # the run is refused
        (False, False, False, -9, 1, Next.DRIVE),  # it was killed
        (False, False, False, -9, TRIES, Next.END),  # again and again
        (False, True, False, -9, 1, Next.END),  # after its last answer
        (False, False, True, None, 0, Next.END),  # the job is to end
        (True, False, True, None, 0, Next.END),
        (False, False, True, -9, 1, Next.END),
    ],
)
def test_who_drives(locked: bool, finished: bool, told: bool, code: int | None, died: int, expected: Next) -> None:
    """The lock alone says whether somebody drives; a job that is to end takes nothing over."""
    assert decide(locked=locked, finished=finished, told=told, code=code, died=died) is expected
