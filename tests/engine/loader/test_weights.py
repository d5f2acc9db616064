"""Weight files are checked against the real file and the configuration before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from engine.loader.saved_models import MODELS, edit_json, save_model
from tokenmill.engine.local.digest import digest
from tokenmill.engine.local.weights import check_weights, load_weights, plain_name
from tokenmill.errors import TokenmillError
from tokenmill.model.config import read_config
from tokenmill.model.safetensors import ENTRY_LIMIT, HEADER_LIMIT, read_header

GOOD = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16), "c": torch.zeros(0)})


def with_header(header: object, data: bytes = b"\0" * 32) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype: str = "F32", shape: object = (8,), begin: object = 0, end: object = 32) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BROKEN = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "no header": b"\0" * 8,
    "header beyond the file": (100).to_bytes(8, "little") + b"{}",
    "header of 2^63": (1 << 63).to_bytes(8, "little") + b"{}",
    "header above the limit": (HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}",
    "not JSON": with_header(b"{]"),
    "not UTF-8": with_header(b'{"\xff": 1}'),
    "deep nesting": with_header(b"[" * 100_000),
    "a list": with_header([]),
    "too many entries": with_header(b"{" * (ENTRY_LIMIT + 1)),
    "number of 10,000 digits": with_header(b'{"a": ' + b"9" * 10_000 + b"}"),
    "entry is a number": with_header({"a": 1}),
    "entry with a strange key": with_header({"a": entry() | {"code": "x"}}),
    "repeated name": with_header(b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2)),
    "repeated key": with_header(b'{"a": {"dtype":"F32","shape":[8],"shape":[8],"data_offsets":[0,32]}}'),
    "unknown type": with_header({"a": entry("F128")}),
    "type is a list": with_header({"a": entry() | {"dtype": ["F32"]}}),
    "overlap": with_header({"a": entry(), "b": entry(begin=16, end=48)}, b"\0" * 48),
    "same bytes twice": with_header({"a": entry(), "b": entry()}),
    "gap": with_header({"a": entry(shape=(4,), end=16), "b": entry(shape=(4,), begin=20, end=36)}, b"\0" * 36),
    "gap at the start": with_header({"a": entry(begin=8, end=40)}, b"\0" * 40),
    "past the end": with_header({"a": entry(shape=(9,), end=36)}),
    "bytes left over": with_header({"a": entry()}, b"\0" * 33),
    "begin after end": with_header({"a": entry(begin=32, end=0)}),
    "negative offset": with_header({"a": entry(begin=-32, end=0)}),
    "negative size": with_header({"a": entry(shape=(-8,))}),
    "float size": with_header({"a": entry(shape=(8.0,))}),
    "boolean size": with_header({"a": entry(shape=(True,))}),
    "shape times type wraps to the span": with_header({"a": entry(shape=(1 << 40, 1 << 40, 1 << 40), end=0)}),
    "shape of 2^64 + 8": with_header({"a": entry(shape=((1 << 62) + 8,))}),
    "a million dimensions": with_header({"a": entry(shape=(1,) * 1_000_000)}),
    "span too small": with_header({"a": entry(shape=(4,))}),
    "three offsets": with_header({"a": entry() | {"data_offsets": [0, 32, 32]}}),
    "metadata is a list": with_header({"__metadata__": [], "a": entry()}),
    "metadata of numbers": with_header({"__metadata__": {"n": 1}, "a": entry()}),
    "cut short": GOOD[:-1],
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_headers_are_refused(tmp_path: Path, case: str) -> None:
    """Each way a header can lie about its file ends with one line that names the file."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN[case])

    with pytest.raises(TokenmillError, match=r"model\.safetensors"):
        read_header(path)


def test_a_good_header_is_read(tmp_path: Path) -> None:
    """Types, shapes and places are those that the safetensors library wrote."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(GOOD)
    tensors = read_header(path).tensors

    assert {name: (stored.dtype, stored.shape) for name, stored in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("BF16", (4,)),
        "c": ("F32", (0,)),
    }


def mutate(content: bytes, at: int, replacement: bytes, removed: int) -> bytes:
    at %= len(content) + 1
    return content[:at] + replacement + content[at + removed :]


@settings(max_examples=1500, deadline=None)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.binary(max_size=9) | st.sampled_from([b"9", b"-", b"[", b'"', b"}"]),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=3,
    )
)
@example(edits=[(7, b"\x7f", 1)])
def test_mutated_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, edits: list[Any]) -> None:
    """Any damage gives a `TokenmillError` or a layout that covers the whole file; nothing else, and little memory."""
    content = GOOD
    for at, replacement, removed in edits:
        content = mutate(content, at, replacement, removed)
    path = tmp_path_factory.mktemp("mutated") / "model.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        header = read_header(path)
        assert sum(stored.end - stored.begin for stored in header.tensors.values()) == len(content) - 8 - len(
            header.raw
        )
    except TokenmillError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shard", ["5GB", "8KB"])
def test_weights_written_by_transformers_are_loaded(tmp_path: Path, name: str, shard: str) -> None:
    """Single and sharded files of every family give each tensor of the model, equal, once and by its plain name."""
    model = save_model(tmp_path, name, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "8KB")
    config = read_config(tmp_path)
    index = check_weights(tmp_path, config)
    expected = {plain_name(key): value for key, value in model.state_dict().items()}
    if config.tied:
        del expected["lm_head.weight"]

    pairs = list(load_weights(index, torch.float32))
    assert [key for key, _ in pairs] == list(dict(pairs))
    assert set(dict(pairs)) == set(expected)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in pairs)
    assert index.parameters == sum(tensor.numel() for tensor in expected.values())


def test_loading_converts_and_copies(tmp_path: Path) -> None:
    """Tensors come in the type asked for and stay valid when the file is gone."""
    model = save_model(tmp_path, "llama")
    index = check_weights(tmp_path, read_config(tmp_path))
    pairs = dict(load_weights(index, torch.bfloat16))
    shutil.rmtree(tmp_path)

    assert {tensor.dtype for tensor in pairs.values()} == {torch.bfloat16}
    assert torch.equal(pairs["norm.weight"], model.state_dict()["model.norm.weight"].to(torch.bfloat16))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Changes the tensors of a model that was saved to one file."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_names_without_the_prefix_and_old_buffers_are_accepted(tmp_path: Path) -> None:
    """GPT-2 as first published has bare names, causal masks among the weights and the head stored twice."""
    model = save_model(tmp_path, "gpt2")

    def publish(tensors: dict[str, torch.Tensor]) -> None:
        for key in list(tensors):
            tensors[plain_name(key)] = tensors.pop(key)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
        tensors["h.1.attn.masked_bias"] = torch.tensor(-1e4)
        tensors["lm_head.weight"] = model.lm_head.weight.detach().clone()

    rewrite(tmp_path, publish)
    loaded = dict(load_weights(check_weights(tmp_path, read_config(tmp_path)), torch.float32))

    assert torch.equal(loaded["wte.weight"], model.transformer.wte.weight)
    assert not {"h.0.attn.bias", "lm_head.weight"} & set(loaded)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "tensor 'norm.weight' of shape [16] is missing"),
        (lambda tensors: tensors.pop("lm_head.weight"), "tensor 'lm_head.weight' of shape [400, 16] is missing"),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.zeros(17)}),
            "'model.norm.weight' has shape [17]; config.json makes it [16]",
        ),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.zeros(16, dtype=torch.int8)}),
            "'model.norm.weight' has type I8",
        ),
        (
            lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)}),
            "'model.layers.0.self_attn.q_proj.bias' has no place",
        ),
        (lambda tensors: tensors.update({"norm.weight": torch.zeros(16)}), "'norm.weight'"),
    ],
)
def test_tensors_that_differ_from_the_configuration_are_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    """Missing, misshapen, mistyped, unknown and repeated tensors are named, with what was expected and found."""
    save_model(tmp_path, "llama")
    rewrite(tmp_path, change)

    with pytest.raises(TokenmillError) as refusal:
        check_weights(tmp_path, read_config(tmp_path))
    assert words in str(refusal.value)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """The names that were looked for are in the error."""
    save_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()

    with pytest.raises(TokenmillError, match=r"neither model\.safetensors nor"):
        check_weights(tmp_path, read_config(tmp_path))
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(GOOD)
    with pytest.raises(TokenmillError, match=r"has model-00001-of-00002\.safetensors but neither"):
        check_weights(tmp_path, read_config(tmp_path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickled_weights_are_never_opened(tmp_path: Path, name: str) -> None:
    """A folder with only pickles is refused; the file could not even be read."""
    save_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).symlink_to("/proc/self/mem")

    with pytest.raises(TokenmillError, match=rf"{name}, a pickle.*never opened"):
        check_weights(tmp_path, read_config(tmp_path))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = tmp_path / "sharded"
    save_model(folder, "llama", max_shard_size="8KB")
    return folder


def first_shard(folder: Path) -> str:
    return sorted(path.name for path in folder.glob("*.safetensors"))[0]


def redirect(folder: Path, first: str, name: str) -> None:
    """Lets the index name another file for everything in the shard `first`."""
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = {key: name if file == first else file for key, file in index["weight_map"].items()}
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "..", "", "a/b.safetensors", "a\0b", "x" * 300])
def test_shards_outside_the_folder_are_refused(sharded: Path, name: str) -> None:
    """A shard's name must be a plain file name."""
    redirect(sharded, first_shard(sharded), name)

    with pytest.raises(TokenmillError, match="plain file name"):
        check_weights(sharded, read_config(sharded))


def test_missing_shards_are_named(sharded: Path) -> None:
    """Neither a missing file nor one that isn't safetensors is passed over."""
    name = first_shard(sharded)
    (sharded / name).rename(sharded / "other.bin")

    with pytest.raises(TokenmillError, match=rf"'{name}'.*isn't there"):
        check_weights(sharded, read_config(sharded))
    redirect(sharded, name, "other.bin")
    with pytest.raises(TokenmillError, match="isn't a safetensors file"):
        check_weights(sharded, read_config(sharded))


def test_an_index_that_differs_from_its_shards_is_refused(sharded: Path) -> None:
    """Tensors that are elsewhere than stated, or not stated at all, are named."""
    config, path = read_config(sharded), sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    stated = dict(index["weight_map"])

    for change in ({"model.norm.weight": ...}, {"model.extra": first_shard(sharded)}):
        edit_json(path, weight_map={key: file for key, file in (stated | change).items() if file is not ...})
        with pytest.raises(TokenmillError, match=r"tensor 'model\.(norm\.weight|extra)'"):
            check_weights(sharded, config)
    for weight_map in ([], {}, {"a": 1}, None):
        edit_json(path, weight_map=weight_map)
        with pytest.raises(TokenmillError, match="weight_map"):
            check_weights(sharded, config)


def test_links_may_not_leave_the_model(tmp_path: Path) -> None:
    """A link to somewhere else is refused; the links of a hub cache to its own blobs are followed."""
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    save_model(snapshot, "llama")
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir()
    (snapshot / "model.safetensors").rename(blobs / "123")
    (snapshot / "model.safetensors").symlink_to(os.path.relpath(blobs / "123", snapshot))
    config = read_config(snapshot)
    assert check_weights(snapshot, config).parameters

    (snapshot / "model.safetensors").unlink()
    (blobs / "123").rename(tmp_path / "elsewhere")
    (snapshot / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TokenmillError, match="links outside its folder"):
        check_weights(snapshot, config)
    (tmp_path / "elsewhere").unlink()
    with pytest.raises(TokenmillError, match="isn't there"):
        check_weights(snapshot, config)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe in place of the weights is refused without waiting for a writer."""
    save_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model.safetensors")

    with pytest.raises(TokenmillError, match="isn't a regular file"):
        check_weights(tmp_path, read_config(tmp_path))


def test_a_file_that_changes_after_the_check_is_refused(tmp_path: Path) -> None:
    """What is loaded has the shapes that were checked, or is an error."""
    save_model(tmp_path, "llama")
    index = check_weights(tmp_path, read_config(tmp_path))
    rewrite(tmp_path, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}))

    with pytest.raises(TokenmillError, match="changed while it was read"):
        list(load_weights(index, torch.float32))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(TokenmillError, match="can't be read"):
        list(load_weights(index, torch.float32))


def test_the_digest_tells_models_apart(tmp_path: Path) -> None:
    """It is the same for a copy, and another one once a weight, a setting or the template has changed."""
    save_model(tmp_path / "one", "llama")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = tmp_path / "one", tmp_path / "two"
    seen = []

    def current(limit: int = 1 << 30) -> str:
        return digest(two, check_weights(two, read_config(two)), limit)

    assert current() == digest(one, check_weights(one, read_config(one)))
    seen += [current(), current(0)]
    rewrite(two, lambda tensors: tensors["model.norm.weight"].mul_(2))
    seen += [current(), current(0)]
    edit_json(two / "config.json", rms_norm_eps=1e-5)
    seen.append(current())
    (two / "chat_template.jinja").write_text("{{ messages }}")
    seen.append(current())
    assert len(set(seen)) == len(seen)


def test_large_files_are_sampled_from_end_to_end(tmp_path: Path) -> None:
    """Above the limit the first and the last bytes count, and not every byte between."""
    save_model(tmp_path, "llama")
    path, index = tmp_path / "model.safetensors", check_weights(tmp_path, read_config(tmp_path))
    content = path.read_bytes()
    before = digest(tmp_path, index, full_limit=0, block=8)

    def flip(at: int) -> str:
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        return digest(tmp_path, index, full_limit=0, block=8)

    assert flip(len(content) - 1) != before
    assert flip(8 + len(index.headers[0][1].raw) + 100) == before
