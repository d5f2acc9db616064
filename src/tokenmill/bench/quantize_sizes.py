"""How large the models are that quantization is measured on: the shapes of a published study, and true ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from tokenmill.errors import UsageError

#: Ways to do the work. `MOVE` reads and writes without quantizing. `NOTHING` is a process that imported and compiled
#: all that the others have.
STREAM, BATCH, MOVE, COPIES, NOTHING = "stream", "batch", "moved", "memcpy", "nothing"
#: Rows are a multiple of it long, so that every encoding fits.
GROUP = 256
#: Bytes of a weight in BF16.
WIDTH = 2
_OWN = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,7})x([1-9]\d{0,6})")
#: Layers, width, inner width and vocabulary of the model of 6.74 billion weights that is called 7B everywhere.
_LAYERS, _HIDDEN, _INNER, _VOCABULARY = 32, 4096, 11008, 32000
_PARTS = (
    ("attn_q", "self_attn.q_proj", _HIDDEN, _HIDDEN),
    ("attn_k", "self_attn.k_proj", _HIDDEN, _HIDDEN),
    ("attn_v", "self_attn.v_proj", _HIDDEN, _HIDDEN),
    ("attn_output", "self_attn.o_proj", _HIDDEN, _HIDDEN),
    ("ffn_gate", "mlp.gate_proj", _INNER, _HIDDEN),
    ("ffn_up", "mlp.up_proj", _INNER, _HIDDEN),
    ("ffn_down", "mlp.down_proj", _HIDDEN, _INNER),
)


class Matrix(Struct, frozen=True):
    """One tensor: its name in a GGUF file and in a model folder, and its shape."""

    name: str
    long_name: str
    rows: int
    columns: int


class Size(Struct, frozen=True, kw_only=True):
    """A model: what it is called, what it consists of in words, and its tensors."""

    name: str
    shape: str
    layers: int
    matrices: tuple[Matrix, ...]

    @property
    def weights(self) -> int:
        return sum(matrix.rows * matrix.columns for matrix in self.matrices)

    @property
    def bytes(self) -> int:
        return WIDTH * self.weights


def _alike(name: str, count: int, rows: int, columns: int) -> Size:
    matrices = (
        Matrix(f"blk.{number}.ffn_up.weight", f"model.layers.{number}.mlp.up_proj.weight", rows, columns)
        for number in range(count)
    )
    return Size(name=name, shape=f"{count} x ({rows}, {columns})", layers=count, matrices=tuple(matrices))


def _true_model(name: str) -> Size:
    matrices = [Matrix("token_embd.weight", "model.embed_tokens.weight", _VOCABULARY, _HIDDEN)]
    matrices += [
        Matrix(f"blk.{layer}.{short}.weight", f"model.layers.{layer}.{long}.weight", rows, columns)
        for layer in range(_LAYERS)
        for short, long, rows, columns in _PARTS
    ]
    matrices.append(Matrix("output.weight", "lm_head.weight", _VOCABULARY, _HIDDEN))
    return Size(
        name=name, shape=f"the matrices of a llama of {_LAYERS} layers", layers=_LAYERS, matrices=tuple(matrices)
    )


#: What the study calls its models; its "7B" has less than half of that.
STUDY = {"100M": (50, 512, 4096), "600M": (100, 1024, 6144), "7B": (200, 2048, 8192)}
TRUE = "true-7B"
KNOWN = (*STUDY, TRUE)


def size_of(name: str) -> Size:
    """The model called `name`, or of equal tensors: `4x96x512` is four of 96 rows of 512 weights."""
    if name == TRUE:
        return _true_model(name)
    if name in STUDY:
        return _alike(name, *STUDY[name])
    found = _OWN.fullmatch(name)
    if found is None:
        raise UsageError(f"--sizes: {name!r} is unknown; known: {', '.join(KNOWN)}, or tensors such as 4x96x512")
    count, rows, columns = map(int, found.groups())
    if columns % GROUP:
        raise UsageError(
            f"--sizes {name}: rows of {columns} weights; give a multiple of {GROUP}, which fits every type"
        )
    return _alike(name, count, rows, columns)


def group_of(name: str, to: str, what: str = "") -> str:
    """The group of cells of that size and type; `what` tells apart those that are compared among themselves."""
    return f"{name} {to}, {what}" if what else f"{name} {to}"


def named(group: str) -> tuple[str, str]:
    """Size and type of the cells of a group."""
    name, to = group.partition(",")[0].split(" ")
    return name, to


def sizes_in(names: Sequence[str]) -> list[Size]:
    """The models of these names.

    Raises:
        UsageError: there is none, or one of them is not known.
    """
    if not names:
        raise UsageError(f"--sizes: an empty list; known: {', '.join(KNOWN)}")
    return [size_of(name) for name in names]
