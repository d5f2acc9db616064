"""What is written as a header is read back, by gguf-py and by us."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.gguf_files import Read
from tokenmill.quant.gguf import value as values
from tokenmill.quant.gguf.reader import read_gguf
from tokenmill.quant.gguf.stored import STORED
from tokenmill.quant.gguf.value import Value, flag, float32, numbers, text, texts, uint32
from tokenmill.quant.gguf.writer import Entry, plan_file

LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Zs", "Co", "Cn"), exclude_characters="/\\.")
NAMES = st.text(LETTERS, min_size=1, max_size=15)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
SMALL = st.integers(0, 2**32 - 1)
FLOATS = st.floats(width=32, allow_nan=False)
VALUES: st.SearchStrategy[tuple[Value, Any]] = st.one_of(
    TEXTS.map(lambda one: (text(one), one)),
    st.booleans().map(lambda one: (flag(one), one)),
    SMALL.map(lambda one: (uint32(one), one)),
    FLOATS.map(lambda one: (float32(one), one)),
    st.lists(TEXTS, max_size=5).map(lambda many: (texts(many), many)),
    st.lists(SMALL, max_size=5).map(lambda many: (numbers(values.UINT32, many), many)),
    st.lists(FLOATS, max_size=5).map(lambda many: (numbers(values.FLOAT32, many), many)),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "I32"]))
    columns = STORED[kind].group * draw(st.integers(1, 3))
    return Entry(name=draw(NAMES), kind=kind, shape=(*draw(st.lists(st.integers(1, 4), max_size=3)), columns))


@settings(max_examples=150, deadline=None)
@given(
    metadata=st.dictionaries(NAMES.map("k.{}".format), VALUES, max_size=6),
    tensors=st.lists(entries(), max_size=6, unique_by=lambda entry: entry.name),
)
def test_what_is_written_is_read(metadata: dict[str, tuple[Value, Any]], tensors: list[Entry]) -> None:
    """Any keys and tensors come back as they were, and every tensor begins where the plan says."""
    planned = plan_file({key: value for key, (value, _) in metadata.items()}, tensors)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        path.write_bytes(planned.header.ljust(planned.size, b"\0"))
        found = read_gguf(path)
        assert {key: value.decoded() for key, value in found.metadata.items()} == {
            key: plain for key, (_, plain) in metadata.items()
        }
        assert [(one.name, one.element, one.shape, one.offset, one.size) for one in found.weights.tensors] == [
            (entry.name, entry.kind, entry.shape, offset, entry.size)
            for entry, offset in zip(tensors, planned.offsets, strict=True)
        ]
        theirs = Read(path)
        assert set(theirs.keys) == set(metadata)
        assert theirs.types == {entry.name: entry.kind for entry in tensors}
        assert all(offset % 32 == 0 for offset in planned.offsets)


def test_a_copied_value_is_the_same_bytes(tmp_path: Path) -> None:
    """A value that is read and written again, of whatever type, has the same bytes."""
    nested = numbers(values.INT8, [1, -1])
    deep = Value(values.ARRAY, b"\x09\0\0\0" + (1).to_bytes(8, "little") + bytes(nested.payload))
    metadata = {"a": deep, "b": Value(values.FLOAT64, np.float64(0.1).tobytes()), "c": numbers(values.BOOL, [1, 0])}
    first = plan_file(metadata, [])
    path = tmp_path / "m.gguf"
    path.write_bytes(first.header)
    again = plan_file(dict(read_gguf(path).metadata), [])
    assert again == first
