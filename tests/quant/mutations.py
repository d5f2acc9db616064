"""Headers of GGUF and safetensors files that lie: a true one is built from its parts, and some parts are changed.

The changes know the formats: lengths, counts, types, offsets, names, nesting, repeats, cuts and huge lists, so most
of the files get past the first checks. Every case is given by its number.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

#: Numbers at which lengths, counts and offsets go wrong.
NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 15, 31, 32, 33, 63, 64, 255, 256, 4096, 32_768, 32_769, 65_535, 65_536, 1 << 20),
    *((1 << power) + more for power in (31, 32, 40, 48, 53, 62, 63) for more in (-1, 0, 1)),
    *((1 << 64) - 1, (1 << 64) - 8),
)
NAMES = (
    *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\nb", "a\0b", "\x7f", "x" * 63, "x" * 64, "x" * 1025),
    *("ünï", "\u202e", "\u2028", "😀" * 20, "general.alignment", "llama.block_count", "blk.0.attn_v.weight", "{", "%s"),
)
BROKEN_TEXT = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"a\0b")


class Field:
    """A piece of a GGUF header: a number of so many bytes, or bytes."""

    def __init__(self, content: int | bytes, width: int = 0) -> None:
        self.content, self.width = content, width

    def bytes(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        return (self.content % (1 << 8 * self.width)).to_bytes(self.width, "little")


Group = list[Field]


def _text(content: str | bytes) -> Group:
    content = content.encode() if isinstance(content, str) else content
    return [Field(len(content), 8), Field(content)]


def _key(name: str, kind: int, *value: Field) -> Group:
    return [*_text(name), Field(kind, 4), *value]


def _list(kind: int, *items: Field, count: int | None = None) -> Group:
    return [Field(kind, 4), Field(len(items) if count is None else count, 8), *items]


def _info(name: str, sizes: tuple[int, ...], kind: int, offset: int) -> Group:
    return [*_text(name), Field(len(sizes), 4), *(Field(size, 8) for size in sizes), Field(kind, 4), Field(offset, 8)]


def _gguf_groups(source: Random) -> tuple[Group, list[Group], list[Group], int]:
    """The start, keys, infos, and the bytes of data of a small true file."""
    texts = [field for number in range(source.randint(0, 20)) for field in _text(f"piece{number}")]
    inner = _list(8, *_text("a"), *_text("b"), count=2)
    keys = [
        _key("general.architecture", 8, *_text(source.choice(("llama", "qwen2", "gpt2", "new")))),
        _key("general.alignment", 4, Field(source.choice((8, 32, 32, 64)), 4)),
        _key("llama.block_count", 4, Field(source.choice((1, 2, 80)), 4)),
        _key("llama.attention.head_count", 4, Field(4, 4)),
        _key("general.file_type", 4, Field(32, 4)),
        _key("flag", 7, Field(1, 1)),
        _key("real", 6, Field(struct.pack("<f", 1.5))),
        _key("far", 11, Field(struct.pack("<q", -5))),
        _key("tokenizer.ggml.tokens", 9, *_list(8, *texts, count=len(texts) // 2)),
        _key("scores", 9, *_list(6, *(Field(bytes(4)) for _ in range(5)))),
        _key("flags", 9, *_list(7, *(Field(number % 2, 1) for number in range(4)))),
        _key("deep", 9, *_list(9, *inner, *inner, count=2)),
    ]
    alignment = keys[1][-1].content
    assert isinstance(alignment, int)
    infos, offset = [], 0
    shapes = ("token_embd.weight", (64, 4)), ("blk.0.attn_v.weight", (256, 2)), ("blk.0.attn_norm.weight", (64,))
    for name, sizes in shapes[: source.randint(0, 3)]:
        kind = 0 if len(sizes) == 1 else source.choice((0, 1, 30))
        infos.append(_info(name, sizes, kind, offset))
        size = (4 if kind == 0 else 2) * sizes[0] * (sizes[1] if len(sizes) > 1 else 1)
        offset += -(-size // alignment) * alignment
    start = [Field(b"GGUF"), Field(source.choice((2, 3, 3)), 4), Field(len(infos), 8), Field(len(keys), 8)]
    return start, keys, infos, offset + 256


def gguf_case(number: int) -> bytes:
    """A small GGUF file with one to four changes."""
    source = Random(f"gguf {number}")
    start, keys, infos, data = _gguf_groups(source)
    raw = False
    for _ in range(source.choice((1, 1, 1, 2, 2, 3, 4))):
        change = source.randrange(12)
        groups = source.choice((keys, infos, [start]))
        if change < 6 and groups:
            _change_field(source, source.choice(source.choice((keys, infos or keys, [start]))))
        elif change == 6 and groups is not keys[:0] and groups:
            groups.insert(source.randrange(len(groups) + 1), list(source.choice(groups)))
            if source.random() < 0.8:  # so that the counts agree with it
                start[2].content, start[3].content = len(infos), len(keys)
        elif change == 7 and groups and groups is not start:
            del groups[source.randrange(len(groups))]
        elif change == 8:
            source.shuffle(keys if source.random() < 0.5 else infos)
        elif change == 9:
            depth = source.choice((1, 3, 4, 5, 8, 200, 3000))
            keys.append(_key("nest", 9, *(field for _ in range(depth) for field in _list(9, count=1)), Field(0, 4)))
            start[3].content = len(keys)
        elif change == 10:
            kind, count = source.randrange(14), source.choice(NUMBERS)
            keys.append(_key("huge", 9, *_list(kind, count=count), Field(bytes(source.choice((0, 64, 4096))))))
            start[3].content = len(keys)
        else:
            raw = True
    groups = [start, *keys, *infos]
    header = b"".join(field.bytes() for group in groups for field in group)
    content = header + bytes(-len(header) % 32 + data)
    return _cut(source, _flip(source, content) if raw else content)


def _change_field(source: Random, group: Group) -> None:
    field = source.choice(group)
    if isinstance(field.content, int):
        near = [field.content + more for more in (-1, 1, 8, -8)] + [field.content * 2, -field.content]
        field.content = source.choice((*near, *source.sample(NUMBERS, 6), source.getrandbits(8 * field.width)))
    elif source.random() < 0.5:
        name = source.choice((*(name.encode() for name in NAMES), *BROKEN_TEXT))
        place = group.index(field)
        if place and isinstance(group[place - 1].content, int) and source.random() < 0.8:
            group[place - 1].content = len(name)
        field.content = name
    else:
        field.content = source.randbytes(len(field.content))


def _flip(source: Random, content: bytes) -> bytes:
    """Some bytes are others."""
    changed = bytearray(content)
    for _ in range(source.choice((1, 2, 8))):
        if changed:
            changed[source.randrange(len(changed))] = source.choice((0, 1, 255, source.randrange(256)))
    return bytes(changed)


def _cut(source: Random, content: bytes) -> bytes:
    """Now and then cut short, or longer than it should be."""
    chance = source.random()
    if chance < 0.08:
        return content[: source.randrange(len(content) + 1)]
    return content + bytes(source.choice((1, 32, 4096))) if chance < 0.1 else content


# -- safetensors

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], [1], [0, 0]),
    *([-1, 2], [0.0, 1.0], ["0", "1"], [True, 1], [0] * 9, [1 << 48] * 8, 10**30, 10**300),
)


def _true_object(source: Random) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {"__metadata__": {"format": "pt"}} if source.random() < 0.5 else {}
    end = 0
    shapes = ("model.layers.0.mlp.up_proj.weight", [4, 128]), ("norm.weight", [64]), ("scalar", []), ("cube", [2, 3, 4])
    for name, shape in shapes[: source.randint(0, 4)]:
        dtype = source.choice(("BF16", "F16", "F32", "I64"))
        size = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8}[dtype]
        for each in shape:
            size *= each
        found[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return found, end


def safetensors_case(number: int) -> bytes:
    """A small safetensors file with one to four changes."""
    source = Random(f"safetensors {number}")
    stated, data = _true_object(source)
    edits: list[Callable[[str], str]] = []
    for _ in range(source.choice((1, 1, 1, 2, 2, 3, 4))):
        _change_object(source, stated, edits)
    text = json.dumps(stated, ensure_ascii=source.random() < 0.5)
    for edit in edits:
        text = edit(text)
    raw = text.encode("utf-8", "surrogatepass")
    if source.random() < 0.1:
        raw = _flip(source, raw)
    if source.random() < 0.05:
        place = source.randrange(len(raw) + 1)
        raw = raw[:place] + source.choice(BROKEN_TEXT) + raw[place:]
    raw += b" " * source.choice((0, 0, -len(raw) % 8, 4096))
    length = len(raw)
    if source.random() < 0.15:
        length = source.choice((length - 1, length + 1, length + data, length * 2, *NUMBERS)) % (1 << 64)
    return _cut(source, length.to_bytes(8, "little") + raw + bytes(data))


def _change_object(source: Random, stated: dict[str, Any], edits: list[Callable[[str], str]]) -> None:
    change = source.randrange(10)
    names = [name for name in stated if name != "__metadata__" and isinstance(stated[name], dict)]
    name = source.choice(names) if names else ""
    entry: dict[str, Any] = stated.get(name, {})
    if change < 3 and entry:
        part = source.choice(("dtype", "shape", "data_offsets"))
        entry[part] = source.choice((*VALUES, "BF16", "F64", "F4", "BOOL", list(source.sample(NUMBERS, 2))))
    elif change == 3 and entry.get("data_offsets") and isinstance(entry["data_offsets"], list):
        offsets = list(entry["data_offsets"])
        place = source.randrange(len(offsets))
        if type(offsets[place]) is int:
            offsets[place] += source.choice((-1, 1, 2, 64, -64, *NUMBERS))
        entry["data_offsets"] = offsets
    elif change == 4 and entry:
        stated[source.choice(NAMES)] = stated.pop(name)
    elif change == 5 and entry:
        entry[source.choice(("more", "dtype ", ""))] = source.choice(VALUES)
    elif change == 6:
        stated[source.choice(("__metadata__", "extra"))] = source.choice((*VALUES, {"a": 1}, {"a": "b" * 5000}))
    elif change == 7:
        edits.append(lambda text: text[:-1] + ("," if len(text) > 2 else "") + text[1:])  # every name twice
    elif change == 8:
        depth, sign = source.choice((10, 900, 1100, 20_000)), source.choice(("[", '{"a":'))
        edits.append(lambda text: text[:-1] + ("," if len(text) > 2 else "") + '"deep":' + sign * depth)
    else:
        long = source.choice(("9" * 5000, '"\\ud800"', '"\\u0000"', "1e999", "-0", "[" + "0," * 5000 + "0]"))
        edits.append(lambda text: text[:-1] + ("," if len(text) > 2 else "") + f'"long":{long}' + "}")


# -- large ones


def _with_length(raw: bytes, data: int = 0) -> bytes:
    return len(raw).to_bytes(8, "little") + raw + bytes(data)


def _one_key(value: bytes, data: int = 0) -> bytes:
    start = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
    return start + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + value + bytes(data)


def _entries(count: int) -> str:
    each = '"%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    return "{" + ",".join(each % (number, number, number + 1) for number in range(count)) + "}"


#: Files of some megabytes whose every byte is there: what they allocate and how long they take is all that counts.
LARGE: dict[str, Callable[[], bytes]] = {
    "safetensors, as many tensors as are allowed": lambda: _with_length(_entries(32_000).encode(), 32_000),
    "safetensors, more tensors than are allowed": lambda: _with_length(_entries(300_000).encode(), 300_000),
    "safetensors, one long text": lambda: _with_length(b'{"' + b"a" * 30_000_000 + b'":0}'),
    "safetensors, one long wide text": lambda: _with_length(('{"😀' + "a" * 30_000_000 + '":0}').encode()),
    "safetensors, one long escaped text": lambda: _with_length(b'{"\\ud83d\\ude00' + b"a" * 30_000_000 + b'":0}'),
    "safetensors, a wide text": lambda: _with_length(('{"😀' + "a" * 3_900_000 + '":0}').encode()),
    "safetensors, empty lists": lambda: _with_length(b'{"a":[' + b"[]," * 1_300_000 + b"[]]}"),
    "safetensors, many names": lambda: _with_length(
        b"{" + b",".join(b'"%d":0' % number for number in range(1_300_000)) + b"}"
    ),
    "safetensors, names": lambda: _with_length(
        b"{" + b",".join(b'"%d":0' % number for number in range(160_000)) + b"}"
    ),
    "safetensors, many metadata": lambda: _with_length(
        b'{"__metadata__":{' + b",".join(b'"%d":"%d"' % (number, number) for number in range(1_000_000)) + b"}}"
    ),
    "safetensors, many numbers": lambda: _with_length(b'{"a":[' + b"12345," * 1_300_000 + b"1]}"),
    "safetensors, many short texts": lambda: _with_length(b'{"a":[' + b'"abc",' * 1_300_000 + b'"a"]}'),
    "safetensors, spaces": lambda: _with_length(b"{" + b" " * 90_000_000 + b"}"),
    "gguf, a million empty texts": lambda: _one_key(struct.pack("<IQ", 8, 1_000_000), 8_000_000),
    "gguf, more texts than are allowed": lambda: _one_key(struct.pack("<IQ", 8, 3_000_000), 24_000_000),
    "gguf, many empty lists": lambda: _one_key(struct.pack("<IQ", 9, 60_000) + struct.pack("<IQ", 0, 0) * 60_000),
    "gguf, more lists than are allowed": lambda: _one_key(
        struct.pack("<IQ", 9, 2_000_000) + struct.pack("<IQ", 0, 0) * 2_000_000
    ),
    "gguf, many flags": lambda: _one_key(struct.pack("<IQ", 7, 50_000_000), 50_000_000),
    "gguf, many bytes": lambda: _one_key(struct.pack("<IQ", 0, 200_000_000), 200_000_000),
    "gguf, many keys": lambda: (
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 32_768)
        + b"".join(struct.pack("<Q", 5) + b"%05d" % number + struct.pack("<IB", 7, 1) for number in range(32_768))
    ),
    "gguf, many tensors": lambda: (
        struct.pack("<4sIQQ", b"GGUF", 3, 32_768, 0)
        + b"".join(
            struct.pack("<Q", 5) + b"%05d" % number + struct.pack("<IQIQ", 1, 8, 24, 32 * number)
            for number in range(32_768)
        )
        + bytes(32 * 32_769)
    ),
}
