"""Models of random weights for measurements of quantization: real files, written once and used again.

A type of GGUF files is measured on a GGUF file of BF16, one of compressed-tensors on a folder with a safetensors file,
as these are what its users have. The weights are normal numbers, always the same ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from tokenmill.bench.quantize_sizes import Matrix, Size
from tokenmill.quant.compressed.header import Entry as FolderEntry
from tokenmill.quant.compressed.header import plan_file as plan_folder_file
from tokenmill.quant.compressed.scheme import SCHEMES
from tokenmill.quant.gguf import writer
from tokenmill.quant.gguf.value import Value, float32, text, uint32
from tokenmill.record.atomic import whole_file

SEED = 20
#: About that of trained matrices.
SPREAD = np.float32(0.02)
#: Weights made at a time.
PIECE = 1 << 22
LOWEST_BITS = 16


def is_folder_type(to: str) -> bool:
    return to.upper() in SCHEMES


def place_of(size: Size, to: str, files: Path) -> Path:
    """Where the model is that is quantized to `to`: a GGUF file, or a folder."""
    return files / f"random-{size.name}" if is_folder_type(to) else files / f"random-{size.name}.gguf"


def write_model(size: Size, to: str, files: Path) -> Path:
    """Writes the model unless it is there; it appears whole or not at all."""
    place = place_of(size, to, files)
    if place.exists():
        return place
    files.mkdir(parents=True, exist_ok=True)
    if not is_folder_type(to):
        with whole_file(place) as file:
            _write_gguf(size, file)
        return place
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    (part / "config.json").write_text(json.dumps({"model_type": "llama", "torch_dtype": "bfloat16"}), encoding="utf-8")
    with (part / "model.safetensors").open("wb") as file:
        _write_safetensors(size, file)
    part.rename(place)
    return place


def _write_gguf(size: Size, file: IO[bytes]) -> None:
    entries = [
        writer.Entry(name=matrix.name, kind="BF16", shape=(matrix.rows, matrix.columns)) for matrix in size.matrices
    ]
    planned = writer.plan_file(_metadata(size), entries)
    file.write(planned.header)
    for number, (matrix, offset) in enumerate(zip(size.matrices, planned.offsets, strict=True)):
        file.write(bytes(offset - file.tell()))
        _write_weights(number, matrix, file)
    file.write(bytes(planned.size - file.tell()))


def _metadata(size: Size) -> dict[str, Value]:
    """What readers ask before they look at tensors."""
    widest = max(matrix.columns for matrix in size.matrices)
    return {
        "general.architecture": text("llama"),
        "general.name": text(f"random {size.name}"),
        "general.file_type": uint32(32),
        "llama.block_count": uint32(size.layers),
        "llama.context_length": uint32(2048),
        "llama.embedding_length": uint32(widest),
        "llama.feed_forward_length": uint32(widest),
        "llama.attention.head_count": uint32(32),
        "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
    }


def _write_safetensors(size: Size, file: IO[bytes]) -> None:
    entries = [
        FolderEntry(name=matrix.long_name, dtype="BF16", shape=(matrix.rows, matrix.columns))
        for matrix in size.matrices
    ]
    header, begins, _ = plan_folder_file(entries)
    file.write(header)
    for number, matrix in sorted(enumerate(size.matrices), key=lambda each: begins[each[1].long_name]):
        file.write(bytes(begins[matrix.long_name] - file.tell()))
        _write_weights(number, matrix, file)


def _write_weights(number: int, matrix: Matrix, file: IO[bytes]) -> None:
    for piece in _pieces(number, matrix.rows * matrix.columns):
        file.write(piece)


def _pieces(number: int, count: int) -> Iterator[memoryview]:
    source = np.random.default_rng([SEED, number])
    while count:
        made = source.standard_normal(min(count, PIECE), dtype=np.float32)
        made *= SPREAD
        count -= len(made)
        yield (made.view(np.uint32) >> LOWEST_BITS).astype(np.uint16).data.cast("B")
