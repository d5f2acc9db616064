"""Where quantized weights go: files of known sizes, and for each tensor what it becomes and at which offsets.

A target plans a `Layout` from the weights of a model; streaming carries it out. Every offset is known before the first
byte is written, so threads never wait for each other and what is done can be told apart from what is not.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from tokenmill.quant.tensor import Tensor

#: The encoding of a tensor whose bytes are copied as they lie; floats are looked at for NaN all the same. Its
#: arrangement must be plain.
COPY = "COPY"


class Arrangement(Struct, frozen=True, kw_only=True):
    """How the rows of the output lie in the source tensor.

    `kind`: `plain`; `heads`, in which the two halves of each of `heads` blocks of rows become pairs, as ggml's rotary
    positions want (row `2 * k + j` of a block was row `j * half + k`); `transposed`, of a tensor of two dimensions.
    """

    kind: str = "plain"
    heads: int = 0


PLAIN = Arrangement()
TRANSPOSED = Arrangement(kind="transposed")


def permuted(heads: int) -> Arrangement:
    """The arrangement of query or key rows with so many heads (key heads for keys)."""
    return Arrangement(kind="heads", heads=heads)


class Place(Struct, frozen=True, kw_only=True):
    """Where one output of a tensor begins: its file in `Layout.files` and the offset in it."""

    file: int
    offset: int


class Placed(Struct, frozen=True, kw_only=True):
    """One tensor of the output.

    `name` is that in the output, `tensor` the source. `encoding` is a name of the registry, or COPY. `places`: one for
    each of the encoding's outputs, in their order. `rows` and `columns` are those of the output, after the arrangement;
    a bias whose heads are permuted has one column, and so many rows as elements.
    """

    name: str
    tensor: Tensor
    arrangement: Arrangement = PLAIN
    encoding: str
    places: tuple[Place, ...]
    rows: int
    columns: int


class Literal(Struct, frozen=True, kw_only=True):
    """Bytes that the plan already knows, such as the shape of a packed tensor, and where they stand."""

    place: Place
    content: bytes


class OutputFile(Struct, frozen=True, kw_only=True):
    """A file of the output: its name in the folder, its size in all, and the bytes at its beginning.

    What nothing is written to, such as gaps for alignment, is zero. The name means nothing where the output is a file.
    """

    name: str
    size: int
    header: bytes


class SmallFile(Struct, frozen=True, kw_only=True):
    """A file beside the weights, such as the tokenizer: its name, and its content or the file to copy it from."""

    name: str
    content: bytes | Path


class Layout(Struct, frozen=True, kw_only=True):
    """All of an output. Without `is_folder` it is the one file of `files`.

    `notes` says in sentences what the plan did that was not asked for, such as a tensor whose width fits no group.
    """

    is_folder: bool
    files: tuple[OutputFile, ...]
    placed: tuple[Placed, ...]
    literals: tuple[Literal, ...] = ()
    small_files: tuple[SmallFile, ...] = ()
    notes: tuple[str, ...] = ()


class Options(Struct, frozen=True, kw_only=True):
    """What was asked for.

    `to`: as `--to` has it, in lower case. `keep`: pairs of a pattern of tensor names and the type for them. `scale`:
    `absmax` or `mse`.
    """

    to: str
    keep: tuple[tuple[str, str], ...] = ()
    scale: str = "absmax"
