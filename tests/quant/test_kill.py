"""Killed at any instant, the command leaves nothing under the final name, and typed again ends with the same bytes.

TOKENMILL_KILLS says how many instants of each kind are tried.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quant.random_llama import write_llama

KILLS = int(os.environ.get("TOKENMILL_KILLS", "6"))
#: Seconds after which a run hangs; far beyond what one takes.
PATIENCE = 120.0
#: The command, which waits for a line once all it needs is imported and compiled: kills hit its work, not its start.
CHILD = """
import sys
import numpy
import tokenmill.quant.quantize, tokenmill.quant.target, tokenmill.cli.quantize_table, tokenmill.cli.quantize_progress
from tokenmill.cli import main
from tokenmill.quant.encodings import encoding
for name in ("BF16", sys.argv[sys.argv.index("--to") + 1]):
    made = encoding(name)
    outputs = tuple(numpy.empty(size, numpy.uint8) for size in made.row_sizes(256))
    made.encode(numpy.zeros((1, 256), numpy.uint16), "BF16", outputs, made.scratch(256))
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


def finish(*words: str) -> float:
    """The command to its end; the seconds it took."""
    process = start(*words)
    begun = time.monotonic()
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told.decode()
    return time.monotonic() - begun


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


def remove(out: Path) -> None:
    """Removes an output, so that the next run is the first; a journal may be left of one that was whole."""
    shutil.rmtree(out) if out.is_dir() else out.unlink()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "model", hidden=768, inner=2048, layers=4, shards=2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("out.gguf", "q4_k"), ("out", "w4a16-g32")])
def test_any_instant_may_be_the_last(model: Path, tmp_path: Path, name: str, kind: str) -> None:
    """However often it is killed in a row, the output is there whole or not at all, and in the end byte-equal."""
    calm, out = tmp_path / f"calm-{name}", tmp_path / name
    finish(str(model), str(calm), "--to", kind)  # kernels are compiled now, if they weren't
    remove(calm)
    lasts = finish(str(model), str(calm), "--threads", "1", "--report", "--to", kind)
    expected = content_of(calm)
    source = random.Random(kind)
    tries = 0
    while tries < KILLS:
        words = (str(model), str(out), "--threads", str(source.choice((1, 2))), "--report", "--to", kind)
        was_killed = kill_after(source.uniform(0.0, lasts), *words)
        tries += was_killed
        if out.exists():
            assert content_of(out) == expected
            remove(out)
        elif source.random() < 0.3:
            finish(*words)
            assert content_of(out) == expected
            remove(out)
    assert tries == KILLS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Asked to stop, the command ends with 4 and the line that goes on; typed, it makes the bytes of a calm run."""
    calm, out = tmp_path / "calm.gguf", tmp_path / "out.gguf"
    finish(str(model), str(calm), "--to", "q4_k")
    process = start(str(model), str(out), "--threads", "1", "--report", "--to", "q4_k")
    while not out.with_name("out.gguf.partial").exists() and process.poll() is None:
        os.sched_yield()
    process.send_signal(number)
    _, told = process.communicate(timeout=PATIENCE)

    assert process.returncode == 4, told.decode()
    words = shlex.split(told.decode().partition("go on with: ")[2])
    assert words[:2] == ["tokenmill", "quantize"]
    assert not out.exists()
    finish(*words[2:])
    assert out.read_bytes() == calm.read_bytes()
