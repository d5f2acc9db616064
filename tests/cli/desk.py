"""A desk to try commands at: a folder with an input and a script, a runs folder, and two ways to call `tokenmill`."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenmill.cli import main

#: Seconds after which a command hangs; far beyond what one takes.
PATIENCE = 120.0
SCRIPT = 'slots = 2\nanswer = "You said: {prompt}"\n'
SCRIPTED = ("--node", "scripted:script.toml")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Desk:
    """The working folder of some commands; all paths in them are relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.environment = os.environ | {"TOKENMILL_RUNS": str(self.runs), "COLUMNS": "80"}
        self.write("ok.txt", "one\ntwo\nthree\n")
        self.write("script.toml", SCRIPT)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def made_runs(self) -> list[str]:
        """Everything in the runs folder that a run could be."""
        return sorted(path.name for path in self.runs.iterdir() if path.is_dir()) if self.runs.exists() else []

    def call(self, *words: str) -> Ended:
        """The command in this process, which is quick; `main` is what the installed script calls."""
        out, err, argv, saved = io.StringIO(), io.StringIO(), sys.argv, dict(os.environ)
        code: Any = 0
        try:
            sys.argv = ["tokenmill", *words]
            os.environ.update(self.environment)
            with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as end:
            code = end.code
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ.update(saved)
        assert isinstance(code, int)
        return Ended(code, out.getvalue(), err.getvalue())

    def process(self, *words: str, stdin: bytes = b"", start: Callable[[], None] | None = None, **more: str) -> Ended:
        """The command in a process of its own; `start` is called in it first, `more` is added to its environment."""
        done = subprocess.run(
            self.line(*words),
            cwd=self.folder,
            env=self.environment | more,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            preexec_fn=start,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def without(self, missing: str, *words: str) -> Ended:
        """The command in a process where the module `missing` isn't installed."""
        code = f"import sys; sys.modules[{missing!r}] = None; from tokenmill.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @staticmethod
    def line(*words: str) -> list[str]:
        """The command line of such a process."""
        return [sys.executable, "-m", "tokenmill", *words]
