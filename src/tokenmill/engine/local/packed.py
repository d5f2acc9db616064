"""Folders of compressed-tensors: the packed matrices among the tensors of a model, checked before they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokenmill.engine.local.encoded import Encoded, Part
from tokenmill.model.files import BadModel
from tokenmill.model.safetensors import WIDTHS, Stored
from tokenmill.quant.compressed.modules import SCALE, SHAPE
from tokenmill.quant.encoding import Bits, Bytes, Encoding
from tokenmill.quant.encodings import encoding
from tokenmill.quant.floats import widen
from tokenmill.quant.layout import PLAIN
from tokenmill.quant.tensor import ELEMENTS

#: The bits of 1 in BF16.
UNIT_SCALE = 0x3F80

#: The file of a tensor, its name there, how it is stored, and where in the file.
Found: TypeAlias = tuple[Path, str, Stored, int]


class PackedRows:
    """The rows of a packed matrix whose scales are of the type `element`.

    A weight is its whole number times its scale, which 32 bits hold exactly; the run's precision rounds it, as it does
    in other engines. The encoding itself would round to its own type of scales first.
    """

    def __init__(self, encoding: Encoding, element: str) -> None:
        self._encoding = encoding
        self._element = element

    def row_sizes(self, columns: int) -> tuple[int, ...]:
        packed, scales = self._encoding.row_sizes(columns)
        return packed, scales // ELEMENTS["BF16"] * ELEMENTS[self._element]

    def decode(self, outputs: tuple[Bytes, ...], rows: int, columns: int) -> NDArray[np.float32]:
        bits: Bits = outputs[1].view(np.uint32) if self._element == "F32" else outputs[1].view(np.uint16)
        scales = widen(bits, self._element).reshape(rows, -1, 1)
        units = np.full(scales.size, UNIT_SCALE, np.uint16).view(np.uint8)
        weights = self._encoding.decode((outputs[0], units), rows, columns)
        weights.reshape(rows, scales.shape[1], -1)[:] *= scales
        return weights


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
                encoding=PackedRows(chosen, places[1][2].dtype),
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
    size = chosen.row_sizes(shape[1])[chosen.outputs.index(output)]
    types, width = (tuple(ELEMENTS), ELEMENTS["BF16"]) if output == SCALE else (("I32",), WIDTHS["I32"])
    wanted = (shape[0], size // width)
    if stored.dtype not in types or stored.shape != wanted:
        return (
            f"{place} is {stored.dtype} of shape {list(stored.shape)}; "
            f"{chosen.name} makes it {' or '.join(types)} of shape {list(wanted)}"
        )
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
