"""A hundred thousand rows through a recipe of three rounds: memory, CPU time per attempt, and a kill in the middle.

    python benchmarks/pipelines.py                            ten minutes on a free core
    python benchmarks/pipelines.py --rows 5000 --place DIR    a quick one, which can be interrupted and started again

The scripted engine answers at once, so all that is measured is tokenmill itself: preparing, scheduling, recording,
parsing, two validators, templates, the certificate and the data set. Nine rows of ten are given one of three wanted
items a round, every tenth never passes. Targets: under 1 ms of CPU an attempt end to end; while the run goes on, no
more memory at its end than after its first tenth, but for what noise of the allocator and 20 bytes an attempt explain;
a peak under 200 MB; the planted outcomes; and after a kill at half the same files as without one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

RECIPE = """
name = "scale"
rounds = 3
reference = "{{ prompt }}"
sampling = { temperature = 0.5 }
[[stage]]
name = "say"
prompt = "Round {{ round }} of {{ rounds }}: {{ prompt }}"
refine = '''
Round {{ round }} of {{ rounds }}, {{ missing.say }} to go: {{ prompt }}
{% for each in reasons %}- {{ each }}
{% endfor %}'''
target = { say = 3 }
[[stage.check]]
use = "length"
options = { min_words = 4, max_words = 100 }
[[stage.check]]
use = "near_duplicate"
options = { threshold = 0.98 }
"""
SCRIPT = """
slots = 8
[[rule]]
match = 'number \\d*0,'
answer = "No."
"""
ROUNDS = 3
FILES = ("data.jsonl", "data.rest.jsonl", "data.missed.jsonl")
#: Seconds between two looks at the memory of a run.
LOOK = 0.5
#: What an attempt may add while the run goes on: row numbers that wait to be judged, and the strategy's 8 bytes a row.
BYTES_AN_ATTEMPT, NOISE_MB = 20, 8.0

Figures = dict[str, float]


class Bench:
    """A folder with the input of each size; figures of parts that are done are kept there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._kept = place / "figures.json"
        (place / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        (place / "script.toml").write_text(SCRIPT, encoding="utf-8")
        self.figures: dict[str, Figures] = json.loads(self._kept.read_bytes()) if self._kept.exists() else {}

    def part(self, name: str, measure: Callable[[], Figures]) -> Figures:
        """The figures of a part, measured unless an earlier start has done so."""
        if name not in self.figures:
            self.figures[name] = measure()
            self._kept.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")
        for figure, value in self.figures[name].items():
            print(f"  {name:22} {figure:26} {value:.4g}", flush=True)
        return self.figures[name]

    def start(self, rows: int, run: str) -> subprocess.Popen[bytes]:
        source = self.place / f"rows-{rows}.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for row in range(rows):
                asked = f"Say something about number {row}, and about the church beside it"
                file.write(json.dumps({"custom_id": f"id-{row}", "prompt": asked}) + "\n")
        shutil.rmtree(self.place / run, ignore_errors=True)
        made = ["--pipeline", str(self.place / "recipe.toml"), "--node", f"scripted:{self.place / 'script.toml'}"]
        return self._command("run", str(source), *made, "--run-id", run)

    def resume(self, run: str) -> subprocess.Popen[bytes]:
        return self._command("resume", run)

    def _command(self, *words: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "tokenmill", *words, "--runs-dir", str(self.place), "--quiet"]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL)

    def attempts(self, run: str) -> int:
        """Attempts so far; 0 before the run has a record."""
        try:
            with closing(sqlite3.connect(f"file:{self.place / run / 'record.db'}?mode=ro", uri=True)) as connection:
                return int(connection.execute("SELECT coalesce(max(id) + 1, 0) FROM attempt").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def files(self, run: str) -> list[bytes]:
        return [(self.place / run / name).read_bytes() for name in FILES]

    def outcomes(self, run: str) -> dict[str, int]:
        card: dict[str, Any] = json.loads((self.place / run / "data.card.json").read_bytes())
        return dict(card["outcomes"])


def calm(bench: Bench, rows: int, run: str) -> Figures:
    """One whole run: seconds, CPU an attempt, and memory in MB as it goes on."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = bench.start(rows, run)
    looks: list[tuple[int, float]] = []
    while process.poll() is None:
        time.sleep(LOOK)
        looks.append((bench.attempts(run), resident(process.pid)))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    attempts = bench.attempts(run)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    driven = [(sent, memory) for sent, memory in looks if sent and memory]
    while len(driven) > 1 and driven[-2][0] == attempts:  # from here on it certifies and writes
        driven.pop()
    first = next((memory for sent, memory in driven if sent >= attempts / 10), 0.0)
    planted = Counter(short=-(-rows // 10), success=rows - -(-rows // 10))
    return {
        "attempts": attempts,
        "wall_s": time.monotonic() - started,
        "cpu_us_per_attempt": cpu / attempts * 1e6,
        "after_a_tenth_mb": first,
        "at_the_end_mb": driven[-1][1] if driven else 0.0,
        "peak_mb": after.ru_maxrss / 1024,
        "exit_code": float(process.returncode),
        "as_planted": float(bench.outcomes(run) == dict(planted)),
    }


def killed(bench: Bench, rows: int, run: str, like: str) -> Figures:
    """A run that is killed when half of its prompts are sent, and its resume."""
    process = bench.start(rows, run)
    while bench.attempts(run) < ROUNDS * rows / 2 and process.poll() is None:
        time.sleep(LOOK / 10)
    process.send_signal(signal.SIGKILL)
    process.wait()
    sent = bench.attempts(run)
    code = bench.resume(run).wait()
    return {
        "sent_before_kill": sent,
        "attempts": bench.attempts(run),
        "exit_code": float(code),
        "files_equal": float(bench.files(run) == bench.files(like)),
    }


def resident(process: int) -> float:
    """Megabytes of a process; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


def measure(place: Path, rows: int) -> dict[str, bool]:
    bench, small = Bench(place), max(20, rows // 10)
    tenth = bench.part(f"{small:,} rows", lambda: calm(bench, small, "tenth"))
    after = bench.part(f"{small:,} rows, killed", lambda: killed(bench, small, "killed", "tenth"))
    whole = bench.part(f"{rows:,} rows", lambda: calm(bench, rows, "whole"))
    room = NOISE_MB + whole["attempts"] * BYTES_AN_ATTEMPT / 2**20
    return {
        "CPU under 1 ms an attempt": whole["cpu_us_per_attempt"] < 1000,
        f"memory at the end within {room:.0f} MB of that after a tenth": whole["at_the_end_mb"]
        <= whole["after_a_tenth_mb"] + room,
        "peak memory under 200 MB": whole["peak_mb"] < 200,
        f"{ROUNDS} attempts a row, outcomes as planted": all(
            each["as_planted"] == 1 and each["exit_code"] == 0 for each in (tenth, whole)
        )
        and whole["attempts"] == ROUNDS * rows,
        "killed at half: files equal": after["files_equal"] == 1 and after["exit_code"] == 0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--place", type=Path, help="work here, and go on with what an earlier start has measured here")
    chosen = parser.parse_args()
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(f"{chosen.rows:,} rows; {machine}; load {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}")
    if chosen.place is not None:
        chosen.place.mkdir(parents=True, exist_ok=True)
    with nullcontext(chosen.place) if chosen.place else tempfile.TemporaryDirectory(prefix="pipelines-") as folder:
        targets = measure(Path(folder), chosen.rows)
    for name, is_met in targets.items():
        print(f"  {'pass' if is_met else 'FAIL'}  {name}")
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
