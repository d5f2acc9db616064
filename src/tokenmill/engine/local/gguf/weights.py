"""The tensors of a GGUF file as those of the model it describes, all of them decoded while they are loaded."""

from __future__ import annotations

from collections.abc import Mapping

from tokenmill.engine.local.encoded import Encoded, Part
from tokenmill.engine.local.gguf.names import ROPE_FACTORS, plain_name
from tokenmill.engine.local.weights import WeightIndex, expected_tensors
from tokenmill.errors import InputFaults
from tokenmill.model.config import ModelConfig
from tokenmill.model.files import BadModel
from tokenmill.model.safetensors import Header
from tokenmill.quant.encodings import ENCODINGS
from tokenmill.quant.gguf.reader import GgufFile
from tokenmill.quant.layout import PLAIN, TRANSPOSED, Arrangement, permuted
from tokenmill.quant.tensor import Tensor


def check_weights(file: GgufFile, config: ModelConfig, permutes: bool) -> WeightIndex:
    """The weights in `file`, if they are exactly those of `config`; all differing tensors are reported together.

    `permutes`: whether the rows of queries and keys are stored in the order that ggml's rotation wants.
    """
    expected = expected_tensors(config)
    found: dict[str, Encoded] = {}
    faults: list[str] = []
    for tensor in file.weights.tensors:
        name = plain_name(tensor.name, config.family)
        if name is None or name not in expected:
            if tensor.name != ROPE_FACTORS:
                faults.append(f"tensor {tensor.name!r} has no place in the model that the metadata describe")
        elif fault := _fault(tensor, name, expected):
            faults.append(fault)
        else:
            found[name] = _encoded(file, tensor, expected[name], _arrangement(name, config, permutes))
    named = {plain_name(tensor.name, config.family) for tensor in file.weights.tensors}
    faults += [f"tensor {name!r} of shape {list(expected[name])} is missing" for name in expected if name not in named]
    if faults:
        raise InputFaults(f"weights in {file.path} don't fit its metadata, download it again", faults)
    return WeightIndex(places={}, headers=((file.path, _header(file)),), encoded=found)


def _fault(tensor: Tensor, name: str, expected: Mapping[str, tuple[int, ...]]) -> str | None:
    wanted = expected[name][::-1] if _is_transposed(name) else expected[name]
    if tensor.shape != wanted:
        return f"tensor {tensor.name!r} has shape {list(tensor.shape)}; the metadata make it {list(wanted)}"
    if tensor.element not in ENCODINGS:
        return f"tensor {tensor.name!r} has type {tensor.element}; only {', '.join(ENCODINGS)} can be loaded"
    return None


def _is_transposed(name: str) -> bool:
    """Whether the model has the matrix the other way round: GPT-2's linears are [inputs, outputs]."""
    return name.startswith("h.") and name.endswith(("attn.c_attn.weight", "c_proj.weight", "mlp.c_fc.weight"))


def _arrangement(name: str, config: ModelConfig, permutes: bool) -> Arrangement:
    if _is_transposed(name):
        return TRANSPOSED
    if permutes and ".self_attn.q_proj." in name:
        return permuted(config.heads)
    if permutes and ".self_attn.k_proj." in name:
        return permuted(config.kv_heads)
    return PLAIN


def _encoded(file: GgufFile, tensor: Tensor, shape: tuple[int, ...], arrangement: Arrangement) -> Encoded:
    rows, columns = tensor.rows, tensor.columns
    if len(shape) == 1 and arrangement.kind == "heads":
        rows, columns = columns, 1
    return Encoded(
        encoding=ENCODINGS[tensor.element],
        arrangement=arrangement,
        parts=(Part(file.path, tensor.offset),),
        rows=rows,
        columns=columns,
        shape=shape,
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
