"""Models that were made small answer as before: the bundled one, in both formats, with every request of a workload."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.loader.saved_models import byte_level_tokenizer, save_tokenizer, sentencepiece_tokenizer
from engine.loader.test_gguf import ODD
from quant.compressing import small, wide_model
from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.local.folder import ModelFolder, resolve
from tokenmill.engine.local.session import load_session
from tokenmill.engine.local.settings import make_plan
from tokenmill.engine.local.wire import Submit
from tokenmill.request import Request
from tokenmill.workload import Spec
from workload.reading import requests

OPTIONS = EngineOptions(slots=30, threads=1, dtype="fp32", kv_memory=256 << 20)


def answers(model: str, asked: list[Request]) -> list[str]:
    """What a worker would send for the requests, joined."""
    plan = make_plan(Node(name="one", engine="local", target=model), OPTIONS)
    session = load_session(plan.load)
    texts = [""] * len(asked)
    for key, request in enumerate(asked):
        assert session.submit(Submit(key, request, 0)) is None
    while session.has_work:
        for piece in session.step().pieces:
            texts[piece.key] += piece.text
    return texts


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Request]:
    return requests(Spec(source="sentences"), tmp_path_factory.mktemp("sentences"))


@pytest.fixture(scope="module")
def expected(asked: list[Request]) -> list[str]:
    return answers("demo", asked)


@pytest.mark.parametrize(("to", "name"), [("q8_0", "small.gguf"), ("w8a16", "small")])
def test_the_bundled_model_still_answers(
    tmp_path: Path, asked: list[Request], expected: list[str], to: str, name: str
) -> None:
    """All 30 answers are those of the original, word for word: greedy choices don't change."""
    small(resolve("demo"), tmp_path / name, to)

    assert answers(str(tmp_path / name), asked) == expected
    assert "The University of Chicago" in expected[0]


@pytest.mark.parametrize("name", ["llama", "llama_biased", "mistral", "qwen2", "qwen3", "gpt2"])
def test_our_own_files_hold_what_their_folders_hold(tmp_path: Path, name: str) -> None:
    """A GGUF file of floats loads as the folder that it was made of: weights, tokens and configuration."""
    import torch

    from tokenmill.engine.local.weights import load_weights

    make = sentencepiece_tokenizer if name in ("llama", "mistral") else byte_level_tokenizer
    begin, end = (make().token_to_id(token) for token in ("<s>", "</s>"))
    wide_model(name, bos_token_id=begin, eos_token_id=end).save_pretrained(tmp_path / "model")
    save_tokenizer(tmp_path / "model", make(), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    small(tmp_path / "model", tmp_path / "model.gguf", "bf16")
    folder, file = ModelFolder(tmp_path / "model"), ModelFolder(tmp_path / "model.gguf")
    expected, found = (dict(load_weights(one.index, torch.bfloat16)) for one in (folder, file))

    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    differing = {
        key for key in file.config.__struct_fields__ if getattr(file.config, key) != getattr(folder.config, key)
    }
    assert differing <= {"stored_dtype"} | ({"family", "sliding_window"} if name == "mistral" else set())
    for text in ODD:
        for special in (True, False):
            assert file.tokenizer.encode(text, special) == folder.tokenizer.encode(text, special)


def test_a_node_is_named_by_its_file(tmp_path: Path) -> None:
    """Reports show the file's name and not the way to it."""
    small(resolve("demo"), tmp_path / "tiny-q8.gguf", "q8_0")
    plan = make_plan(Node(name="one", engine="local", target=str(tmp_path / "tiny-q8.gguf")), OPTIONS)

    assert plan.facts.model == "tiny-q8.gguf"
    assert plan.facts.digest == f"{ModelFolder(tmp_path / 'tiny-q8.gguf').digest}-fp32"
