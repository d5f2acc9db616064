"""Twenty unequal nodes over real sockets: a calm run, and the same run with mixed faults.

A process of `tokenmill.testing` serves 20 nodes on loopback, the fastest ten times as fast as the slowest. The command
line answers the same prompts twice, first in peace, then with faults in one request of twenty: stalls, resets, streams
without an end, wrong lengths, refusals and errors, and one node that goes away and returns. Every answer comes in 8
pieces of content.

Targets: nothing lost or repeated, equal answers in both runs, client and server together below 70 % of the cores, CPU
time of the client under 1.5 ms a request, and a makespan of at most 1.1 times the bound of the surviving capacity: all
requests at every node's pace, with all slots taken, by nodes that are up, in slots that no fault holds. A stalled
answer holds its slot until a clock runs out, a broken one until it breaks; what the slot could have done meanwhile is
taken off the capacity, from the run's record. The ratio without that is printed beside it. Figures hold for the machine
they were taken on; the whole benchmark takes about 7 minutes.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tokenmill.event import NODE_KINDS
from tokenmill.record.store import Record
from tokenmill.testing import (
    AnyFault,
    Behaviour,
    Body,
    Change,
    Close,
    FaultServer,
    Reset,
    Silent,
    Status,
    Unfinished,
    WrongLength,
)

NODES = 20
SLOTS = 16
WORDS = 32
CHUNKS = 8
#: Part of all requests that meet with a fault.
FAULTY = 0.05
#: No clock between tokens is longer, seconds.
STALL = 2.0
#: The node that goes away, and for which part of the calm run.
AWAY = 7
AWAY_FROM, AWAY_FOR = 0.4, 0.1
SEED = 20261121
CORES = 2


@dataclass(frozen=True)
class Measured:
    """One run: wall seconds, and the CPU seconds of the client's process and of the servers'.

    `wasted`: requests that could have been answered in the slots that faults held.
    """

    wall: float
    client: float
    server: float
    exit_code: int
    output: Path
    errors: int
    faults: int
    refused: int
    wasted: float


def rates(requests_per_second: float) -> list[float]:
    """Tokens a second for each node's slots, from 1 to 10, so that all nodes together reach the pace."""
    shares = [1 + 9 * node / (NODES - 1) for node in range(NODES)]
    unit = requests_per_second * WORDS / (SLOTS * sum(shares))
    return [unit * share for share in shares]


def faults() -> tuple[AnyFault, ...]:
    """Eight kinds, drawn by prompt and attempt, so that a second attempt is drawn anew."""
    each = FAULTY / 8
    return (
        Silent(share=each),
        Reset(share=each, at="body", pieces=3),
        Reset(share=each, at="end"),
        Close(share=each, at="body", pieces=5),
        Unfinished(share=each),
        WrongLength(share=each, length="short"),
        Status(share=each, status=500, message="internal error"),
        Body(share=each, what="error"),
    )


def behaviours(paces: list[float], away: tuple[float, float] | None) -> list[Behaviour]:
    found = []
    for node, pace in enumerate(paces):
        changes: tuple[Change, ...] = ()
        if away is not None and node == AWAY:
            changes = (Change(at=away[0], down=True), Change(at=away[1], down=False))
        found.append(
            Behaviour(
                slots=SLOTS,
                rate=pace,
                least_words=WORDS,
                most_words=WORDS,
                chunks=CHUNKS,
                seed=SEED,
                fault=faults() if away is not None else (),
                change=changes,
            )
        )
    return found


def cpu_of(pid: int) -> float:
    """CPU seconds of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def play(folder: Path, name: str, source: Path, found: list[Behaviour]) -> Measured:
    """One run of the command line against fresh servers."""
    output = folder / f"{name}.jsonl"
    stall = {f"TOKENMILL_{clock}_TIMEOUT": str(STALL) for clock in ("GAP", "CONNECT")}
    # The first piece of the slowest node takes an eighth of its answer.
    first = STALL + WORDS / CHUNKS / min(behaviour.rate or 1.0 for behaviour in found)
    stall["TOKENMILL_FIRST_TOKEN_TIMEOUT"] = str(first)
    with FaultServer(*found) as server:
        nodes = [word for url in server.urls for word in ("--node", f"openai:{url}")]
        options = [
            "--slots",
            str(SLOTS),
            "--together",
            "yes",
            "--runs-dir",
            str(folder / name),
            "-o",
            str(output),
            "--quiet",
        ]
        command = [sys.executable, "-m", "tokenmill", "run", str(source), *nodes, *options]
        before, began = cpu_of(server.pid), time.monotonic()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, env=os.environ | stall, check=False)
        wall = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        states = [server.state(node) for node in range(NODES)]
        return Measured(
            wall=wall,
            client=after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime,
            server=cpu_of(server.pid) - before,
            exit_code=done.returncode,
            output=output,
            errors=len(output.with_suffix(".errors.jsonl").read_text().splitlines())
            if output.with_suffix(".errors.jsonl").exists()
            else 0,
            faults=sum(state.faulted for state in states),
            refused=sum(state.refused for state in states),
            wasted=wasted(folder / name, [behaviour.rate or 0.0 for behaviour in found]),
        )


def wasted(runs: Path, paces: list[float]) -> float:
    """Requests' worth of slot time that went into attempts which a fault ended."""
    (path,) = runs.glob("*/record.db")
    record = Record(path)
    try:
        return sum(
            (attempt.finished - attempt.dispatched) * paces[attempt.node] / WORDS
            for attempt in record.attempts()
            if attempt.outcome == "failed" and attempt.kind not in NODE_KINDS
        )
    finally:
        record.close()


def texts(path: Path) -> dict[str, str]:
    """A digest of each row's answer by its id; an id that stands twice is counted under another name."""
    found: dict[str, str] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            text = json.dumps((row["response"] or {}).get("body", {}).get("choices"))
            key = row["custom_id"] if row["custom_id"] not in found else f"repeated {row['custom_id']}"
            found[key] = hashlib.sha256(text.encode()).hexdigest()
    return found


def judge(rows: int, pace: float, calm: Measured, hurt: Measured, away: float) -> dict[str, tuple[float, str, bool]]:
    """Each figure with its target and whether it holds."""
    shares = [1 + 9 * node / (NODES - 1) for node in range(NODES)]
    lost_capacity = away * pace * shares[AWAY] / sum(shares)
    plain = (rows + lost_capacity) / pace
    bound = plain + hurt.wasted / pace
    ours, theirs = texts(hurt.output), texts(calm.output)
    busy = (hurt.client + hurt.server) / (CORES * hurt.wall)
    repeated = sum(key.startswith("repeated") for key in ours)
    return {
        "lost": (rows - len(ours) + repeated + hurt.errors, "0", len(ours) == rows and not hurt.errors),
        "repeated": (repeated, "0", not repeated),
        "answers that differ from the calm run": (
            sum(ours.get(key) != text for key, text in theirs.items()),
            "0",
            ours == theirs,
        ),
        "makespan over the bound": (hurt.wall / bound, "at most 1.1", hurt.wall <= 1.1 * bound),
        "makespan over the bound, slots held by faults included": (hurt.wall / plain, "no target", True),
        "calm makespan over its bound": (calm.wall * pace / rows, "no target", True),
        "client ms of CPU a request": (hurt.client / rows * 1e3, "under 1.5", hurt.client / rows < 1.5e-3),
        "share of the cores used": (busy, "below 0.7", busy < 0.7),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pace", type=float, default=500.0, help="requests a second that all nodes reach together")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args()
    paces = rates(given.pace)
    with tempfile.TemporaryDirectory(prefix="tokenmill-fleet-") as temporary:
        folder = Path(temporary)
        source = folder / "rows.jsonl"
        lines = (json.dumps({"custom_id": f"id-{n}", "prompt": f"Say {n} in words."}) for n in range(given.rows))
        source.write_text("\n".join(lines) + "\n")
        calm = play(folder, "calm", source, behaviours(paces, None))
        start = AWAY_FROM * calm.wall
        hurt = play(folder, "hurt", source, behaviours(paces, (start, start + AWAY_FOR * calm.wall)))
        verdicts = judge(given.rows, given.pace, calm, hurt, AWAY_FOR * calm.wall)
    if given.json:
        runs = {"calm": calm.__dict__ | {"output": ""}, "hurt": hurt.__dict__ | {"output": ""}}
        print(msgspec.json.format(msgspec.json.encode({"verdicts": verdicts, "runs": runs})).decode())
    else:
        facts = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        print(f"{given.rows} requests, {NODES} nodes; {facts}; {datetime.datetime.now(datetime.UTC).date()}")
        for name, one in (("calm", calm), ("with faults", hurt)):
            print(
                f"  {name}: {one.wall:.1f} s, client {one.client:.1f} s, servers {one.server:.1f} s of CPU; "
                f"{one.faults} faults, {one.refused} refused, exit {one.exit_code}"
            )
        for what, (value, target, holds) in verdicts.items():
            print(f"  {'pass' if holds else 'fail'}  {what}: {value:.4g} ({target})")
    if not all(holds for _, _, holds in verdicts.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
