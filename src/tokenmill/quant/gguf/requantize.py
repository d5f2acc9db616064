"""Plans a GGUF file of another GGUF file: all that it says is copied byte by byte, and its weights get other types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.metadata import Metadata
from tokenmill.quant.gguf.mixes import FALLBACKS, Mix, Model, kept_types, types
from tokenmill.quant.gguf.reader import GgufFile, read_gguf
from tokenmill.quant.gguf.stored import INTEGERS
from tokenmill.quant.gguf.value import Value, uint32
from tokenmill.quant.gguf.writer import Entry, plan_file
from tokenmill.quant.layout import COPY, Layout, OutputFile, Place, Placed
from tokenmill.quant.tensor import ELEMENTS, Tensor

QUANTIZATION_VERSION = 2


def plan(path: Path, mix: Mix, keep: Sequence[tuple[str, str]]) -> Layout:
    """The file that `mix` makes of the GGUF file at `path`."""
    source = read_gguf(path)
    _check(source)
    tensors = source.weights.tensors
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    chosen = types(mix, _model(source.metadata), shapes)
    kept = kept_types(keep, {name: name for name in shapes}, shapes)
    kinds = {tensor.name: (chosen | kept).get(tensor.name, tensor.element) for tensor in tensors}
    entries = [Entry(name=tensor.name, kind=kinds[tensor.name], shape=tensor.shape) for tensor in tensors]
    planned = plan_file(_metadata(source, mix), entries, source.alignment)
    return Layout(
        is_folder=False,
        files=(OutputFile(name="model.gguf", size=planned.size, header=planned.header),),
        placed=tuple(
            _placed(tensor, kinds[tensor.name], offset) for tensor, offset in zip(tensors, planned.offsets, strict=True)
        ),
        notes=width_notes(mix, chosen, kept, shapes),
    )


def width_notes(
    mix: Mix, chosen: Mapping[str, str], kept: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """Which types took the place of others because of the width of rows, said once for each width."""
    odd: dict[tuple[int, str], list[str]] = {}
    stand_ins = {*FALLBACKS.values(), "F16"} - {mix.base}
    for name, kind in chosen.items():
        if name not in kept and kind in stand_ins and shapes[name][-1] % 256:
            odd.setdefault((shapes[name][-1], kind), []).append(name)
    return tuple(
        f"{len(names)} tensors with rows of {columns} weights, such as {names[0]!r}, become {kind}, as no smaller type "
        "of this mix has groups that fit"
        for (columns, kind), names in odd.items()
    )


def _check(source: GgufFile) -> None:
    if source.metadata.integer("split.count", 1) > 1:
        raise BadModel(
            f"{source.path}: is one of {source.metadata.integer('split.count')} parts of a model; "
            "join them with llama-gguf-split --merge and name the whole file"
        )
    for tensor in source.weights.tensors:
        if tensor.element not in ELEMENTS and tensor.element not in INTEGERS:
            raise BadModel(
                f"{source.path}: tensor {tensor.name!r} is already quantized, to {tensor.element}; quantizing again "
                "would only lose more. Take the model's original weights, a folder or a GGUF file of F32, F16 or BF16"
            )


def _model(metadata: Metadata) -> Model:
    """What the rules ask, from the keys of the architecture."""
    name = metadata.text("general.architecture")
    layers = metadata.integer(f"{name}.block_count", 0)
    experts = metadata.integer(f"{name}.expert_count", 0)
    shares = layers == 80 and name in ("qwen2", "deci", "olmo")
    if layers == 80 and name == "llama":
        heads = metadata.integer(f"{name}.attention.head_count")
        shares = heads != metadata.integer(f"{name}.attention.head_count_kv", heads)
    return Model(architecture=name, layers=layers, experts=experts, shares_values=shares)


def _metadata(source: GgufFile, mix: Mix) -> dict[str, Value]:
    values = {key: value for key, value in source.metadata.items() if not key.startswith("split.")}
    values["general.file_type"] = uint32(mix.file_type)
    values["general.quantization_version"] = uint32(QUANTIZATION_VERSION)
    return values


def _placed(tensor: Tensor, kind: str, offset: int) -> Placed:
    return Placed(
        name=tensor.name,
        tensor=tensor,
        encoding=COPY if kind == tensor.element else kind,
        places=(Place(file=0, offset=offset),),
        rows=tensor.rows,
        columns=tensor.columns,
    )
