"""The suite of quantization: what it measures is the command's work, and what it says follows from the readings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.place import Place
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.quantize import SUITE, QuantizeOptions
from tokenmill.bench.quantize_findings import Found
from tokenmill.bench.quantize_models import write_model
from tokenmill.bench.quantize_sizes import BATCH, COPIES, MOVE, NOTHING, STREAM, size_of
from tokenmill.bench.sweep import results_of
from tokenmill.bench.table import Row, rows_of
from tokenmill.errors import UsageError
from tokenmill.quant.target import read_model

TINY = "3x64x512"


def test_sizes_are_named_for_what_they_are() -> None:
    """The study's names keep its shapes, with their true counts; the true 7B has 6.74 billion less its norms."""
    counts = {name: size_of(name).weights for name in ("100M", "600M", "7B", "true-7B", TINY)}
    assert counts == {
        "100M": 104_857_600,
        "600M": 629_145_600,
        "7B": 3_355_443_200,
        "true-7B": 6_738_149_376,
        TINY: 98_304,
    }


@pytest.mark.parametrize("to", ["q4_0", "w4a16"])
def test_models_are_real_files_and_written_once(tmp_path: Path, to: str) -> None:
    """A GGUF file, or a folder with a safetensors file, of normal numbers in BF16; the second call leaves it alone."""
    size = size_of(TINY)
    place = write_model(size, to, tmp_path / "models")
    weights = read_model(place)
    before = weights.files[0].stat()

    assert [tensor.element for tensor in weights.tensors] == ["BF16"] * 3
    assert sum(tensor.count for tensor in weights.tensors) == size.weights
    tensor = weights.tensors[1]
    bits = np.fromfile(weights.files[0], np.uint16, tensor.count, offset=tensor.offset).astype(np.uint32)
    assert (bits << 16).view(np.float32).std() == pytest.approx(0.02, rel=0.05)
    assert write_model(size, to, tmp_path / "models") == place
    assert weights.files[0].stat() == before


# -- cells


def ways(options: QuantizeOptions) -> list[tuple[str, str]]:
    return [(cell.group, cell.title) for cell in SUITE.cells(options)]


def test_batch_is_measured_only_when_asked_for() -> None:
    """Beside each type stand the same files only moved, and the bytes copied in memory; idle processes come first."""
    plain = ways(QuantizeOptions(threads="1,2", sizes=TINY))

    assert plain == [
        (f"{TINY} q4_0, idle", NOTHING),
        (f"{TINY} q4_0", "stream, 1 thread"),
        (f"{TINY} q4_0", "stream, 2 threads"),
        (f"{TINY} q4_0, only moved", "moved, 1 thread"),
        (f"{TINY} q4_0, only moved", "moved, 2 threads"),
        (f"{TINY} q4_0, in memory", "memcpy, 1 thread"),
        (f"{TINY} q4_0, in memory", "memcpy, 2 threads"),
    ]
    more = ways(QuantizeOptions(threads="1,2", sizes=TINY, streaming=True))
    assert set(more) - set(plain) == {(f"{TINY} q4_0", "batch, 1 thread"), (f"{TINY} q4_0", "batch, 2 threads")}


def test_threads_beyond_the_cores_are_no_workers() -> None:
    """They are marked, and no target about so many workers can be met by them."""
    cells = SUITE.cells(QuantizeOptions(threads="1,2,8", sizes=TINY, found=Found(cores=2)))

    (eight,) = [
        cell for cell in cells if cell.factors == {"way": STREAM, "threads": 8, "note": "more than the 2 cores"}
    ]
    assert eight.workers == 2
    assert all("note" not in cell.factors for cell in cells if cell.factors.get("threads") in (1, 2))


def test_what_does_not_fit_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """A size without room is named with what it takes and what is free; without any size left it is an error."""
    options = QuantizeOptions(sizes=f"{TINY},99999x65536x1024", files=str(tmp_path))
    settled = SUITE.settled(options, tmp_path)

    assert {cell.group.split()[0] for cell in SUITE.cells(settled)} == {TINY}
    (said,) = [said for said in SUITE.findings(settled, []) if "n/a" in said]
    assert said.startswith("99999x65536x1024, stream: n/a, as it takes 21474.6 GB and ")
    with pytest.raises(UsageError, match="GB are free there"):
        SUITE.settled(QuantizeOptions(sizes="99999x65536x1024", files=str(tmp_path)), tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sizes": "100G"}, "--sizes: '100G' is unknown; known: 100M, "),
        ({"sizes": "2x2x100"}, "--sizes 2x2x100: rows of 100 weights; give a multiple of 256"),
        ({"sizes": ","}, "--sizes: an empty list"),
        ({"to": "q4_9"}, "--to: 'q4_9' is unknown; did you mean 'q4_k'?"),
        ({"threads": "0"}, "--threads: '0' is no whole number from 1"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, given: dict[str, str], said: str) -> None:
    """With the value and the way out, before anything is written."""
    with pytest.raises(UsageError) as refused:
        SUITE.settled(QuantizeOptions(**given), tmp_path)
    assert said in str(refused.value)
    assert not list(tmp_path.iterdir())


# -- findings


def reading(cell: Cell, seconds: float, memory: float) -> Reading:
    extra = {"work_cpu": 1.0, "read_rate": 1.0 / seconds} | ({"memory_over_idle": memory - 100e6} if memory else {})
    return Reading(
        cell=cell.key,
        repeat=0,
        seconds=seconds,
        requests=1,
        answered=1,
        output_tokens=98_304,
        peak_rss={"quantize": int(memory or 100e6)},
        extra=extra,
    )


def planted(times: dict[str, dict[int, float]], memory: dict[str, float]) -> list[Row]:
    """Rows with these seconds by way and threads."""
    cells = SUITE.cells(OPTIONS)
    made = []
    for cell in cells:
        way, threads = str(cell.factors["way"]), int(cell.factors.get("threads", 1))
        made.append(reading(cell, times.get(way, {}).get(threads, 1.0), memory.get(way, 0.0)))
    return rows_of(cells, made, SUITE.unit)


OPTIONS = QuantizeOptions(threads="1,2", sizes=TINY, streaming=True, found=Found(cores=2))
MEMORY = {STREAM: 103e6, BATCH: 1030e6}


def test_gains_from_threads_are_told() -> None:
    """Nearly twice as fast with two threads is scaling, and streaming is held against batch mode."""
    rows = planted({STREAM: {1: 2.0, 2: 1.05}, BATCH: {1: 4.0, 2: 2.1}, MOVE: {1: 0.5, 2: 0.3}}, MEMORY)
    said = SUITE.findings(OPTIONS, rows)

    assert any("2 threads are 1.90 times as fast as 1: it scales with threads" in each for each in said)
    assert any("streaming takes 3.0 MB beyond a process that does nothing, and 103 MB in all" in each for each in said)
    assert any("0.50 of the time and 10.0 % of the memory of batch mode (1030 MB)" in each for each in said)


def test_what_sets_the_pace_is_told() -> None:
    """Where moving the bytes takes most of the time, threads aren't blamed."""
    rows = planted({STREAM: {1: 1.0, 2: 0.9}, MOVE: {1: 0.85, 2: 0.8}}, MEMORY)
    (said,) = [each for each in SUITE.findings(OPTIONS, rows) if "times as fast" in each]

    assert said.endswith(
        "memory and the disk set the pace, not the processor; reading and writing alone take 89 % of its time"
    )


# -- the whole


def test_a_tiny_sweep_is_measured_and_shown(tmp_path: Path) -> None:
    """Every way is measured for real in its own process; error, memory over idle and targets are there."""
    place = Place(tmp_path)
    words = ["--sizes", TINY, "--threads", "1", "--to", "q4_0", "--repeats", "1", "--files", str(tmp_path / "models")]
    targets = [f"relative_rmse@{TINY}-q4_0/stream/1<10%", "speedup@8>=4", "memory_over_idle@1<64MB"]
    asked = [word for target in targets for word in ("--target", target)]

    ended = place.call("quantize", *words, *asked)

    assert ended.returncode == 0, ended.stderr
    assert f"{TINY} is 3 x (64, 512): 98,304 weights" in ended.stdout
    assert f"pass  {targets[0]}" in ended.stdout
    assert f"n/a   {targets[1]}: not measured" in ended.stdout
    assert f"pass  {targets[2]}" in ended.stdout
    rows = {str(row.cell.factors["way"]): row for row in results_of(place.sweep).rows}
    assert set(rows) == {NOTHING, STREAM, MOVE, COPIES}
    assert 0.05 < rows[STREAM].extra["relative_rmse"] < 0.12
    assert 18 < rows[STREAM].extra["sqnr"] < 26
    assert rows[STREAM].digests != ("",)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [f"random-{TINY}.gguf"]
    options = msgspec.convert(place.sweep.plan.options, QuantizeOptions)
    assert options.files == str(tmp_path / "models")
