"""Killed at any instant, the command leaves nothing under the final name, and typed again ends with the same bytes.

TOKENMILL_KILLS says how many instants of each kind are tried.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from quant.random_llama import write_llama

KILLS = int(os.environ.get("TOKENMILL_KILLS", "10"))
#: Seconds after which a run hangs; far beyond what one takes.
PATIENCE = 120.0
#: The command, which waits for a line once everything it needs is imported: kills hit its work, not Python's start.
CHILD = """
import sys
import tokenmill.quant.quantize, tokenmill.quant.target, tokenmill.cli.quantize_table, tokenmill.cli.quantize_progress
from tokenmill.cli import main
print("ready", flush=True)
sys.stdin.readline()
main()
"""


def start(*words: str) -> subprocess.Popen[bytes]:
    """The command, just about to begin."""
    line = [sys.executable, "-c", CHILD, "quantize", *words]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"\n")
    process.stdin.flush()
    return process


def finish(*words: str) -> None:
    process = start(*words)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told.decode()


def kill_after(seconds: float, *words: str) -> bool:
    """Whether the command was still at work when it was killed."""
    process = start(*words)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0
    return False


def content_of(place: Path) -> dict[str, bytes]:
    if place.is_file():
        return {"": place.read_bytes()}
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "model", hidden=768, inner=2048, layers=4, shards=2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("out.gguf", "q8_0"), ("out", "w4a16-g32")])
def test_any_instant_may_be_the_last(model: Path, tmp_path: Path, name: str, kind: str) -> None:
    """However often it is killed in a row, the output is there whole or not at all, and in the end byte-equal."""
    calm, out = tmp_path / f"calm-{name}", tmp_path / name
    finish(str(model), str(calm), "--to", kind, "--threads", "2")
    expected = content_of(calm)
    source = random.Random(kind)
    lasts, tries = 0.05, 0
    while tries < KILLS:
        words = (str(model), str(out), "--to", kind, "--threads", str(source.choice((1, 2))))
        was_killed = kill_after(source.uniform(0.0, lasts), *words)
        tries += was_killed
        if out.exists():
            assert content_of(out) == expected
            clear(out)
            lasts /= 1.1  # too late to hit its work often
        elif source.random() < 0.3:
            finish(*words)
            assert content_of(out) == expected
            clear(out)
            lasts *= 1.1
    assert tries == KILLS


def clear(out: Path) -> None:
    """Removes an output, so that the next run is the first; a journal may be left of one that was whole."""
    if out.is_dir():
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
    else:
        out.unlink()
