"""What a folder must say before its vectors are believed, and which texts share a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.embedding.encoders import edit_json, write_encoder, write_json
from tokenmill.engine.embedding import distinct, parts_of
from tokenmill.engine.local.embedding.batches import STEP, cut_batches
from tokenmill.engine.local.embedding.folder import EncoderFolder
from tokenmill.errors import TokenmillError

POOLING, LIMITS, PROMPTS = "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"
THEIRS = "sentence_transformers.models."


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / name, **changes)


def put(name: str, value: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, value)


def modules(*kinds: str) -> list[dict[str, object]]:
    return [{"idx": at, "path": "", "type": kind} for at, kind in enumerate(kinds)]


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no modules": (lambda folder: (folder / "modules.json").unlink(), "doesn't say how words become one vector"),
    "modules are no list": (put("modules.json", {}), "isn't a list of modules"),
    "a dense layer": (
        put("modules.json", modules(THEIRS + "Transformer", THEIRS + "Pooling", THEIRS + "Dense")),
        "Transformer, Pooling, Dense aren't supported",
    ),
    "code of its own": (put("modules.json", modules("custom.Transformer")), "is never run"),
    "a module with options": (
        put("modules.json", [{"idx": 0, "type": THEIRS + "Transformer", "kwargs": {}}]),
        "unknown field `kwargs`",
    ),
    "a pooling elsewhere": (
        put(
            "modules.json",
            [*modules(THEIRS + "Transformer"), {"idx": 1, "path": "../x", "type": THEIRS + "Pooling"}],
        ),
        "isn't a plain name",
    ),
    "no pooling": (lambda folder: (folder / POOLING).unlink(), "isn't there; download the whole model"),
    "two poolings": (edit(POOLING, pooling_mode_cls_token=True), "isn't supported; known: mean, cls"),
    "the largest of all": (edit(POOLING, pooling_mode_max_tokens=True, pooling_mode_mean_tokens=False), r"\['max'\]"),
    "no pooling at all": (edit(POOLING, pooling_mode_mean_tokens=False), "known: mean, cls"),
    "another size": (edit(POOLING, word_embedding_dimension=64), "64 isn't the encoder's 32"),
    "prompts left out": (edit(POOLING, include_prompt=False), "include_prompt False isn't supported"),
    "an unknown key": (edit(POOLING, pooling_mode_new=True), "pooling_mode_new isn't known here"),
    "an unknown limit": (edit(LIMITS, query_length=32), "query_length 32 isn't supported"),
    "longer than its positions": (edit(LIMITS, max_seq_length=65), "65 is more than the model's 64 positions"),
    "no room for a word": (edit(LIMITS, max_seq_length=2), "max_seq_length 2 is out of range"),
    "a prompt for all": (
        edit(PROMPTS, default_prompt_name="query", prompts={"query": "q: "}),
        "default_prompt_name 'query'",
    ),
    "a decoder": (edit("config.json", model_type="llama"), "model_type 'llama' makes no sentence embeddings"),
    "code that came with it": (edit("config.json", auto_map={"AutoModel": "x.Y"}), "never done"),
    "relative positions": (
        edit("config.json", position_embedding_type="relative_key"),
        "'relative_key' isn't supported",
    ),
    "quantized": (edit("config.json", quantization_config={"quant_method": "gptq"}), "original weights"),
    "other sizes": (edit("config.json", num_hidden_layers=3), "layer.2.attention.self.query.weight.* is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_vectors_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """A wrong or unknown word in any of the files ends with a sentence that names it."""
    folder = write_encoder(tmp_path)
    change, told = REFUSED[name]
    change(folder)

    with pytest.raises(TokenmillError, match=told):
        found = EncoderFolder(folder)
        assert found.digest
        assert found.tokenizer


@pytest.mark.parametrize(
    ("longest", "said", "expected"), [(20, 512, 20), (None, 30, 30), (None, 1e30, 64), (None, ..., 64)]
)
def test_the_longest_text_is_that_of_sentence_transformers(
    tmp_path: Path, longest: int | None, said: object, expected: int
) -> None:
    """What the folder states, else the tokenizer's limit, never more than there are positions."""
    folder = write_encoder(tmp_path, longest=longest)
    edit_json(folder / "tokenizer_config.json", model_max_length=said)

    assert EncoderFolder(folder).longest == expected


def test_another_way_to_one_vector_is_another_digest(tmp_path: Path) -> None:
    """Weights alone don't tell two models apart."""
    found = set()
    ways: list[dict[str, Any]] = [{}, {"pooling": "cls"}, {"normalize": False}, {"longest": 20}]
    for number, how in enumerate(ways):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.add(EncoderFolder(write_encoder(folder, **how)).digest)
    assert len(found) == 4


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A pooling file may not lead elsewhere, but for the blobs of its model in a hub cache."""
    snapshot = tmp_path / "models--org--name" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    folder = write_encoder(snapshot)
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir()
    (folder / POOLING).rename(blobs / "abc")
    (folder / POOLING).symlink_to(blobs / "abc")
    assert EncoderFolder(folder).recipe.pooling == "mean"

    (blobs / "abc").rename(tmp_path / "outside")
    (folder / POOLING).unlink()
    (folder / POOLING).symlink_to(tmp_path / "outside")
    with pytest.raises(TokenmillError, match="links outside its folder"):
        assert EncoderFolder(folder).recipe


@settings(deadline=None)
@given(st.lists(st.integers(1, 256), max_size=300), st.integers(1, 4096))
def test_batches_hold_each_text_once_at_the_width_of_its_own(lengths: list[int], tokens: int) -> None:
    """Every text is in one batch, as wide as its length alone needs, whatever else is computed with it."""
    batches = cut_batches(lengths, 256, tokens)

    assert sorted(text for batch in batches for text in batch.texts) == list(range(len(lengths)))
    for batch in batches:
        assert all(lengths[text] <= batch.width < lengths[text] + STEP for text in batch.texts)
        assert len(batch.texts) == 1 or len(batch.texts) * batch.width <= tokens


@given(st.lists(st.text("ab", max_size=4)), st.integers(1, 5), st.integers(1, 9))
def test_texts_are_taken_once_and_in_order(texts: list[str], most: int, letters: int) -> None:
    """What is computed once is found again at each of its places, and parts keep to their limits."""
    once, where = distinct(texts)
    parts = list(parts_of(once, most, letters))

    assert [once[place] for place in where] == texts
    assert [text for part in parts for text in part] == once
    assert len(set(once)) == len(once)
    assert all(len(part) <= most and (len(part) == 1 or sum(map(len, part)) <= letters) for part in parts)
