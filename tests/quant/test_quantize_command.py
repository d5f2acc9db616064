"""`tokenmill quantize` as people meet it: what it makes, what it says, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli.desk import Desk
from quant.random_llama import write_llama
from tokenmill.model.safetensors import read_header
from tokenmill.quant.gguf.reader import read_gguf


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    write_llama(tmp_path / "model")
    return made


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_makes_a_file(desk: Desk) -> None:
    """A GGUF file holds every tensor in its type, and the summary says what became of them."""
    ended = desk.call("quantize", "model", "small.gguf", "--to", "q8_0", "--report")

    assert ended.code == 0, ended.err
    types = {tensor.name: tensor.element for tensor in read_gguf(desk.folder / "small.gguf").weights.tensors}
    assert types["blk.0.ffn_down.weight"] == "Q8_0"
    assert types["blk.0.attn_norm.weight"] == "F32"
    for part in ("SQNR", "blk.1.ffn_up.weight", "Q8_0", "output: small.gguf"):
        assert part in ended.out
    assert not [name for name in names_in(desk.folder) if "partial" in name]


@pytest.mark.parametrize("shards", [1, 3])
def test_makes_a_folder(desk: Desk, shards: int) -> None:
    """A folder has the packed weights in as many files as before, a configuration that says so, and the tokenizer."""
    write_llama(desk.folder / "sharded", shards=shards)

    ended = desk.call("quantize", "sharded", "small", "--to", "w4a16-g32", "--json")

    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert {line["type"] for line in facts["types"]} == {"W4A16-G32", "BF16"}
    small = desk.folder / "small"
    held = {name for path in small.glob("*.safetensors") for name in read_header(path).tensors}
    assert {"model.layers.0.mlp.up_proj.weight_packed", "model.layers.1.mlp.up_proj.weight_scale"} <= held
    assert len(list(small.glob("*.safetensors"))) == shards
    assert {"config.json", "tokenizer.json"} <= names_in(small)
    assert "quantization_config" in json.loads((small / "config.json").read_text())


def test_one_model_twice_is_the_same(desk: Desk) -> None:
    """From the folder at once, or over a GGUF file of BF16: the weights are the same bytes."""
    for words in (
        ("model", "whole.gguf", "--to", "bf16", "--mode", "batch"),
        ("whole.gguf", "second.gguf", "--to", "q4_0", "--threads", "3"),
        ("model", "first.gguf", "--to", "q4_0", "--threads", "1"),
    ):
        assert desk.call("quantize", *words, "-q").code == 0

    first, second = (desk.folder / name for name in ("first.gguf", "second.gguf"))
    content = [
        {
            tensor.name: path.read_bytes()[tensor.offset : tensor.offset + tensor.size]
            for tensor in read_gguf(path).weights.tensors
        }
        for path in (first, second)
    ]
    assert content[0] == content[1]


def test_less_error_in_the_same_format(desk: Desk) -> None:
    """--scale mse lowers the error of every tensor that is quantized."""
    errors = []
    for scale in ("absmax", "mse"):
        ended = desk.call("quantize", "model", scale, "--to", "w4a16-g32", "--scale", scale, "--report", "--json")
        assert ended.code == 0, ended.err
        errors.append({each["name"]: each["rmse"] for each in json.loads(ended.out)["quality"]})
    assert errors[0].keys() == errors[1].keys()
    assert all(errors[1][name] < errors[0][name] for name in errors[0])


def test_keeps_what_it_is_told_to(desk: Desk) -> None:
    """--keep gives tensors another type."""
    ended = desk.call("quantize", "model", "a.gguf", "--to", "q4_0", "--keep", "*ffn_down*=f16", "-q")

    assert ended.code == 0, ended.err
    types = {tensor.name: tensor.element for tensor in read_gguf(desk.folder / "a.gguf").weights.tensors}
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q4_0"


def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    """--dry-run says types, sizes, memory and time, as text and as JSON, and leaves no trace."""
    before = names_in(desk.folder)

    shown = desk.call("quantize", "model", "a.gguf", "--to", "q8_0", "--dry-run")
    facts = json.loads(desk.call("quantize", "model", "a.gguf", "--to", "q8_0", "--dry-run", "--json").out)

    assert shown.code == 0
    for part in ("Q8_0", "reads", "writes", "memory", "time"):
        assert part in shown.out
    assert names_in(desk.folder) == before
    assert desk.call("quantize", "model", "a.gguf", "--to", "q8_0", "-q").code == 0
    assert facts["written"] == (desk.folder / "a.gguf").stat().st_size


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("model", "a.gguf"), ("--to", "q8_0")),
        (("model", "a.gguf", "--to", "q9"), ("'q9'", "known")),
        (("model", "a.gguf", "--to", "int2"), ("int2", "without calibration")),
        (("model", "a.gguf", "--to", "w4a16"), ("folder", ".gguf")),
        (("model", "a", "--to", "q4_0"), ("must end in .gguf",)),
        (("model", "a.gguf", "--to", "q4_0", "--scale", "mse"), ("--scale mse", "w4a16")),
        (("model", "a", "--to", "w4a16-g32", "--scale", "best"), ("'best'", "absmax or mse")),
        (("model", "a.gguf", "--to", "q4_0", "--keep", "x"), ("PATTERN=TYPE",)),
        (("model", "a.gguf", "--to", "q4_0", "--keep", "nothing*=f16"), ("nothing*",)),
        (("model", "no/a.gguf", "--to", "q4_0"), ("make it first",)),
        (("ok.txt", "a.gguf", "--to", "q4_0"), ("ok.txt", "neither a model folder")),
        (("absent", "a.gguf", "--to", "q4_0"), ("'absent'",)),
        (("model", "model", "--to", "w8a16"), ("the model itself",)),
        (("model", "ok.gguf", "--to", "q4_0"), ("exists", "--force")),
        (("model", "a.gguf", "--to", "q8_0", "--max-memory", "1M"), ("n/a", "--max-memory", "at least")),
        (("model", "a.gguf", "--to", "q8_0", "--mode", "batch", "--max-memory", "1M"), ("n/a", "--mode stream")),
    ],
)
def test_refuses_in_one_line(desk: Desk, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    """What can't be done is refused in one line with the value and the way out, and nothing is written."""
    desk.write("ok.gguf", "old")
    before = names_in(desk.folder)

    ended = desk.call("quantize", *words)

    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    for part in parts:
        assert part in ended.err
    assert names_in(desk.folder) == before
    assert desk.read("ok.gguf") == "old"


def test_replaces_only_with_force(desk: Desk) -> None:
    """--force takes the place of a file or a model folder, never of a folder that holds something else."""
    desk.write("a.gguf", "old")
    (desk.folder / "letters").mkdir()
    desk.write("letters/love.txt", "mine")
    assert desk.call("quantize", "model", "small", "--to", "w8a16", "-q").code == 0

    assert desk.call("quantize", "model", "a.gguf", "--to", "q4_0", "--force", "-q").code == 0
    assert desk.call("quantize", "model", "small", "--to", "w4a16-g32", "--force", "-q").code == 0
    assert "isn't a model" in desk.call("quantize", "model", "letters", "--to", "w8a16", "--force").err

    assert desk.read("letters/love.txt") == "mine"
    assert '"num_bits": 4' in desk.read("small/config.json")
    assert not [name for name in names_in(desk.folder) if "partial" in name or "replaced" in name]


def test_weights_that_are_no_numbers_are_refused(desk: Desk) -> None:
    """NaN is refused with its tensor and place, also in what is copied, and nothing is left."""
    for number, name in enumerate(("model.layers.1.mlp.up_proj.weight", "model.norm.weight")):
        folder = write_llama(desk.folder / f"bad-{number}")
        path = folder / "model.safetensors"
        header = read_header(path)
        stored, data = header.tensors[name], bytearray(path.read_bytes())
        at = 8 + len(header.raw) + stored.begin + 2 * 5
        data[at : at + 2] = np.uint16(0x7FC0).tobytes()
        path.write_bytes(data)
        for out, kind in (("a.gguf", "q8_0"), ("a", "w8a16")):
            ended = desk.call("quantize", folder.name, out, "--to", kind)
            assert ended.code == 2
            assert f"tensor {name!r} has a weight in row 0, column 5" in ended.err
            assert not [left for left in names_in(desk.folder) if left.startswith(f"{out}.") or left == out]


def test_two_at_once_are_one_too_many(desk: Desk) -> None:
    """While one process writes an output, another is refused."""
    from tokenmill.quant.journal import Journal

    journal = Journal.open(desk.folder / "a.gguf.partial.journal")
    try:
        ended = desk.process("quantize", "model", "a.gguf", "--to", "q8_0")
    finally:
        journal.close()
    assert ended.code == 2
    assert "another process" in ended.err
    assert desk.call("quantize", "model", "a.gguf", "--to", "q8_0", "-q").code == 0


def test_without_its_libraries_it_says_what_to_install(desk: Desk) -> None:
    """Where numpy is missing, the command says how to have it."""
    ended = desk.without("numpy", "quantize", "model", "a.gguf", "--to", "q8_0")
    assert ended.code == 2
    assert "pip install 'tokenmill[quant]'" in ended.err


def test_no_room_is_said_at_once(desk: Desk, tiny_disk: Path) -> None:
    """An output that won't fit on the disk is refused before anything is written."""
    write_llama(desk.folder / "larger", hidden=256, inner=1024, layers=3)
    out = tiny_disk / "a.gguf"
    ended = desk.call("quantize", "larger", str(out), "--to", "bf16")
    assert ended.code == 2
    assert "make room" in ended.err
    assert names_in(tiny_disk) == set()

    assert desk.call("quantize", "larger", str(out), "--to", "q8_0", "-q").code == 0


def test_loads_no_scipy(desk: Desk) -> None:
    """What numba would load for other functions costs neither memory nor time, and can be imported afterwards."""
    code = (
        "import sys; from tokenmill.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('numba' in sys.modules, 'scipy' in sys.modules); import scipy.linalg"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "quantize", "demo", "demo.gguf", "--to", "q8_0", "-q"],
        cwd=desk.folder,
        env=desk.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True False\n"
