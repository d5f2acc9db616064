"""Which tensors of a model are quantized in a folder of compressed-tensors, and which stay as they are.

A module is ignored as a whole, and engines join some modules into one matrix, which can have only one type: what
keeps one of them keeps all. Embeddings, the head, norms and biases are never quantized here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from tokenmill.errors import UsageError
from tokenmill.quant.tensor import ELEMENTS, Tensor

#: Modules that engines load as one.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
#: The linears of the families whose folders are understood; everything else of theirs is kept.
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HEAD = "lm_head"
#: The output of an encoding that holds scales, and what the shape of a packed matrix is called beside them.
SCALE = "weight_scale"
SHAPE = "weight_shape"


def is_linear(tensor: Tensor) -> bool:
    """Whether the tensor is the matrix of a linear that may be quantized."""
    return len(tensor.shape) == 2 and tensor.name.endswith(tuple(f".{name}.weight" for name in LINEARS))


def module_of(tensor: Tensor) -> str:
    return tensor.name.rpartition(".")[0]


def mates(module: str) -> tuple[str, ...]:
    """The modules that share a matrix with `module` in engines, itself included."""
    parent, dot, name = module.rpartition(".")
    for group in FUSED:
        if name in group:
            return tuple(parent + dot + mate for mate in group)
    return (module,)


def with_mates(modules: Iterable[str]) -> set[str]:
    return {mate for module in modules for mate in mates(module)}


def kept_types(tensors: Sequence[Tensor], keep: Sequence[tuple[str, str]]) -> dict[str, str]:
    """By name of a tensor the float type that `--keep` wants for it; the last pattern that fits counts.

    A pattern is about names of tensors or of their modules. One that fits nothing is an error, as is another type.
    """
    found: dict[str, str] = {}
    for pattern, stated in keep:
        element = stated.upper()
        if element not in ELEMENTS:
            raise UsageError(
                f"--keep {pattern}={stated}: in a folder of compressed-tensors a kept tensor is one of "
                f"{', '.join(ELEMENTS)}"
            )
        fitting = [tensor for tensor in tensors if _fits(tensor, pattern)]
        if not fitting:
            raise UsageError(f"--keep {pattern}={stated}: no tensor has such a name; one is {tensors[0].name!r}")
        found |= {tensor.name: element for tensor in fitting}
    return found


def _fits(tensor: Tensor, pattern: str) -> bool:
    return fnmatchcase(tensor.name, pattern) or fnmatchcase(module_of(tensor), pattern)
