"""The tensors of a GGUF file as those of the model it describes, all of them decoded while they are loaded."""

from __future__ import annotations

from tokenmill.engine.local.encoded import Encoded, Part
from tokenmill.engine.local.weights import WeightIndex
from tokenmill.errors import InputFaults
from tokenmill.model.config import ModelConfig
from tokenmill.model.files import BadModel
from tokenmill.model.safetensors import Header
from tokenmill.quant.encodings import ENCODINGS
from tokenmill.quant.gguf.names import ROPE_FACTORS, Expected, expected
from tokenmill.quant.gguf.reader import GgufFile
from tokenmill.quant.layout import TRANSPOSED
from tokenmill.quant.tensor import Tensor


def check_weights(file: GgufFile, config: ModelConfig) -> WeightIndex:
    """The weights in `file`, if they are exactly those of `config`; all differing tensors are reported together."""
    wanted = {each.name: (name, each) for name, each in expected(config).items()}
    found: dict[str, Encoded] = {}
    faults: list[str] = []
    for tensor in file.weights.tensors:
        if tensor.name not in wanted:
            if tensor.name != ROPE_FACTORS:
                faults.append(f"tensor {tensor.name!r} has no place in the model that the metadata describe")
            continue
        name, each = wanted.pop(tensor.name)
        if fault := _fault(tensor, each):
            faults.append(fault)
        else:
            found[name] = _encoded(file, tensor, each)
    faults += [f"tensor {name!r} of shape {list(each.shape)} is missing" for name, each in wanted.values()]
    if faults:
        raise InputFaults(f"weights in {file.path} don't fit its metadata, download it again", faults)
    return WeightIndex(places={}, headers=((file.path, _header(file)),), encoded=found)


def _fault(tensor: Tensor, each: Expected) -> str | None:
    shape = each.shape[::-1] if each.arrangement == TRANSPOSED else each.shape
    if tensor.shape != shape:
        return f"tensor {tensor.name!r} has shape {list(tensor.shape)}; the metadata make it {list(shape)}"
    if tensor.element not in ENCODINGS:
        return f"tensor {tensor.name!r} has type {tensor.element}; only {', '.join(ENCODINGS)} can be loaded"
    return None


def _encoded(file: GgufFile, tensor: Tensor, each: Expected) -> Encoded:
    rows, columns = tensor.rows, tensor.columns
    if len(each.shape) == 1 and each.arrangement.kind == "heads":
        rows, columns = columns, 1
    return Encoded(
        encoding=ENCODINGS[tensor.element],
        arrangement=each.arrangement,
        parts=(Part(file.path, tensor.offset),),
        rows=rows,
        columns=columns,
        shape=each.shape,
    )


def _header(file: GgufFile) -> Header:
    """The bytes before the tensors, which hold everything else about the model, and the size of the file."""
    length = min(tensor.offset for tensor in file.weights.tensors)
    try:
        with file.path.open("rb") as opened:
            raw = opened.read(length)
            return Header({}, raw, opened.seek(0, 2))
    except OSError as error:
        raise BadModel(f"{file.path}: can't be read ({error.strerror})") from error
