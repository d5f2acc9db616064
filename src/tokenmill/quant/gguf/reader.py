"""The header of a GGUF file, checked against the real file before anything is allocated for it.

Layout, little endian: `GGUF`, version, counts of tensors and keys; for each key its name, type and value; for each
tensor its name, dimensions (the fastest first), type and offset; then, aligned, the tensors' bytes, each padded to the
alignment, in the order of the list and without other gaps, as llama.cpp demands too. A file that says otherwise is
refused. Values are not decoded here: they are only walked over.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from tokenmill.model.files import BadModel
from tokenmill.quant.gguf import value as values
from tokenmill.quant.gguf.metadata import Metadata
from tokenmill.quant.gguf.stored import NAMES, STORED, row_size
from tokenmill.quant.gguf.value import ARRAY, BOOL, SIZES, TEXT, Value
from tokenmill.quant.tensor import Tensor, Weights

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
#: Bytes before the tensors. The largest vocabularies with their merges take about 30 MB.
HEADER_LIMIT = 256 << 20
#: Bytes read at once, and so the most that is read beyond the header.
STEP = 1 << 20
KEY_LIMIT = 32_768
TENSOR_LIMIT = 32_768
#: Texts within all lists of a file; 262,144 pieces and their merges make about 800,000. A list in a list counts more.
ITEM_LIMIT = 1 << 20
LIST_COST = 16
#: The format's own limits: bytes of a name of a tensor, and dimensions.
NAME_LIMIT = 63
DIMENSION_LIMIT = 4
KEY_NAME_LIMIT = 1024
SIZE_LIMIT = 1 << 48
DEPTH_LIMIT = 4
ALIGNMENT_LIMIT = 1 << 20


class GgufFile(Struct, frozen=True):
    """What a GGUF file holds: its metadata, and where its tensors lie; shapes have the slowest dimension first."""

    path: Path
    version: int
    alignment: int
    metadata: Metadata
    weights: Weights


def read_gguf(path: Path) -> GgufFile:
    """The checked header of the GGUF file at `path`; raises `BadModel`."""
    if not path.is_file():  # a pipe would be waited for without an end
        raise BadModel(f"{path}: can't be read, as there is no such file; name a GGUF file or a model folder")
    try:
        with path.open("rb") as file:
            return _Reader(path, file).read()
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error


def is_gguf(path: Path) -> bool:
    """Whether the file at `path` begins as a GGUF file does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


class _Reader:
    """One pass over a header. `_end` is how far it came; everything before it is in `_data`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._data = bytearray()
        self._end = 0
        self._items = ITEM_LIMIT

    def read(self) -> GgufFile:
        version, tensor_count, key_count = self._counts()
        spans = self._keys(key_count)
        alignment = self._alignment(spans)
        infos = [self._info() for _ in range(tensor_count)]
        begin = -(-self._end // alignment) * alignment
        tensors = self._placed(infos, begin, alignment)
        del self._data[self._end :]
        whole = memoryview(self._data).toreadonly()
        metadata = {key: Value(kind, whole[start:end]) for key, (kind, start, end) in spans.items()}
        weights = Weights(files=(self._path,), tensors=tensors)
        return GgufFile(self._path, version, alignment, Metadata(self._path, metadata), weights)

    def _refuse(self, reason: str) -> BadModel:
        return BadModel(f"{self._path}: {reason}; the file is broken or cut short, download it again")

    def _need(self, count: int, what: str) -> int:
        """Makes sure that the next `count` bytes are read, and steps over them; returns where they begin."""
        start, end = self._end, self._end + count
        if end > len(self._data):
            if end > self._size:
                raise self._refuse(f"{what} ends at byte {end} of a file of {self._size}")
            if end > HEADER_LIMIT:
                raise self._refuse(f"{what} ends beyond the {HEADER_LIMIT} bytes that a header may have")
            while len(self._data) < end:
                more = self._file.read(min(STEP, self._size - len(self._data)))
                if not more:
                    raise self._refuse("the file shrank while it was read")
                self._data += more
        self._end = end
        return start

    def _number(self, size: int, what: str) -> int:
        start = self._need(size, what)
        return int.from_bytes(self._data[start : start + size], "little")

    def _counts(self) -> tuple[int, int, int]:
        if self._size < 24:
            raise self._refuse(f"{self._size} bytes are too few for a GGUF file")
        self._need(24, "the start")
        magic, version, tensors, keys = struct.unpack("<4sIQQ", self._data[:24])
        if magic != MAGIC:
            raise BadModel(f"{self._path}: isn't a GGUF file (it begins with {magic!r}); name one or a model folder")
        if version and not version & 0xFFFF:
            raise BadModel(
                f"{self._path}: is big endian, which isn't supported; convert the model again as little endian"
            )
        if version not in VERSIONS:
            raise BadModel(f"{self._path}: has GGUF version {version}, known: 2 and 3; convert the model again")
        if tensors > TENSOR_LIMIT or keys > KEY_LIMIT:
            raise self._refuse(f"{tensors} tensors and {keys} keys are more than {TENSOR_LIMIT} and {KEY_LIMIT}")
        return version, tensors, keys

    def _keys(self, count: int) -> dict[str, tuple[int, int, int]]:
        """For each key its type and where its value lies."""
        spans: dict[str, tuple[int, int, int]] = {}
        for number in range(count):
            key = self._name(f"the name of key {number}", KEY_NAME_LIMIT)
            if key in spans:
                raise self._refuse(f"the key {key!r} is there twice")
            kind = self._number(4, f"key {key!r}")
            start = self._end
            self._skip(kind, key, 0)
            spans[key] = (kind, start, self._end)
        return spans

    def _name(self, what: str, limit: int) -> str:
        length = self._number(8, what)
        if not 0 < length <= limit:
            raise self._refuse(f"{what} is {length} bytes long; expected 1 to {limit}")
        start = self._need(length, what)
        try:
            name = self._data[start : start + length].decode()
        except UnicodeDecodeError as error:
            raise self._refuse(f"{what} isn't valid UTF-8") from error
        if not name.isprintable() or ".." in name or "/" in name or "\\" in name:
            raise BadModel(
                f"{self._path}: {what} is {name!r}, which may lead elsewhere; take files only from a source you trust"
            )
        return name

    def _skip(self, kind: int, key: str, depth: int) -> None:
        """Steps over a value; only its sizes are looked at."""
        if kind == TEXT:
            self._need(self._number(8, f"the text of {key!r}"), f"the text of {key!r}")
        elif kind == BOOL:
            if self._number(1, f"the flag {key!r}") > 1:
                raise self._refuse(f"the flag {key!r} is neither true nor false")
        elif kind in SIZES:
            self._need(SIZES[kind], f"the value of {key!r}")
        elif kind == ARRAY and depth < DEPTH_LIMIT:
            self._skip_list(key, depth)
        else:
            raise self._refuse(f"key {key!r} has the unknown type {kind} or is nested too deep")

    def _skip_list(self, key: str, depth: int) -> None:
        item, count = self._number(4, f"the list {key!r}"), self._number(8, f"the list {key!r}")
        if item in SIZES:
            start = self._need(count * SIZES[item], f"the list {key!r}")
            if item == BOOL and not self._are_flags(start):
                raise self._refuse(f"a flag of the list {key!r} is neither true nor false")
            return
        if item not in (TEXT, ARRAY):
            raise self._refuse(f"the list {key!r} has items of the unknown type {item}")
        least = 8 if item == TEXT else 12
        if count * least > self._size - self._end:
            raise self._refuse(f"the list {key!r} of {count} items doesn't fit into the file")
        cost = count if item == TEXT else count * LIST_COST
        if cost > self._items:
            raise self._refuse(
                f"the list {key!r} of {count} items is too long; all lists together may have {ITEM_LIMIT}"
            )
        self._items -= cost
        if item == TEXT:
            self._skip_texts(count, f"the list {key!r}")
            return
        for _ in range(count):
            self._skip(item, key, depth + 1)

    def _are_flags(self, start: int) -> bool:
        """Whether all bytes since `start` are 0 or 1; looked at in pieces, as each is copied."""
        pieces = (self._data[begin : min(begin + STEP, self._end)] for begin in range(start, self._end, STEP))
        return not any(piece.translate(None, b"\0\1") for piece in pieces)

    def _skip_texts(self, count: int, what: str) -> None:
        """The hot one: a vocabulary of 262,144 pieces in some hundredths of a second."""
        length_at, end, have = struct.Struct("<Q").unpack_from, self._end, len(self._data)
        for _ in range(count):
            if end + 8 > have:
                self._end = end
                self._need(8, what)
                have = len(self._data)
            end += 8 + length_at(self._data, end)[0]
            if end > have:
                self._end, missing = have, end - have
                self._need(missing, what)
                have = len(self._data)
        self._end = end

    def _alignment(self, spans: dict[str, tuple[int, int, int]]) -> int:
        kind, start, end = spans.get("general.alignment", (values.UINT32, 0, 0))
        if end == 0:
            return ALIGNMENT
        alignment = int.from_bytes(self._data[start:end], "little")
        if kind != values.UINT32 or not 0 < alignment <= ALIGNMENT_LIMIT or alignment & (alignment - 1):
            raise self._refuse("general.alignment isn't a power of two")
        return alignment

    def _info(self) -> tuple[str, str, tuple[int, ...], int]:
        """Name, type, shape and offset of the next tensor."""
        name = self._name("the name of a tensor", NAME_LIMIT)
        what = f"tensor {name!r}"
        dimensions = self._number(4, what)
        if dimensions > DIMENSION_LIMIT:
            raise self._refuse(f"{what} has {dimensions} dimensions; at most {DIMENSION_LIMIT} are allowed")
        sizes = [self._number(8, what) for _ in range(dimensions)]
        if not all(0 < size <= SIZE_LIMIT for size in sizes) or math.prod(sizes) > SIZE_LIMIT:
            raise self._refuse(f"{what} has no valid shape")
        number = self._number(4, what)
        kind = NAMES.get(number)
        if kind is None:
            raise BadModel(f"{self._path}: {what} has the unknown type {number}; known: {', '.join(STORED)}")
        if (sizes[0] if sizes else 1) % STORED[kind].group:
            raise self._refuse(
                f"{what} has rows of {sizes[:1]} weights, no multiple of {STORED[kind].group} as {kind} needs"
            )
        return name, kind, tuple(reversed(sizes)), self._number(8, what)

    def _placed(
        self, infos: list[tuple[str, str, tuple[int, ...], int]], begin: int, alignment: int
    ) -> tuple[Tensor, ...]:
        seen: set[str] = set()
        tensors = []
        expected = 0
        for name, kind, shape, offset in infos:
            if name in seen:
                raise self._refuse(f"tensor {name!r} is there twice")
            seen.add(name)
            if offset != expected:
                raise self._refuse(f"tensor {name!r} begins at {offset} of the data where {expected} was expected")
            columns = shape[-1] if shape else 1
            size = math.prod(shape[:-1]) * row_size(kind, columns)
            if begin + offset + size > self._size:
                raise self._refuse(f"tensor {name!r} ends at byte {begin + offset + size} of a file of {self._size}")
            expected = -(-(offset + size) // alignment) * alignment
            tensors.append(Tensor(name=name, element=kind, shape=shape, file=0, offset=begin + offset, size=size))
        return tuple(tensors)
