"""Streaming writes the bytes that were planned, however many threads do it and however often it is interrupted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant.raw import HEADER, TWO, make, random_floats, raw_layout, raw_plan, write_model
from requirements import require
from tokenmill.clock import MonotonicClock
from tokenmill.errors import UsageError
from tokenmill.model.files import BadModel
from tokenmill.quant.chunks import INPUT_LIMIT, WHOLE_LIMIT
from tokenmill.quant.files import DiskFault
from tokenmill.quant.layout import TRANSPOSED, Options, permuted
from tokenmill.quant.quantize import Interrupted, Settings, make_plan, quantize
from tokenmill.quant.tensor import Tensor, Weights

ARRANGED = {"query": permuted(4), "bias": permuted(4), "linear": TRANSPOSED}


def some_tensors() -> dict[str, NDArray[np.float32]]:
    """A few millions of weights: many chunks, one of them of a single wide row."""
    return {
        "table": random_floats(1, 900, 777),
        "query": random_floats(2, 64, 1000),
        "bias": random_floats(3, 64),
        "linear": random_floats(4, 300, 500),
        "wide": random_floats(5, 2, 1_000_003),
    }


def permute(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """As the converters of ggml write it."""
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def expected_of(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    arranged = tensors | {
        "query": permute(tensors["query"], 4),
        "bias": permute(tensors["bias"], 4),
        "linear": np.ascontiguousarray(tensors["linear"].T),
    }
    return HEADER + b"".join(array.astype(np.float16).tobytes() for array in arranged.values())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.safetensors", some_tensors())


@pytest.fixture(scope="module")
def expected() -> bytes:
    return expected_of(some_tensors())


@pytest.mark.parametrize("mode", ["stream", "batch"])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_modes_write_the_same(
    model: Path, expected: bytes, tmp_path: Path, mode: str, threads: int
) -> None:
    """Whatever the mode and the number of threads, the output is what NumPy makes of the arranged tensors."""
    outcome = make(model, tmp_path / "out", "F16", Settings(threads=threads, mode=mode), ARRANGED)

    assert (tmp_path / "out").read_bytes() == expected
    assert names_in(tmp_path) == ["out"]
    assert (outcome.read, outcome.written) == (model.stat().st_size - outcome_header(model), len(expected))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def outcome_header(model: Path) -> int:
    with model.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


@settings(max_examples=40, deadline=None)
@given(
    heads=st.integers(1, 5),
    half=st.integers(1, 40),
    columns=st.integers(1, 3000),
    transposed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape_is_arranged(
    tmp_path_factory: pytest.TempPathFactory, heads: int, half: int, columns: int, transposed: bool, seed: int
) -> None:
    """Rows of heads and transposed tensors of any shape come out in their new order, each element once."""
    folder = tmp_path_factory.mktemp("shape")
    array = random_floats(seed, 2 * heads * half, columns)
    model = write_model(folder / "model.safetensors", {"x": array})

    make(model, folder / "out", "F32", TWO, {"x": TRANSPOSED if transposed else permuted(heads)})

    arranged = np.ascontiguousarray(array.T) if transposed else permute(array, heads)
    assert (folder / "out").read_bytes() == HEADER + arranged.tobytes()


def test_chunks_are_small_and_cover_everything_once(model: Path, tmp_path: Path) -> None:
    """Chunks of one tensor follow each other without gap, and none takes more memory than a thread may."""
    chunks = raw_plan(model, tmp_path / "out", "F32", TWO, ARRANGED).chunks
    assert sum(chunks.buffer_sizes) <= WHOLE_LIMIT
    assert chunks.count > 20
    ends: dict[str, int] = {}
    for chunk in chunks:
        assert chunk.begin == ends.get(chunk.part.placed.name, 0)
        assert 0 < chunk.input_size <= INPUT_LIMIT
        ends[chunk.part.placed.name] = chunk.end
    assert ends == {part.placed.name: part.rows for part in chunks.parts}


def test_goes_on_where_it_was_stopped(model: Path, expected: bytes, tmp_path: Path) -> None:
    """A run that is asked to stop keeps what it has done; the next does only the rest, and the bytes are the same."""
    with pytest.raises(Interrupted, match=r"interrupted at \d+ %"):
        make(model, tmp_path / "out", "F16", Settings(threads=1), ARRANGED, should_stop=lambda: True)
    assert not (tmp_path / "out").exists()

    make(model, tmp_path / "out", "F16", TWO, ARRANGED)

    assert (tmp_path / "out").read_bytes() == expected
    assert names_in(tmp_path) == ["out"]


def test_another_way_of_making_it_is_no_reason_to_throw_work_away(model: Path, expected: bytes, tmp_path: Path) -> None:
    """A partial output that was begun with other options is refused by what differs; --force starts over."""
    with pytest.raises(Interrupted):
        make(model, tmp_path / "out", "BF16", TWO, ARRANGED, should_stop=lambda: True)

    with pytest.raises(UsageError, match="other options"):
        make(model, tmp_path / "out", "F16", TWO, ARRANGED)
    make(model, tmp_path / "out", "F16", Settings(force=True), ARRANGED)

    assert (tmp_path / "out").read_bytes() == expected


def test_changed_inputs_are_noticed(tmp_path: Path) -> None:
    """A partial output isn't gone on with once a model file has another time."""
    model = write_model(tmp_path / "model.safetensors", some_tensors())
    with pytest.raises(Interrupted):
        make(model, tmp_path / "out", "F16", TWO, should_stop=lambda: True)
    os.utime(model, (1, 1))

    with pytest.raises(UsageError, match="input files were others"):
        make(model, tmp_path / "out", "F16", TWO)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e9])
def test_no_number_is_refused_with_its_place(tmp_path: Path, number: float) -> None:
    """NaN, infinity and what the type can't hold are refused with the place in the source, and nothing is left."""
    for name, arrangement in (("plain", {}), ("query", {"x": permuted(3)}), ("linear", {"x": TRANSPOSED})):
        array = random_floats(1, 12, 400)
        array[7, 250] = number
        model = write_model(tmp_path / f"{name}.safetensors", {"x": array})

        with pytest.raises(BadModel, match=r"'x' has a weight in row 7, column 250"):
            make(model, tmp_path / "out", "F16", TWO, arrangement)

        assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_the_row_of_a_piece_is_that_of_the_tensor(tmp_path: Path) -> None:
    """Where a row is so wide that it is done in pieces, the place named is still that in the tensor."""
    array = random_floats(1, 3, 1_000_000)
    array[2, 654_321] = np.nan
    model = write_model(tmp_path / "model.safetensors", {"x": array})

    with pytest.raises(BadModel, match="row 2, column 654321"):
        make(model, tmp_path / "out", "F16")


def test_a_file_that_shrinks_is_gone_on_with_when_it_is_whole(tmp_path: Path) -> None:
    """A model file that becomes shorter stops the run; put back as it was, only the rest is done."""
    tensors = some_tensors()
    model = write_model(tmp_path / "model.safetensors", tensors)
    content, stat = model.read_bytes(), model.stat()

    with pytest.raises(DiskFault, match="it became shorter"):
        make(model, tmp_path / "out", watch=lambda _: os.truncate(model, len(content) // 2))
    assert not (tmp_path / "out").exists()
    model.write_bytes(content)
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    outcome = make(model, tmp_path / "out")

    assert 0 < outcome.earlier < outcome.read
    written = b"".join(array.astype(np.float16).tobytes() for array in tensors.values())
    assert (tmp_path / "out").read_bytes() == HEADER + written


def test_a_disk_that_fills_up_is_gone_on_with(tmp_path: Path, tiny_disk: Path) -> None:
    """No more room stops the run and keeps what is done; with room again only the rest is done."""
    array = random_floats(1, 1500, 1000)
    model = write_model(tmp_path / "model.safetensors", {"x": array})
    ballast = tiny_disk / "ballast"

    with pytest.raises(DiskFault, match="the disk is full; make room"):
        make(model, tiny_disk / "out", watch=lambda _: ballast.exists() or ballast.write_bytes(bytes(2 << 20)))
    assert names_in(tiny_disk) == ["ballast", "out.partial", "out.partial.journal"]
    ballast.unlink()
    outcome = make(model, tiny_disk / "out")

    assert 0 < outcome.earlier < outcome.read
    assert (tiny_disk / "out").read_bytes() == HEADER + array.astype(np.float16).tobytes()
    assert names_in(tiny_disk) == ["out"]


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    """What was made from a file that somebody wrote to meanwhile is thrown away."""
    model = write_model(tmp_path / "model.safetensors", some_tensors())

    with pytest.raises(BadModel, match="changed while it was read"):
        make(model, tmp_path / "out", watch=lambda _: os.utime(model, (1, 1)))

    assert names_in(tmp_path) == ["model.safetensors"]


def test_a_read_error_keeps_what_is_done(tmp_path: Path) -> None:
    """An input that the system can't read stops the run with the tensor and the reason; nothing gets the final name."""
    require("linux")
    hole = Path("/proc/self/mem")  # reading where no memory is gives a real EIO
    tensor = Tensor(name="x", element="F32", shape=(4, 8), file=0, offset=0, size=128)
    weights = Weights(files=(hole,), tensors=(tensor,))
    plan = make_plan(weights, raw_layout(weights, "F16"), tmp_path / "out", TWO)

    with pytest.raises(DiskFault, match=r"tensor 'x' can't be read \(Input/output error\)"):
        quantize(
            plan,
            Options(to="f16"),
            TWO,
            version="1",
            watch=lambda _: None,
            should_stop=lambda: False,
            clock=MonotonicClock(),
        )

    assert names_in(tmp_path) == ["out.partial", "out.partial.journal"]


def test_the_report_says_what_was_lost(tmp_path: Path) -> None:
    """The figures of a tensor are those that NumPy gives for the numbers in the file, also over an interruption."""
    array = random_floats(1, 3000, 300)
    model = write_model(tmp_path / "model.safetensors", {"x": array})
    reporting = Settings(threads=2, report=True)
    with pytest.raises(Interrupted):
        make(model, tmp_path / "out", "BF16", reporting, should_stop=lambda: True)

    quality = make(model, tmp_path / "out", "BF16", reporting).quality

    written = np.frombuffer((tmp_path / "out").read_bytes()[len(HEADER) :], np.uint16)
    now = (written.astype(np.uint32) << 16).view(np.float32).reshape(array.shape).astype(np.float64)
    error = now - array
    assert quality is not None
    assert quality[0].count == array.size
    assert quality[0].rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert quality[0].largest == pytest.approx(np.abs(error).max())
    assert quality[0].sqnr == pytest.approx(10 * np.log10((array.astype(np.float64) ** 2).sum() / (error**2).sum()))
    assert quality[0].cosine == pytest.approx(1.0, abs=1e-4)
