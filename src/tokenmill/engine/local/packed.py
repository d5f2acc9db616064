"""Folders of compressed-tensors: the packed matrices among the tensors of a model, checked before they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from tokenmill.engine.local.encoded import Encoded, Part
from tokenmill.model.files import BadModel
from tokenmill.model.safetensors import WIDTHS, Stored
from tokenmill.quant.compressed.modules import SHAPE
from tokenmill.quant.encoding import Encoding
from tokenmill.quant.encodings import encoding
from tokenmill.quant.layout import PLAIN

#: The file of a tensor, its name there, how it is stored, and where in the file.
Found: TypeAlias = tuple[Path, str, Stored, int]


def take_packed(
    found: Mapping[str, Found], expected: Mapping[str, tuple[int, ...]], name: str
) -> tuple[dict[str, Encoded], frozenset[str], list[str]]:
    """The matrices that are stored packed by the encoding `name`, the names they account for, and what is wrong.

    Which modules are quantized is what the files say: one that is ignored has its `weight` as ever.
    """
    chosen = encoding(name)
    packed: dict[str, Encoded] = {}
    taken: set[str] = set()
    faults: list[str] = []
    for weight, shape in expected.items():
        module = weight.removesuffix(".weight")
        parts = [f"{module}.{output}" for output in chosen.outputs]
        if len(shape) != 2 or weight in found or parts[0] not in found:
            continue
        names = [*parts, f"{module}.{SHAPE}"]
        taken.update(names)
        wrong = [fault for part in names if (fault := _fault(found, part, shape, chosen))]
        faults += wrong
        if not wrong:
            places = [found[part] for part in parts]
            packed[weight] = Encoded(
                encoding=chosen,
                arrangement=PLAIN,
                parts=tuple(Part(path, offset) for path, _, _, offset in places),
                rows=shape[0],
                columns=shape[1],
                shape=shape,
            )
    return packed, frozenset(taken), faults


def _fault(found: Mapping[str, Found], name: str, shape: tuple[int, ...], chosen: Encoding) -> str | None:
    """What is wrong with one tensor of a packed matrix of this shape."""
    if name not in found:
        return f"tensor {name!r} is missing"
    path, stored_name, stored, offset = found[name]
    place = f"{path.name}: tensor {stored_name!r}"
    output = name.rpartition(".")[2]
    if output == SHAPE:
        stated = _stated_shape(path, stored, offset)
        return (
            None
            if stated == shape
            else f"{place} says {stated or 'something else'}; config.json makes it {list(shape)}"
        )
    if shape[1] % chosen.group:
        return f"{place}: rows of {shape[1]} weights are no multiple of {chosen.group}"
    dtype = "BF16" if output == "weight_scale" else "I32"
    size = chosen.row_sizes(shape[1])[chosen.outputs.index(output)]
    wanted = (shape[0], size // WIDTHS[dtype])
    if stored.dtype != dtype or stored.shape != wanted:
        return f"{place} is {stored.dtype} of shape {list(stored.shape)}; {chosen.name} makes it {dtype} {list(wanted)}"
    return None


def _stated_shape(path: Path, stored: Stored, offset: int) -> tuple[int, ...] | None:
    if stored.dtype not in ("I32", "I64") or stored.shape != (2,):
        return None
    width = WIDTHS[stored.dtype]
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(2 * width)
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    return tuple(int.from_bytes(content[at : at + width], "little", signed=True) for at in (0, width))
