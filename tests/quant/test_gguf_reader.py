"""The header of a GGUF file is read with distrust: what gguf-py writes is read, and what lies is refused."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.reader import is_gguf, read_gguf


def written(path: Path, fill: Callable[[gguf.GGUFWriter], None]) -> Path:
    """A file by gguf-py, with what `fill` adds."""
    writer = gguf.GGUFWriter(path, "llama")
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def small(writer: gguf.GGUFWriter) -> None:
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("eps", 1.5)
    writer.add_bool("yes", True)
    writer.add_int64("far", -(1 << 40))
    writer.add_array("tokens", ["a", "zwölf", ""])
    writer.add_array("scores", [0.5, -1.0])
    writer.add_array("flags", [True, False])
    writer.add_tensor("one", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("two", np.arange(5, dtype=np.float16))
    blocks = np.zeros((2, 34), np.uint8)
    writer.add_tensor("three", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def test_what_gguf_py_writes_is_read(tmp_path: Path) -> None:
    """Values of every type come back, and every tensor's bytes lie where the header says."""
    path = written(tmp_path / "m.gguf", small)
    found = read_gguf(path)

    metadata = found.metadata
    assert (metadata.text("general.architecture"), metadata.integer("llama.block_count")) == ("llama", 2)
    assert (metadata.real("eps"), metadata.flag("yes"), metadata.integer("far")) == (1.5, True, -(1 << 40))
    assert metadata.texts("tokens") == ["a", "zwölf", ""]
    assert metadata.numbers("scores") == [0.5, -1.0]
    assert metadata["flags"].decoded() == [True, False]
    shapes = {tensor.name: (tensor.element, tensor.shape, tensor.size) for tensor in found.weights.tensors}
    assert shapes == {"one": ("F32", (3, 4), 48), "two": ("F16", (5,), 10), "three": ("Q8_0", (2, 32), 68)}
    one = found.weights.tensors[0]
    content = path.read_bytes()[one.offset : one.offset + one.size]
    assert np.frombuffer(content, np.float32).tolist() == list(range(12))
    assert is_gguf(path)


def test_nested_lists_are_read(tmp_path: Path) -> None:
    """Lists within lists, which gguf-py writes too, come back."""
    path = written(tmp_path / "m.gguf", lambda writer: writer.add_array("deep", [["a", "b"], ["c", "d"]]))
    assert read_gguf(path).metadata["deep"].decoded() == [["a", "b"], ["c", "d"]]


def test_a_large_vocabulary_is_walked_over_quickly(tmp_path: Path) -> None:
    """A vocabulary and its merges are neither decoded nor copied before somebody asks for them."""
    words = [f"word{number}" for number in range(262_144)]
    path = written(tmp_path / "m.gguf", lambda writer: writer.add_array("tokens", words))
    found = read_gguf(path).metadata["tokens"]
    assert isinstance(found.payload, memoryview)
    assert found.length == len(words)
    assert found.decoded() == words


def header(
    keys: bytes = b"",
    key_count: int = 0,
    infos: bytes = b"",
    tensors: int = 0,
    magic: bytes = b"GGUF",
    version: int = 3,
) -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, key_count) + keys + infos


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def info(name: bytes, sizes: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


KEY = text(b"k") + struct.pack("<IB", 0, 7)
LIES: dict[str, tuple[bytes, str]] = {
    "another format": (header(magic=b"GGML"), "isn't a GGUF file"),
    "big endian": (struct.pack("<4s", b"GGUF") + struct.pack(">IQQ", 3, 0, 0), "big endian"),
    "an old version": (header(version=1), "version 1"),
    "a version to come": (header(version=4), "version 4"),
    "too short": (b"GGUF\3\0\0\0", "too few"),
    "tensors without end": (header(tensors=1 << 62), "more than"),
    "keys without end": (header(key_count=1 << 40), "more than"),
    "a key that isn't there": (header(key_count=1), "ends at byte"),
    "a key twice": (header(KEY + KEY, 2), "twice"),
    "a long text": (header(text(b"k") + struct.pack("<IQ", 8, 1 << 62), 1), "ends at byte"),
    "a long list": (header(text(b"k") + struct.pack("<IIQ", 9, 4, 1 << 61), 1), "ends at byte"),
    "a long list of texts": (header(text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 61), 1), "doesn't fit"),
    "a text past the end": (header(text(b"k") + struct.pack("<IIQQ", 9, 8, 1, 1 << 63), 1), "ends at byte"),
    "an unknown type": (header(text(b"k") + struct.pack("<I", 13), 1), "unknown type 13"),
    "an empty list of nothing": (header(text(b"k") + struct.pack("<IIQ", 9, 13, 0), 1), "items of the unknown type 13"),
    "deep lists": (header(text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9, 1), "nested too deep"),
    "a key that isn't UTF-8": (header(text(b"\xff") + struct.pack("<IB", 0, 7), 1), "UTF-8"),
    "an odd alignment": (header(text(b"general.alignment") + struct.pack("<II", 4, 48), 1), "power of two"),
    "no alignment": (header(text(b"general.alignment") + struct.pack("<II", 4, 0), 1), "power of two"),
    "a path as a name": (header(infos=info(b"../x"), tensors=1), "lead elsewhere"),
    "a newline in a name": (header(infos=info(b"a\nb"), tensors=1), "lead elsewhere"),
    "a long name": (header(infos=info(b"n" * 64), tensors=1), "64 bytes long"),
    "no name": (header(infos=info(b""), tensors=1), "0 bytes long"),
    "five dimensions": (header(infos=info(b"t", (1, 1, 1, 1, 1)), tensors=1), "5 dimensions"),
    "a dimension of zero": (header(infos=info(b"t", (0,)), tensors=1), "no valid shape"),
    "sizes that overflow": (header(infos=info(b"t", (1 << 33, 1 << 33)), tensors=1), "no valid shape"),
    "an unknown type of tensor": (header(infos=info(b"t", kind=99), tensors=1), "unknown type 99"),
    "half a block": (header(infos=info(b"t", (33,), kind=8), tensors=1), "no multiple of 32"),
    "a tensor twice": (header(infos=info(b"t") + info(b"t", offset=32), tensors=2) + bytes(99), "twice"),
    "tensors that overlap": (header(infos=info(b"t", (16,)) + info(b"u"), tensors=2) + bytes(999), "was expected"),
    "a gap": (header(infos=info(b"t") + info(b"u", offset=64), tensors=2) + bytes(999), "was expected"),
    "a tensor past the end": (header(infos=info(b"t", (1 << 20,)), tensors=1) + bytes(99), "ends at byte"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(tmp_path: Path, lie: str) -> None:
    """A header that doesn't fit the file is refused, naming the file and what is wrong."""
    content, reason = LIES[lie]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(BadModel, match=reason) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    """A file cut anywhere before the end of its last tensor is refused."""
    path = written(tmp_path / "m.gguf", small)
    content = path.read_bytes()
    last = read_gguf(path).weights.tensors[-1]
    cut = tmp_path / "cut.gguf"
    for length in range(last.offset + last.size):
        cut.write_bytes(content[:length])
        with pytest.raises(BadModel):
            read_gguf(cut)


def test_damage_never_crashes(tmp_path: Path) -> None:
    """Any bytes changed anywhere give a header that decodes, or a `BadModel`, and soon."""
    random_numbers = random.Random(1)
    content = written(tmp_path / "m.gguf", small).read_bytes()
    path = tmp_path / "damaged.gguf"
    outcomes = set()
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(random_numbers.randint(1, 4)):
            at = random_numbers.randrange(len(damaged))
            damaged[at : at + random_numbers.choice((1, 8))] = random_numbers.randbytes(
                random_numbers.choice((0, 1, 8))
            )
        path.write_bytes(damaged)
        try:
            found = read_gguf(path)
            for key in found.metadata:
                try:
                    found.metadata[key].decoded()
                except UnicodeDecodeError:
                    outcomes.add("text")
            outcomes.add("read")
        except BadModel:
            outcomes.add("refused")
    assert outcomes >= {"read", "refused"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that isn't there is the user's fault, said in a sentence."""
    with pytest.raises(BadModel, match="can't be read"):
        read_gguf(tmp_path / "none.gguf")
    assert not is_gguf(tmp_path / "none.gguf")


@pytest.mark.parametrize(
    ("ask", "key"), [("text", "llama.block_count"), ("integer", "eps"), ("flag", "eps"), ("texts", "scores")]
)
def test_a_value_of_another_type_is_a_fault(tmp_path: Path, ask: str, key: str) -> None:
    """What isn't of the type asked for is refused by key, and so is what is missing."""
    metadata = read_gguf(written(tmp_path / "m.gguf", small)).metadata
    with pytest.raises(BadModel, match=key):
        getattr(metadata, ask)(key)
    with pytest.raises(BadModel, match=r"no\.such"):
        getattr(metadata, ask)("no.such")
