"""A place for tiny sweeps: three prompts of a sentence each, an awkward engine, and the real command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tokenmill.bench.cell import Reading
from tokenmill.bench.folder import SweepFolder

AWKWARD = Path(__file__).parent / "awkward"
#: Seconds after which a command hangs; far beyond what one takes.
PATIENCE = 120.0


class Place:
    """A folder with an input, a log of the engine, and sweeps below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sweeps = folder / "sweeps"
        self.log = folder / "log"
        self.log.touch()
        self.source = folder / "in.txt"
        self.source.write_text("".join(f"Give me 1 sentence about row {row}\n" for row in range(3)))
        paths = [str(AWKWARD), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "AWKWARD_LOG": str(self.log),
            "TOKENMILL_BENCH": str(self.sweeps),
            "COLUMNS": "160",
        }

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "tokenmill", "bench", *words]

    def call(self, *words: str, wrap: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            [*wrap, *self.line(*words)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def begin(self, *more: str, wrap: tuple[str, ...] = (), node: str = "") -> subprocess.CompletedProcess[str]:
        """A sweep of two cells."""
        return self.call(*self.words(*more, node=node), wrap=wrap)

    def words(self, *more: str, node: str = "") -> list[str]:
        where = ["--node", f"awkward:{node}"] if node else ["--engine", "scripted", "--slots", "2"]
        few = ["--strategies", "sequential,pull", "--widths", "2", "--sentence", "0.001", "--discard", "0"]
        return ["strategies", "--source", "in.txt", *few, *where, *more]

    @property
    def sweep(self) -> SweepFolder:
        (found,) = self.sweeps.iterdir()
        return SweepFolder(found)

    def readings(self) -> list[Reading]:
        return self.sweep.readings()
