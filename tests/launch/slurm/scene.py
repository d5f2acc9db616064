"""One run on the cluster, typed as a user would, and what its record holds in the end."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from launch.slurm.jobs import PATIENCE, until
from tokenmill.testing.slurm import SlurmCluster

#: A run of some seconds on three small workers.
ROWS = 90
MODEL = ("--model", "demo", "--max-tokens", "32", "--odd", "empty=flag", "--threads", "1", "--slots", "2")


class Scene:
    """An input, a runs folder, and commands on them."""

    def __init__(self, cluster: SlurmCluster, folder: Path, rows: int = ROWS) -> None:
        self.cluster = cluster
        self.folder = folder
        self.rows = rows
        self.environment = cluster.environment
        (folder / "in.txt").write_text("".join(f"tell me about number {row}\n" for row in range(rows)))
        self.output = folder / "out.jsonl"
        self.run_folder = folder / "runs" / "x"

    def words(self, *options: str) -> list[str]:
        where = ["--runs-dir", str(self.folder / "runs"), "--run-id", "x", "-o", str(self.output)]
        return ["launch", "slurm", *options, "--", "run", str(self.folder / "in.txt"), *MODEL, *where]

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command of tokenmill that is killed at the latest when the block ends."""
        command = [sys.executable, "-m", "tokenmill", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=self.environment, text=True, stdin=subprocess.DEVNULL, **pipes)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tokenmill", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)

    @property
    def answered(self) -> int:
        """Answers in the record by now."""
        if not (self.run_folder / "record.db").exists():
            return 0
        with closing(sqlite3.connect(f"file:{self.run_folder / 'record.db'}?mode=ro", uri=True)) as connection:
            (number,) = connection.execute("SELECT count(*) FROM answer").fetchone()
            return int(number)

    def sessions(self) -> int:
        """Drivers that the run had."""
        with closing(sqlite3.connect(f"file:{self.run_folder / 'record.db'}?mode=ro", uri=True)) as connection:
            (number,) = connection.execute("SELECT count(*) FROM session").fetchone()
            return int(number)

    def until_answered(self, number: int) -> None:
        until(lambda: self.answered >= number, self.said)

    def job(self) -> str:
        """The number of the job that was submitted last."""
        return str(json.loads((self.run_folder / "slurm" / "job.json").read_text())["number"])

    def said(self) -> str:
        """What the jobs wrote, for whoever wonders."""
        logs = sorted((self.run_folder / "slurm").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)

    def check_whole(self) -> None:
        """Every row has one answer, from one attempt; the output has all of them in order; no job is left."""
        with closing(sqlite3.connect(self.run_folder / "record.db")) as connection:
            query = "SELECT row FROM attempt WHERE outcome = 'answered' ORDER BY row"
            answered = [row for (row,) in connection.execute(query)]
            ids = [custom_id for (custom_id,) in connection.execute("SELECT custom_id FROM request ORDER BY row")]
            (failed,) = connection.execute("SELECT count(*) FROM failure").fetchone()
        assert answered == list(range(self.rows)), "lost or repeated"
        assert failed == 0
        lines = self.output.read_text().splitlines()
        assert [json.loads(line)["custom_id"] for line in lines] == ids
        until(lambda: self.cluster.run("squeue", "-h") == "")
        assert self.workers() == []

    def workers(self) -> list[str]:
        """Processes of this run that are still there, anywhere on the cluster."""
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit() and int(each.name) != os.getpid():
                try:
                    words = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    environment = (each / "environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if str(self.run_folder) in environment or f"tokenmill resume {self.run_folder}" in words:
                    found.append(words)
        return found
