"""A record where other hosts may see its files: one process has it to itself, and nothing needs shared memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from requirements import require
from tokenmill.record.place import shared_kind
from tokenmill.record.store import Record

SCRIPT = 'slots = 8\nseed = 3\nanswers = ["You said: {prompt}"]\nfirst_token = 0.002\n'
HOLD = """
import sys
from pathlib import Path
from tokenmill.record.store import Record
record = Record(Path(sys.argv[1]))
record.counts()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of which the kernel can't tell who else sees it."""
    require("bindfs")
    behind, folder = tmp_path / "behind", tmp_path / "shared"
    behind.mkdir()
    folder.mkdir()
    subprocess.run(["bindfs", str(behind), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def tokenmill(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tokenmill", *words], capture_output=True, text=True, timeout=120)


def test_file_systems_are_told_apart(shared: Path, tmp_path: Path) -> None:
    """One in user space may be anybody's; the machine's own disk is not."""
    assert shared_kind(shared) == "fuse"
    assert shared_kind(tmp_path) == ""


def test_a_run_is_whole_there(shared: Path) -> None:
    """A run answers, resumes and exports there, leaves no log or memory file, and its record moves to a local disk."""
    (shared / "input.txt").write_text("".join(f"say {row}\n" for row in range(300)))
    (shared / "script.toml").write_text(SCRIPT)
    where = ["--runs-dir", str(shared / "runs")]
    node = f"scripted:{shared / 'script.toml'}"
    output = shared / "out.jsonl"
    done = tokenmill(
        "run", str(shared / "input.txt"), "--node", node, "--run-id", "x", "-o", str(output), *where, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == 300
    assert len(output.read_text().splitlines()) == 300
    folder = shared / "runs" / "x"
    assert {path.name for path in folder.iterdir()} >= {"record.db", "manifest.json"}
    assert not [path.name for path in folder.iterdir() if path.name.endswith(("-wal", "-shm"))]
    assert tokenmill("resume", "x", *where).returncode == 0
    local = shared.parent / "local"
    local.mkdir()
    os.link(shared.parent / "behind" / "runs" / "x" / "record.db", local / "record.db")
    moved = Record(local / "record.db")
    assert moved.counts().answered == 300
    moved.close()


def test_one_process_at_a_time(shared: Path) -> None:
    """While one process has the record, another is told so in one line, and nothing is changed."""
    path = shared / "record.db"
    Record.create(path).close()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        looked = subprocess.run(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert "another process has it to itself" in looked.stderr
    finally:
        holder.communicate()
    record = Record(path)
    assert record.counts().rows == 0
    record.close()
