"""What a run takes of its machine, in its record and its report."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cli.desk import Desk
from cli.tiny_model import write_tiny_model
from driver.runs import run, script
from record.filled import open_writer
from requirements import require
from tokenmill.cluster import Node
from tokenmill.driver.metering import is_here
from tokenmill.footprint import Curve, Footprint
from tokenmill.record.store import Record
from tokenmill.report.resources import Resources

FAST = "slots = 2\nper_token = 0.01\ntokens = 20\n"
#: 2 s an answer: long enough for a first sample.
SLOW = "slots = 2\nper_token = 0.05\ntokens = 40\n"


def resources(certificate: Any) -> Resources:
    assert certificate is not None
    assert certificate.resources is not None
    found: Resources = certificate.resources
    return found


def test_a_run_knows_what_it_took(tmp_path: Path) -> None:
    """Memory and processor time of the driver, and energy or the reason why there is none."""
    require("linux")

    found = resources(run(tmp_path, ["a", "b"], script(tmp_path, FAST)).certificate)

    (session,) = found.sessions
    (driver,) = session.processes
    assert driver.name == "driver"
    assert driver.peak_rss.value is not None
    assert driver.cpu_seconds.value is not None
    assert session.is_whole
    assert found.energy.value is not None or found.energy.reason
    assert found.idle_share.reason == "idle power was not measured before the run"


def test_the_text_and_the_json_hold_what_a_run_took(tmp_path: Path) -> None:
    """A section for people, and the same figures for programs, each with its definition."""
    desk = Desk(tmp_path)
    desk.write("script.toml", FAST)
    assert desk.call("run", "ok.txt", "--node", "scripted:script.toml", "--run-id", "a", "-q").code == 0

    text, facts = desk.call("report", "a").out, json.loads(desk.call("report", "a", "--json").out)

    assert "\nResources\n" in text
    assert "memory      driver: " in text
    assert "of the driver from the start of its process up to the end of the session" in " ".join(text.split())
    assert facts["resources"]["sessions"][0]["processes"][0]["peak_rss"]["value"] > 10 << 20


def test_the_peak_of_a_worker_is_what_time_says(tmp_path: Path) -> None:
    """`/usr/bin/time` of the whole run tells of its largest process, which is the worker: the same number."""
    require("linux")
    require("time")
    desk = Desk(tmp_path)
    write_tiny_model(tmp_path / "model")

    words = ("run", "ok.txt", "--model", "model", "--max-tokens", "4", "--run-id", "a", "-q")
    line = ["/usr/bin/time", "-v", "-o", "time", *desk.line(*words)]
    done = subprocess.run(line, cwd=tmp_path, env=desk.environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    said = next(line for line in (tmp_path / "time").read_text().splitlines() if "Maximum resident" in line)
    record = Record(desk.runs / "a" / "record.db")
    driver, worker = record.footprints()[0].processes
    record.close()
    assert worker.name.startswith("worker of ")
    assert worker.peak_rss == int(said.rsplit(" ", 1)[1]) * 1024
    assert driver.peak_rss is not None
    assert worker.peak_rss > driver.peak_rss


def until(found: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Looks again and again while the process runs."""
    while not found():
        try:
            code = process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"it ended with {code}")


def test_a_killed_session_keeps_its_samples_and_the_next_has_its_own(tmp_path: Path) -> None:
    """What was sampled until the kill is there, its peak isn't, and energy over both isn't told as if it were whole."""
    require("linux")
    desk = Desk(tmp_path)
    desk.write("script.toml", SLOW)
    words = ("run", "ok.txt", "--node", "scripted:script.toml", "--run-id", "a", "-q")
    path = desk.runs / "a" / "record.db"

    def sampled() -> bool:
        if not path.exists():
            return False
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return bool(connection.execute("SELECT count(*) FROM footprint").fetchone()[0])
        finally:
            connection.close()

    with subprocess.Popen(desk.line(*words), cwd=tmp_path, env=desk.environment) as process:
        until(sampled, process)
        process.send_signal(signal.SIGKILL)
    assert desk.call("resume", "a", "-q").code == 0

    found = json.loads(desk.call("report", "a", "--json").out)["resources"]
    killed, last = found["sessions"]
    assert (killed["is_whole"], last["is_whole"]) == (False, True)
    assert killed["samples"] >= 1
    peak = killed["processes"][0]["peak_rss"]
    assert peak["value"] is None
    assert peak["reason"].startswith("the session ended by force; at least ")
    assert last["processes"][0]["peak_rss"]["value"] > 0
    assert found["energy"]["value"] is None


def footprint(samples: int) -> Footprint:
    nothing = Curve(unit="", reason="not in this test")
    return Footprint(
        interval=1.0,
        start=0.0,
        times=(1.0,),
        samples=samples,
        is_whole=True,
        spent=0.0,
        lasted=1.0,
        cores=2,
        machine=nothing,
        load=nothing,
        processes=(),
        omitted=0,
        gpus=(),
        no_gpu="none",
        energy=(),
    )


def test_the_last_word_of_a_session_stands(tmp_path: Path) -> None:
    """Each footprint takes the place of the one before, and the last comes when the writer closes."""
    path = tmp_path / "record.db"
    record = Record.create(path)
    writer = open_writer(path)
    writer.put(("footprint", (0, msgspec.json.encode(footprint(1)))))
    writer.put(("footprint", (0, msgspec.json.encode(footprint(2)))))
    writer.close()

    assert record.footprints() == {0: footprint(2)}
    record.close()


def test_an_older_record_becomes_one_of_today(tmp_path: Path) -> None:
    """A run made before there were footprints can be read and gone on with; it has none."""
    path = tmp_path / "record.db"
    Record.create(path).close()
    connection = sqlite3.connect(path)
    later = "DROP TABLE footprint; DROP TABLE item; DROP TABLE score; DROP TABLE story; DROP INDEX request_parent;"
    connection.executescript(f"{later} PRAGMA user_version = 1;")
    connection.close()

    record = Record(path)

    assert record.footprints() == {}
    record.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


def test_only_this_machine_is_here() -> None:
    """Engines of our own and own addresses are here; other addresses, names and declared hosts aren't."""
    here = {
        Node(name="a", engine="local", target="model"): True,
        Node(name="b", engine="scripted", target=""): True,
        Node(name="c", engine="ollama", target="http://127.0.0.1:11434"): True,
        Node(name="d", engine="ollama", target="http://192.0.2.7:11434"): False,
        Node(name="e", engine="openai", target="https://api.example.com/v1"): False,
        Node(name="f", engine="ollama", target="http://127.0.0.1:11434", host="gpu-box"): False,
        Node(name="g", engine="ollama", target="http://127.0.0.1:11434", host="localhost"): True,
    }

    assert {node.name: is_here(node) for node in here} == {node.name: known for node, known in here.items()}
