"""Plans a GGUF file of a model folder, or of a GGUF file whose weights aren't quantized yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from tokenmill.model.config import ModelConfig, read_config
from tokenmill.model.files import BadModel, find_file, read_object
from tokenmill.quant.gguf import requantize
from tokenmill.quant.gguf.hyperparameters import (
    ARCHITECTURES,
    general,
    hyperparameters,
    notes,
    rope_factors,
)
from tokenmill.quant.gguf.mixes import Mix, Model, kept_types, mix_of, types
from tokenmill.quant.gguf.names import ROPE_FACTORS, Expected, expected, plain_name
from tokenmill.quant.gguf.tokenizer_files import read_tokenizer
from tokenmill.quant.gguf.value import Value, uint32
from tokenmill.quant.gguf.vocabulary import plan_vocabulary
from tokenmill.quant.gguf.writer import Entry, plan_file
from tokenmill.quant.layout import Layout, Literal, Options, OutputFile, Place, Placed
from tokenmill.quant.tensor import ELEMENTS, Tensor, Weights

#: The name of the factors that positions are divided by, which are no weights of the folder.
QUANTIZATION_VERSION = 2


class Found(Struct, frozen=True):
    """A tensor of the folder, what is expected of it, and the type it gets."""

    tensor: Tensor
    expected: Expected
    kind: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the output."""
        shape = self.expected.shape
        return shape[::-1] if self.expected.arrangement.kind == "transposed" else shape


def plan(weights: Weights, model: Path, options: Options) -> Layout:
    """The GGUF file that `options` ask for, of the model in the folder or GGUF file `model` with these `weights`."""
    mix = mix_of(options.to)
    if model.is_file():
        return requantize.plan(model, mix, options.keep)
    config = read_config(model)
    found, remarks = _find(weights, model, config, mix, options.keep)
    factors = rope_factors(config)
    entries = [Entry(name=ROPE_FACTORS, kind="F32", shape=(len(factors) // 4,))] if factors else []
    entries += [Entry(name=one.expected.name, kind=one.kind, shape=one.shape) for one in found]
    metadata, more = _metadata(model, config, mix, entries)
    planned = plan_file(metadata, entries)
    places = [Place(file=0, offset=offset) for offset in planned.offsets]
    literals = (Literal(place=places.pop(0), content=factors),) if factors else ()
    return Layout(
        is_folder=False,
        files=(OutputFile(name="model.gguf", size=planned.size, header=planned.header),),
        placed=tuple(_placed(one, place) for one, place in zip(found, places, strict=True)),
        literals=literals,
        notes=(*more, *notes(config), *remarks),
    )


def _metadata(
    folder: Path, config: ModelConfig, mix: Mix, entries: Sequence[Entry]
) -> tuple[dict[str, Value], tuple[str, ...]]:
    config_path, generation_path = find_file(folder, "config.json"), find_file(folder, "generation_config.json")
    assert config_path is not None, "the configuration was read from it"
    generation = read_object(generation_path) if generation_path else {}
    vocabulary = plan_vocabulary(read_tokenizer(folder), read_object(config_path), config.vocab, config.family)
    count = sum(_count(entry.shape) for entry in entries)
    values = hyperparameters(config, folder) | general(folder, count, generation)
    values["general.file_type"] = uint32(mix.file_type)
    values["general.quantization_version"] = uint32(QUANTIZATION_VERSION)
    return values | vocabulary.values, vocabulary.notes


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _find(
    weights: Weights, folder: Path, config: ModelConfig, mix: Mix, keep: Sequence[tuple[str, str]]
) -> tuple[list[Found], tuple[str, ...]]:
    """The tensors in the order in which they lie, with their types, and what was done for odd widths."""
    matched = _match(weights, folder, config)
    shapes = {part.name: Found(tensor, part, "").shape for tensor, part in matched}
    names = {tensor.name: part.name for tensor, part in matched}
    architecture = ARCHITECTURES[config.family]
    shares = config.layers == 80 and (
        architecture == "qwen2" or (architecture == "llama" and config.kv_heads != config.heads)
    )
    chosen = types(mix, Model(architecture=architecture, layers=config.layers, shares_values=shares), shapes)
    kept = kept_types(keep, names, shapes)
    found = [Found(tensor, part, (chosen | kept).get(part.name, "F32")) for tensor, part in matched]
    return found, requantize.width_notes(mix, chosen, kept, shapes)


def _match(weights: Weights, folder: Path, config: ModelConfig) -> list[tuple[Tensor, Expected]]:
    """Every tensor with what is expected of it; refuses tensors that are missing, unknown or of another shape."""
    missing = dict(expected(config))
    found = []
    for tensor in weights.tensors:
        name = plain_name(tensor.name)
        if name is None or (name == "lm_head.weight" and config.tied):
            continue
        part = missing.pop(name, None)
        if part is None:
            reason = "is there twice" if name in expected(config) else f"isn't part of a {config.family} model"
            raise BadModel(f"{weights.files[tensor.file]}: tensor {tensor.name!r} {reason}; download the model again")
        _check(tensor, part, weights.files[tensor.file])
        found.append((tensor, part))
    if missing:
        raise BadModel(
            f"{folder}: {len(missing)} tensors are missing, such as {next(iter(missing))!r}; "
            "download the whole model, with all its weight files"
        )
    return found


def _check(tensor: Tensor, part: Expected, path: Path) -> None:
    if tensor.shape != part.shape:
        raise BadModel(
            f"{path}: tensor {tensor.name!r} has the shape {list(tensor.shape)}, but config.json makes it "
            f"{list(part.shape)}; take the config.json that belongs to the weights"
        )
    if tensor.element not in ELEMENTS:
        raise BadModel(
            f"{path}: tensor {tensor.name!r} has type {tensor.element}, and only {', '.join(ELEMENTS)} can be "
            "quantized; take the model's original weights"
        )


def _placed(one: Found, place: Place) -> Placed:
    rows, columns = (1, one.shape[0]) if len(one.shape) == 1 else one.shape
    if len(one.shape) == 1 and one.expected.arrangement.kind == "heads":
        rows, columns = columns, 1
    return Placed(
        name=one.expected.name,
        tensor=one.tensor,
        arrangement=one.expected.arrangement,
        encoding=one.kind,
        places=(place,),
        rows=rows,
        columns=columns,
    )
