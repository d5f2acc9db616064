"""Runs on a Ray cluster as processes of their own, and what their records say while they go on and afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds after which something that must happen hasn't; far beyond what it takes on a busy machine.
PATIENCE = 240.0
#: Rows that two nodes don't get through before a third has started, however late it is: for a run that is interrupted.
ENDLESS = 30_000
#: Each node has a share of the rows that is its own, seconds of work that wait for it however late it starts: what is
#: done to a node once it has answered finds it at work.
SHARES = ("--strategy", "static")
#: By which a test finds the processes that a run left behind.
MARK = "TOKENMILL_TEST_MARK"
#: Without this Ray takes a minute to call a node dead that it can't hear any more.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


def until(happened: Callable[[], bool], what: str) -> None:
    """Looks ten times a second."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"{what} didn't come to be"
        threading.Event().wait(0.1)


def prompts(folder: Path, count: int) -> Path:
    """Rows of unequal length, enough of them to last for some seconds on two slots."""
    path = folder / "prompts.txt"
    lines = [f"Give me {6 + number % 9} sentences about rivers, take {number}.\n" for number in range(count)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


class Run:
    """A run under way: its record is read, never written."""

    def __init__(
        self,
        folder: Path,
        rows: int,
        *launch: str,
        options: tuple[str, ...] = (),
        python: list[str] | None = None,
        **extra: str,
    ) -> None:
        """`options`: of the run, not of Ray; `python`: how Python is called; `extra`: more of the environment."""
        self.rows = rows
        self.output = folder / "answers.jsonl"
        self._runs = folder / "runs"
        self._python = python or [sys.executable]
        self._environment = os.environ | HEALTH | extra
        self._words = (folder / "words").open("w+b")
        self.process = self._start(
            *("launch", "ray", *launch, "--", "run", prompts(folder, rows), "--model", "demo", "--slots", "2"),
            *("--max-tokens", "40", "--runs-dir", self._runs, "-o", self.output, "--durability", "process", *options),
        )

    def _start(self, *words: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._python, "-m", "tokenmill", *map(str, words)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._words,
            stderr=self._words,
            start_new_session=True,
        )

    def resume(self) -> None:
        """Goes on with it in a new process; on what it ran before is in its manifest."""
        self.process = self._start("resume", "last", "--runs-dir", self._runs)

    @property
    def words(self) -> str:
        """What it has printed."""
        self._words.seek(0)
        return self._words.read().decode("utf-8", "replace")

    def ask(self, question: str) -> list[tuple[int, ...]]:
        """Of the record; nothing while there is none yet."""
        found = list(self._runs.glob("[!.]*/record.db")) if self._runs.exists() else []
        if not found:
            return []
        connection = sqlite3.connect(f"file:{found[0]}?mode=ro", uri=True)
        try:
            return list(connection.execute(question))
        finally:
            connection.close()

    def answered(self) -> int:
        return next(iter(self.ask("SELECT count(*) FROM answer")), (0,))[0]

    def nodes(self) -> set[int]:
        """The nodes that have answered by now."""
        return {node for (node,) in self.ask("SELECT DISTINCT node FROM attempt WHERE outcome = 'answered'")}

    def reach(self, answers: int) -> None:
        """Waits until there are so many."""
        until(lambda: self.is_going() and self.answered() >= answers, f"answer {answers}")

    def finish(self) -> str:
        """Waits for its end; its words."""
        until(lambda: self.process.poll() is not None, "the end of the run")
        return self.words

    def check_complete(self) -> None:
        """Every row is answered exactly once, and the file says so too."""
        assert self.process.returncode == 0, self.words
        assert self.ask("SELECT count(*), count(DISTINCT row) FROM answer") == [(self.rows, self.rows)]
        self.check_once()
        assert len(self.output.read_text(encoding="utf-8").splitlines()) == self.rows

    def check_once(self) -> None:
        """No row was answered twice."""
        assert self.ask("SELECT row FROM attempt WHERE outcome = 'answered' GROUP BY row HAVING count(*) > 1") == []

    def interrupt(self) -> None:
        """What Ctrl-C does: what is in flight is finished, the rest is left, and no row was answered twice."""
        self.process.send_signal(signal.SIGINT)
        assert "resume" in self.finish()
        assert self.process.returncode == 4, self.words
        self.check_once()

    def kill(self) -> None:
        """The driver alone, so that nothing of it can clean up."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._words.close()

    def is_going(self) -> bool:
        """True; fails with the run's words where it has ended."""
        assert self.process.poll() is None, self.words
        return True


def left_of(mark: str) -> list[int]:
    """Processes that inherited the variable `MARK` with this value: driver, agent, its Ray, and what that started."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # gone by now, or not ours
            continue
    return found
