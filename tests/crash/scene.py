"""A small run in a folder of its own, played with the real command line, and what is checked after every crash.

A scene is started, ended in some violent way, and gone on with until it is complete. `Story` looks at the record (in a
copy, as opening it would mend it) and at the engine's own log between the acts, and collects every broken promise as
one line: `lost`, `repeated`, `changed`, `resent`, `unrecorded`, `orphan`, `file`, `leftover`, `exit`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

RUN = "x"
OUTPUT = "out.jsonl"
WITNESS = Path(__file__).parent / "witness"
#: Seconds after which a command hangs; far beyond what one takes.
PATIENCE = 120.0
#: Seconds between two looks at the engine's log.
POLL = 0.001

SCRIPT = """
slots = {slots}
seed = 3
answers = ["You said: {{prompt}}", "{{prompt}}, and so on and on", "Yes."]
first_token = {delay}
per_token = {delay}
jitter = 0.5
"""


@dataclass(frozen=True)
class Instant:
    """When to strike: once the engine has written so many more words (0: from the start), and then some seconds."""

    words: int
    seconds: float


@dataclass(frozen=True)
class Ended:
    """How a command ended; a signal is a negative code."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """A command while it runs."""

    process: subprocess.Popen[str]
    out: IO[str]
    err: IO[str]

    def said(self) -> str:
        """What it has written to stderr so far."""
        return os.pread(self.err.fileno(), 1 << 20, 0).decode()

    def end(self) -> Ended:
        """Waits for the end and reads what the command said."""
        code = self.process.wait(PATIENCE)
        self.out.seek(0)
        self.err.seek(0)
        return Ended(code, self.out.read(), self.err.read())


@dataclass(frozen=True)
class Look:
    """What a record holds: answers as {row: (attempt, text)}, final failures, and attempts by row.

    `in_flight` are the rows with an attempt that has no end: it was lost with a driver, or cancelled as one left.
    """

    ids: dict[int, str] = field(default_factory=dict)
    answers: dict[int, tuple[int, str]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    answered_attempts: Counter[int] = field(default_factory=Counter)
    in_flight: frozenset[int] = frozenset()


class Scene:
    """One input, one script, and the commands on them; every path in them is relative to `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        rows: int = 60,
        slots: int = 8,
        look_ahead: int = 0,
        delay: float = 0.003,
        node: str = "witness:scripted:script.toml",
        more: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.rows = rows
        self.slots = slots
        self.most_in_flight = slots + look_ahead
        self.node = node
        self.more = list(more)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "input.txt").write_text("".join(f"tell me about crash number {row}\n" for row in range(rows)))
        (folder / "script.toml").write_text(SCRIPT.format(slots=slots, delay=delay))
        self.runs = folder / "runs"
        self.run_folder = self.runs / RUN
        self.output = folder / OUTPUT
        self.log = folder / "witness.log"
        self.environment = os.environ | (environment or {})
        paths = [str(WITNESS), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment |= {
            "PYTHONPATH": os.pathsep.join(paths),
            "WITNESS_LOG": str(self.log),
            "PYTHONUNBUFFERED": "1",
        }
        self.given = frozenset(("input.txt", "script.toml", self.log.name))
        self.made = frozenset((OUTPUT, "out.errors.jsonl", "runs"))

    # -- commands ----------------------------------------------------------------------------------------------

    def run_words(self) -> list[str]:
        where = ["--runs-dir", str(self.runs.relative_to(self.folder)), "--run-id", RUN, "-o", OUTPUT]
        return ["run", "input.txt", "--node", self.node, *where, *self.more]

    def resume_words(self) -> list[str]:
        return ["resume", RUN, "--runs-dir", str(self.runs.relative_to(self.folder))]

    def next_words(self) -> list[str]:
        """What a user would type now: `resume` where there is a run, else `run`."""
        return self.resume_words() if self.exists else self.run_words()

    @property
    def exists(self) -> bool:
        return self.run_folder.exists()

    @contextmanager
    def started(self, words: Sequence[str], wrap: Sequence[str] = ()) -> Iterator[Command]:
        """A running command in a process group of its own, which is gone when the block ends."""
        command = [*wrap, sys.executable, "-m", "tokenmill", *words]
        with (
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
            subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield Command(process, out, err)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def play(self, words: Sequence[str], wrap: Sequence[str] = (), kill: Instant | None = None) -> Ended:
        """A command to its end, or to its kill."""
        before = len(self.heard())
        with self.started(words, wrap) as command:
            if kill is not None:
                self.strike(command.process, kill, before)
            return command.end()

    def strike(self, process: subprocess.Popen[str], at: Instant, before: int, number: int = signal.SIGKILL) -> None:
        """Sends a signal at an instant, counted from `before` words; nothing if the process ended before."""
        while len(self.heard()) - before < at.words and process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(at.seconds)
        if process.poll() is None:
            process.send_signal(number)

    # -- state -------------------------------------------------------------------------------------------------

    def wipe(self) -> None:
        """Back to an input and a script that nothing was done with."""
        for path in self.folder.iterdir():
            if path.name not in self.given or path == self.log:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def save(self, to: Path) -> None:
        """Keeps the state of an interrupted run, to go back to it."""
        shutil.copytree(self.folder, to, dirs_exist_ok=True)

    def restore(self, saved: Path) -> None:
        self.wipe()
        for path in saved.iterdir():
            if path.name not in self.given or path.name == self.log.name:
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, self.folder / path.name)

    def look(self) -> Look:
        return look(self.run_folder / "record.db")

    def product(self) -> bytes:
        """What the run is for; empty while it isn't there."""
        return self.output.read_bytes() if self.output.exists() else b""

    def story(self, calm: Calm) -> Story:
        """A story that plays here from now on."""
        return Story(self, calm)

    def instant(self, chance: random.Random, seconds: float, rows: int | None = None) -> Instant:
        """Any moment of a command that takes so long and answers `rows`: as it starts, answers or ends."""
        words = 2 * (self.rows if rows is None else rows)
        where = chance.random()
        if where < 0.25 or words < 2:
            return Instant(0, chance.uniform(0, seconds / 2))
        if where < 0.85:
            return Instant(chance.randrange(1, words), chance.uniform(0, 0.01))
        return Instant(words, chance.uniform(0, 0.1))

    def heard(self) -> list[tuple[str, str]]:
        """(sent or told, id) in the engine's own words."""
        if not self.log.exists():
            return []
        return [(word, name) for word, name in (line.split() for line in self.log.read_text().splitlines())]

    def calm(self) -> Calm:
        """The run without any crash."""
        self.wipe()
        started = time.monotonic()
        ended = self.play(self.run_words())
        assert ended.code in (0, 3), f"the calm run ended with {ended.code}: {ended.err}"
        seconds = time.monotonic() - started
        state = self.look()
        texts = {row: text for row, (_, text) in state.answers.items()}
        calm = Calm(self.product(), texts, state.failures, seconds)
        self.wipe()
        return calm


@dataclass(frozen=True)
class Calm:
    """What a run without crashes gives, and how many seconds it took."""

    file: bytes
    texts: dict[int, str]
    failures: dict[int, str]
    seconds: float


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection | None]:
    """A copy of a record with its log, as the next process would find it; None if there is none yet."""
    if not database.exists():
        yield None
        return
    with tempfile.TemporaryDirectory() as aside:
        for name in (database.name, f"{database.name}-wal", f"{database.name}-journal"):
            if (database.parent / name).exists():
                shutil.copy(database.parent / name, Path(aside) / name)
        with closing(sqlite3.connect(Path(aside) / database.name)) as connection:
            (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
            assert whole == "ok", f"{database}: {whole}"
            yield None if connection.execute("PRAGMA user_version").fetchone() == (0,) else connection


def look(database: Path) -> Look:
    """What a record holds."""
    with reading(database) as connection:
        if connection is None:
            return Look()
        tried = list(connection.execute("SELECT row, outcome FROM attempt"))
        return Look(
            ids=dict(connection.execute("SELECT row, custom_id FROM request")),
            answers={row: (a, t) for row, a, t in connection.execute("SELECT row, attempt, text FROM answer")},
            failures=dict(connection.execute("SELECT row, kind FROM failure")),
            attempts=Counter(row for row, _ in tried),
            answered_attempts=Counter(row for row, outcome in tried if outcome == "answered"),
            in_flight=frozenset(row for row, outcome in tried if outcome in (None, "cancelled", "lost")),
        )


class Story:
    """Plays acts on a scene and collects broken promises in `faults`."""

    def __init__(self, scene: Scene, calm: Calm) -> None:
        self.scene, self.calm = scene, calm
        self.faults: list[str] = []
        self.resent = 0
        self._before = scene.look()
        self._told_before = len(scene.heard())

    def act(self, words: Sequence[str], wrap: Sequence[str] = (), kill: Instant | None = None) -> Ended:
        """One command, perhaps ended by a signal, and a look at what it left."""
        ended = self.scene.play(words, wrap, kill)
        if "Traceback" in ended.err or ended.code == 1:
            last = ended.err.strip().splitlines()[-1:] or ["no word"]
            self.faults.append(f"exit: code {ended.code}, {last[0]}")
        self.check_between()
        return ended

    def check_between(self) -> None:
        """Compares record and engine log with those of the act before."""
        now, heard = self.scene.look(), self.scene.heard()
        names = now.ids
        for row, kept in self._before.answers.items():
            if row not in now.answers:
                self.faults.append(f"lost: row {row} had an answer and has none")
            elif now.answers[row] != kept:
                self.faults.append(f"changed: row {row} had {kept} and has {now.answers[row]}")
        for row, (_, text) in now.answers.items():
            if text != self.calm.texts.get(row):
                self.faults.append(f"changed: row {row} says {text!r}, not {self.calm.texts.get(row)!r}")
        earlier = Counter(name for word, name in heard[: self._told_before] if word == "sent")
        later = Counter(name for word, name in heard[self._told_before :] if word == "sent")
        sent = earlier + later
        again = [row for row, name in names.items() if earlier[name] and later[name]]
        for row in again:
            if row in self._before.answers:
                self.faults.append(f"repeated: row {row} was sent again after its answer was recorded")
            elif row not in self._before.in_flight:
                self.faults.append(f"resent: row {row} was sent again and was not in flight")
        self.resent += len(again)
        if len(again) > self.scene.most_in_flight:
            self.faults.append(f"resent: {len(again)} rows, {self.scene.most_in_flight} may be in flight")
        for row, name in names.items():
            if sent[name] > now.attempts[row]:
                self.faults.append(f"unrecorded: row {row} was sent {sent[name]} times, recorded {now.attempts[row]}")
            if now.answered_attempts[row] > 1:
                self.faults.append(f"repeated: row {row} was answered {now.answered_attempts[row]} times")
        self._before, self._told_before = now, len(heard)

    def forget(self) -> None:
        """The disk was put back to another state: the record starts from there, and the engine's log from nothing."""
        self.scene.log.unlink(missing_ok=True)
        self._before, self._told_before = self.scene.look(), 0

    def finish(self) -> list[str]:
        """Goes on until the run is complete, checks the end, and returns every fault of the story."""
        ended = self.act(self.scene.next_words())
        expected = 3 if self.calm.failures else 0
        if ended.code != expected:
            self.faults.append(f"exit: code {ended.code} at the end: {ended.err.strip()}")
        state = self._before
        if len(state.ids) != self.scene.rows:
            self.faults.append(f"lost: {len(state.ids)} of {self.scene.rows} rows in the record")
        for row in state.ids:
            if (row in state.answers) + (row in state.failures) != 1:
                self.faults.append(f"lost: row {row} has no final word, or two")
        if state.failures != self.calm.failures:
            self.faults.append(f"changed: failures {state.failures}, not {self.calm.failures}")
        file = self.scene.product()
        if file != self.calm.file:
            self.faults.append(f"file: {len(file)} bytes differ from the {len(self.calm.file)} of the calm run")
        self.faults += [f"leftover: {name}" for name in self._leftovers()]
        return self.faults

    def _leftovers(self) -> list[str]:
        if not self.scene.exists:
            return []
        expected = self.scene.given | self.scene.made
        found = [path.name for path in self.scene.folder.iterdir() if path.name not in expected]
        found += [f"runs/{path.name}" for path in self.scene.runs.iterdir() if path.name not in (RUN, "paces.json")]
        own = {"lock", "manifest.json", "record.db"}
        found += [f"runs/{RUN}/{path.name}" for path in self.scene.run_folder.iterdir() if path.name not in own]
        return found
