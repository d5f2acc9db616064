"""Models of random weights written byte by byte, and a target of the simplest kind: all tensors one after the other.

Nothing but floats is made of floats, so what should come out can be said without any encoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenmill.clock import MonotonicClock
from tokenmill.quant.crew import Progress
from tokenmill.quant.encodings import encoding
from tokenmill.quant.layout import PLAIN, Arrangement, Layout, Options, OutputFile, Place, Placed
from tokenmill.quant.quantize import Outcome, Plan, Settings, make_plan, quantize
from tokenmill.quant.source import read_weights
from tokenmill.quant.tensor import Weights

HEADER = b"RAWFILE!"
TWO = Settings(threads=2)
NAMES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}


def write_model(path: Path, tensors: dict[str, NDArray[np.generic]]) -> Path:
    """A safetensors file; arrays of uint16 are BF16."""
    entries, at = {}, 0
    for name, array in tensors.items():
        entries[name] = {
            "dtype": NAMES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(map(bytes, tensors.values())))
    return path


def random_floats(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def raw_layout(weights: Weights, name: str, arrangements: dict[str, Arrangement] | None = None) -> Layout:
    """One file with every tensor in one encoding."""
    placed, end = [], len(HEADER)
    made = encoding(name)
    for tensor in weights.tensors:
        arrangement = (arrangements or {}).get(tensor.name, PLAIN)
        rows, columns = tensor.rows, tensor.columns
        if arrangement.kind == "transposed" or (arrangement.kind == "heads" and rows == 1):
            rows, columns = columns, rows
        places = []
        for row_size in made.row_sizes(columns):
            places.append(Place(file=0, offset=end))
            end += rows * row_size
        placed.append(
            Placed(
                name=tensor.name,
                tensor=tensor,
                arrangement=arrangement,
                encoding=name,
                places=tuple(places),
                rows=rows,
                columns=columns,
            )
        )
    return Layout(is_folder=False, files=(OutputFile(name="", size=end, header=HEADER),), placed=tuple(placed))


def raw_plan(
    model: Path, out: Path, name: str, settings: Settings, arrangements: dict[str, Arrangement] | None = None
) -> Plan:
    weights = read_weights(model)
    return make_plan(weights, raw_layout(weights, name, arrangements), out, settings)


def make(
    model: Path,
    out: Path,
    name: str = "F16",
    settings: Settings = TWO,
    arrangements: dict[str, Arrangement] | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Quantizes with the raw target; `watch` is first called before anything is read."""
    return quantize(
        raw_plan(model, out, name, settings, arrangements),
        Options(to=name.lower()),
        settings,
        version="1",
        watch=watch,
        should_stop=should_stop,
        clock=MonotonicClock(),
    )
