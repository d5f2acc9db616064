"""A million scripted requests: memory, CPU time per request, order, and how soon a killed run sends again.

Targets: peak memory under 400 MB, CPU under 300 microseconds a request end to end, output in input order, and after a
kill at half the first new dispatch within 10 s of the start of `resume`. The scripted engine answers at once, so all
that is measured is tokenmill itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKENMILL = [sys.executable, "-m", "tokenmill"]


def make_input(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            file.write(json.dumps({"custom_id": f"id-{row}", "prompt": f"Say something about number {row}"}) + "\n")


def command(verb: str, *rest: str, runs: Path) -> list[str]:
    return [*TOKENMILL, verb, *rest, "--runs-dir", str(runs), "--quiet"]


def is_in_order(path: Path, rows: int) -> bool:
    with path.open(encoding="utf-8") as file:
        return all(json.loads(line)["custom_id"] == f"id-{row}" for row, line in zip(range(rows), file, strict=True))


def measure_calm(folder: Path, source: Path, rows: int) -> dict[str, float]:
    """One whole run: wall and CPU seconds, peak memory in MB, and whether the order held."""
    output = folder / "answers.jsonl"
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    args = command("run", str(source), "--node", "scripted:", "-o", str(output), runs=folder / "runs")
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_s": time.monotonic() - started,
        "cpu_us_per_request": cpu / rows * 1e6,
        "peak_mb": after.ru_maxrss / 1024,
        "in_order": float(is_in_order(output, rows)),
    }


def answered(record: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{record}?mode=ro", uri=True, timeout=10)
        try:
            return int(connection.execute("SELECT count(*) FROM answer").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return 0


def sessions_with_dispatches(record: Path) -> int:
    connection = sqlite3.connect(f"file:{record}?mode=ro", uri=True, timeout=10)
    try:
        row = connection.execute("SELECT session FROM attempt ORDER BY id DESC LIMIT 1").fetchone()
        return int(row[0]) + 1 if row else 0
    finally:
        connection.close()


def measure_resume(folder: Path, source: Path, rows: int) -> dict[str, float]:
    """Kills a run at half and measures the seconds from the start of `resume` to its first dispatch."""
    record = folder / "runs" / "half" / "record.db"
    args = command("run", str(source), "--node", "scripted:", "--run-id", "half", runs=folder / "runs")
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL)
    while answered(record) < rows // 2:
        time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = time.monotonic()
    process = subprocess.Popen(command("resume", "half", runs=folder / "runs"), stdout=subprocess.DEVNULL)
    while sessions_with_dispatches(record) < 2:
        time.sleep(0.02)
    first = time.monotonic() - started
    code = process.wait()
    return {"resume_first_dispatch_s": first, "resume_exit_code": float(code), "resume_answered": answered(record)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokenmill-million-") as name:
        folder = Path(name)
        source = folder / "input.jsonl"
        make_input(source, chosen.rows)
        figures = measure_calm(folder, source, chosen.rows) | measure_resume(folder, source, chosen.rows)
    targets = {
        "peak memory under 400 MB": figures["peak_mb"] < 400,
        "CPU under 300 us a request": figures["cpu_us_per_request"] < 300,
        "output in input order": figures["in_order"] == 1,
        "resume sends within 10 s": figures["resume_first_dispatch_s"] < 10,
        "resume answers all": figures["resume_answered"] == chosen.rows and figures["resume_exit_code"] == 0,
    }
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(f"{chosen.rows} scripted requests; {machine}; load {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}")
    for name, value in figures.items():
        print(f"  {name:24} {value:.4g}")
    for name, is_met in targets.items():
        print(f"  {'pass' if is_met else 'FAIL'}  {name}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": machine, "figures": figures, "targets": targets}, indent=2))
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
