"""What a job does on its first node: `python -P -m tokenmill.launch.slurm.element RUN`.

Whoever gets the run's lock drives: it starts `tokenmill resume`. In an array the other elements stand by, while their
ranks join the driver, and when the lock is free again and requests are left, the next one drives. Nothing is agreed
between elements but the lock, so none of them has to be there for the others to go on.

SIGTERM says that the job is to end; the driver is told once, by SIGINT, and lets what is in flight be answered. It
never gets SIGTERM itself: SLURM sends that to every process of a job, and a second interrupt would end it at once.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from tokenmill.errors import TokenmillError
from tokenmill.record.lock import is_locked
from tokenmill.record.store import Record

#: Seconds between two looks at the run's lock, and at the driver.
LOOK_EVERY = 0.5
#: Times that a driver is started again which was ended by a signal.
TRIES = 3
#: The exit code of a run that was interrupted and can go on.
RESUMABLE = 4
REFUSED = 2


class Next(Enum):
    """What an element does now."""

    DRIVE = "drive"
    STAND_BY = "stand by"
    END = "end"


def decide(*, locked: bool, finished: bool, told: bool, code: int | None, died: int) -> Next:
    """The rules of an element; `code` is how its own driver ended, None if none of its own ran since another drove.

    `finished`: no request is left; `told`: the job is to end; `died`: drivers of its own that a signal ended.
    """
    if told:
        return Next.END
    if locked:
        return Next.STAND_BY
    if code is None:
        return Next.END if finished else Next.DRIVE
    if code < 0 and died < TRIES and not finished:
        return Next.DRIVE
    return Next.END


class Element:
    """One job, from its start to its end."""

    def __init__(self, folder: Path, drive: Callable[[Path], subprocess.Popen[bytes]]) -> None:
        self._folder = folder
        self._drive = drive
        self._told = False
        self._died = 0

    def run(self) -> int:
        """The exit code of the job."""
        code: int | None = None
        while True:
            locked = is_locked(self._folder)
            finished = not locked and is_finished(self._folder)
            match decide(locked=locked, finished=finished, told=self._told, code=code, died=self._died):
                case Next.DRIVE:
                    code = self._driven()
                    self._died += code < 0
                case Next.STAND_BY:
                    code = None
                    self._told |= _is_told(LOOK_EVERY)
                case Next.END:
                    return self._code(code, finished=finished)

    def _driven(self) -> int:
        driver = self._drive(self._folder)
        while True:
            code = driver.poll()
            if code is not None:
                return code
            if _is_told(LOOK_EVERY) and not self._told:
                self._told = True
                driver.send_signal(signal.SIGINT)

    def _code(self, code: int | None, *, finished: bool) -> int:
        if code is not None and code >= 0:
            return code
        return 0 if finished else RESUMABLE


def is_finished(folder: Path) -> bool:
    """Whether every request has its final word; False also if somebody holds the record now."""
    try:
        record = Record(folder / "record.db")
        try:
            return not record.counts().unfinished
        finally:
            record.close()
    except (TokenmillError, sqlite3.Error):
        time.sleep(LOOK_EVERY)
        return False


def start_driver(folder: Path) -> subprocess.Popen[bytes]:
    """The driver, whose progress goes to the job's log as lines of JSON, where it can be followed."""
    words = [sys.executable, "-P", "-m", "tokenmill", "resume", str(folder), "--json"]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)


def _is_told(seconds: float) -> bool:
    """Waits so long for SIGTERM, which is blocked here and in what is started from here."""
    return signal.sigtimedwait({signal.SIGTERM}, seconds) is not None


def main() -> None:
    """Runs an element to its end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    folder = Path(sys.argv[1])
    try:
        code = Element(folder, start_driver).run()
    except TokenmillError as error:
        os.write(2, f"tokenmill: {error}\n".encode())
        code = REFUSED
    sys.exit(code)


if __name__ == "__main__":
    main()
