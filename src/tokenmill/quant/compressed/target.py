"""A model folder becomes a folder of compressed-tensors: what each tensor turns into, and where it will stand.

The files keep their names and each tensor its file, so a sharded model stays sharded alike. A quantized `X.weight`
becomes `X.weight_packed`, `X.weight_scale` and `X.weight_shape`; all else is copied as it is stored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.model.config import find_family, read_raw_config
from tokenmill.model.files import BadModel
from tokenmill.quant.compressed.beside import small_files
from tokenmill.quant.compressed.header import Entry, plan_file
from tokenmill.quant.compressed.modules import HEAD, SCALE, SHAPE, is_linear, kept_types, module_of, with_mates
from tokenmill.quant.compressed.scheme import SCHEMES, describe
from tokenmill.quant.encoding import Encoding
from tokenmill.quant.encodings import encoding, scaled
from tokenmill.quant.layout import COPY, Layout, Literal, Options, OutputFile, Place, Placed
from tokenmill.quant.tensor import ELEMENTS, Tensor, Weights

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Becoming(Struct, frozen=True, kw_only=True):
    """What a tensor turns into: the encoding and the tensors that it writes, and the shape where that is stored too."""

    source: Tensor
    encoding: str
    written: tuple[Entry, ...]
    shape: Entry | None = None


def plan(weights: Weights, folder: Path, options: Options) -> Layout:
    """The folder that `options` ask for, of the model in `folder` with these `weights`."""
    config, path = read_raw_config(folder)
    _check(config, path, weights, options)
    chosen = encoding(scaled(options.to, options.scale))
    kept = kept_types(weights.tensors, options.keep)
    ignored, notes = _ignored(weights.tensors, chosen, kept)
    becomings = [_become(tensor, chosen, kept, ignored) for tensor in weights.tensors]
    files, begins = _files(weights, becomings)
    described = describe(SCHEMES[options.to.upper()], sorted({HEAD, *ignored}))
    return Layout(
        is_folder=True,
        files=files,
        placed=tuple(_placed(one, begins) for one in becomings),
        literals=tuple(_literal(one, begins) for one in becomings if one.shape is not None),
        small_files=small_files(folder, dict(config) | {"quantization_config": described}, _index(weights, becomings)),
        notes=notes,
    )


def _check(config: Mapping[str, object], path: Path, weights: Weights, options: Options) -> None:
    if options.to.upper() not in SCHEMES:
        raise UsageError(f"--to {options.to!r} isn't of compressed-tensors; known: {', '.join(SCHEMES).lower()}")
    if find_family(config, path) == "gpt2":
        raise BadModel(
            f"{path}: the matrices of GPT-2 are of the class Conv1D, which compressed-tensors doesn't quantize; "
            "write a GGUF file instead, such as --to q8_0"
        )
    for tensor in weights.tensors:
        if is_linear(tensor) and tensor.element not in ELEMENTS:
            raise BadModel(
                f"{weights.files[tensor.file]}: tensor {tensor.name!r} has type {tensor.element}, and only "
                f"{', '.join(ELEMENTS)} can be quantized; take the model's original weights"
            )


def _ignored(
    tensors: Sequence[Tensor], chosen: Encoding, kept: Mapping[str, str]
) -> tuple[frozenset[str], tuple[str, ...]]:
    """The linears that stay as they are, and why those do that nobody named."""
    linears = {module_of(tensor): tensor for tensor in tensors if is_linear(tensor)}
    named = {module for module, tensor in linears.items() if tensor.name in kept}
    odd = {module for module, tensor in linears.items() if tensor.columns % chosen.group}
    ignored = frozenset(with_mates(named | odd) & linears.keys())
    if not linears.keys() - ignored:
        raise UsageError(f"--to {chosen.name.lower()} would quantize nothing: no linear of this model is left for it")
    notes = [
        *_odd_notes(sorted(odd - named), linears, chosen),
        *_mate_notes(sorted(ignored - named - odd), named | odd),
    ]
    return ignored, tuple(notes)


def _odd_notes(modules: Sequence[str], linears: Mapping[str, Tensor], chosen: Encoding) -> list[str]:
    """One note for each width that fits no group."""
    widths = sorted({linears[module].columns for module in modules})
    by_width = [(width, [module for module in modules if linears[module].columns == width]) for width in widths]
    return [
        f"{_named(found)} kept: rows of {width} weights are no multiple of {chosen.group}" for width, found in by_width
    ]


def _mate_notes(modules: Sequence[str], causes: Collection[str]) -> list[str]:
    if not modules:
        return []
    mates = sorted(with_mates(modules[:1]) & set(causes))
    return [f"{_named(modules)} kept, as engines join such a module with one that is: {modules[0]} with {mates[0]}"]


def _named(modules: Sequence[str]) -> str:
    return f"{modules[0]} is" if len(modules) == 1 else f"{len(modules)} modules, such as {modules[0]}, are"


def _become(tensor: Tensor, chosen: Encoding, kept: Mapping[str, str], ignored: frozenset[str]) -> Becoming:
    module = module_of(tensor)
    if is_linear(tensor) and module not in ignored:
        entries = [
            _part(tensor, f"{module}.{output}", output, size)
            for output, size in zip(chosen.outputs, chosen.row_sizes(tensor.columns), strict=True)
        ]
        shape = Entry(name=f"{module}.{SHAPE}", dtype="I64", shape=(2,))
        return Becoming(source=tensor, encoding=chosen.name, written=tuple(entries), shape=shape)
    element = kept.get(tensor.name, tensor.element)
    if element != tensor.element and tensor.element not in ELEMENTS:
        raise UsageError(f"--keep: tensor {tensor.name!r} has type {tensor.element}, which can't become {element}")
    same = Entry(name=tensor.name, dtype=element, shape=tensor.shape)
    return Becoming(source=tensor, encoding=COPY if element == tensor.element else element, written=(same,))


def _part(tensor: Tensor, name: str, output: str, size: int) -> Entry:
    """One output of a quantized matrix; scales are of BF16, words of 32 bits."""
    dtype, width = ("BF16", 2) if output == SCALE else ("I32", 4)
    return Entry(name=name, dtype=dtype, shape=(tensor.rows, size // width))


def _files(weights: Weights, becomings: Sequence[Becoming]) -> tuple[tuple[OutputFile, ...], dict[str, Place]]:
    """The weight files, and the place of every tensor in them by its name."""
    files: list[OutputFile] = []
    places: dict[str, Place] = {}
    for number, path in enumerate(weights.files):
        entries = [entry for one in becomings if one.source.file == number for entry in _entries(one)]
        header, begins, size = plan_file(entries)
        repeated = sorted(places.keys() & begins.keys())
        if repeated or len(begins) < len(entries):
            raise BadModel(f"{path}: tensor {(repeated or ['?'])[0]!r} would be there twice; download the model again")
        places |= {name: Place(file=number, offset=begin) for name, begin in begins.items()}
        files.append(OutputFile(name=SINGLE if len(weights.files) == 1 else path.name, size=size, header=header))
    return tuple(files), places


def _entries(one: Becoming) -> tuple[Entry, ...]:
    return one.written if one.shape is None else (*one.written, one.shape)


def _placed(one: Becoming, places: Mapping[str, Place]) -> Placed:
    tensor = one.source
    return Placed(
        name=tensor.name,
        tensor=tensor,
        encoding=one.encoding,
        places=tuple(places[entry.name] for entry in one.written),
        rows=tensor.rows,
        columns=tensor.columns,
    )


def _literal(one: Becoming, places: Mapping[str, Place]) -> Literal:
    assert one.shape is not None, "only quantized matrices state their shape"
    content = b"".join(size.to_bytes(8, "little") for size in one.source.shape)
    return Literal(place=places[one.shape.name], content=content)


def _index(weights: Weights, becomings: Sequence[Becoming]) -> dict[str, bytes]:
    """The index of a sharded model, by its name; nothing for a single file."""
    if len(weights.files) == 1:
        return {}
    entries = [(entry, weights.files[one.source.file].name) for one in becomings for entry in _entries(one)]
    index = {
        "metadata": {"total_size": sum(entry.size for entry, _ in entries)},
        "weight_map": {entry.name: file for entry, file in sorted(entries, key=lambda found: found[0].name)},
    }
    return {INDEX: (json.dumps(index, indent=2) + "\n").encode()}
