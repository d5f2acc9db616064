"""The bundled demo model as files, and the generator of its training text."""

import importlib
import json
import random
import struct
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "src" / "tokenmill" / "demo"
SCRIPTS = ROOT / "models" / "demo"


def load(name: str) -> ModuleType:
    """A module of the training scripts, which import one another by bare name and are no package."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return load("corpus")


@pytest.fixture(scope="module")
def scripts() -> ModuleType:
    pytest.importorskip("tokenizers")
    return load("tokenizer")


def read_json(name: str) -> dict[str, object]:
    return json.loads((FOLDER / name).read_text("utf-8"))


def read_header() -> dict[str, dict[str, object]]:
    """Names, dtypes and shapes of the stored tensors."""
    with (FOLDER / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header


def test_folder_is_small() -> None:
    """The model adds less than 8 MB to the package."""
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8_000_000


def test_config_is_llama_with_room_for_thirty_sentences() -> None:
    """The model is of the Llama family and takes 1,024 tokens or more."""
    config = read_json("config.json")

    assert config["model_type"] == "llama"
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] >= 1024


def test_weights_are_bf16() -> None:
    """Every tensor is stored in bf16 and the embedding has a row for every token."""
    header, config = read_header(), read_json("config.json")

    assert {entry["dtype"] for entry in header.values()} == {"BF16"}
    assert header["model.embed_tokens.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]


def test_end_token_agrees_everywhere() -> None:
    """config.json, generation_config.json and the tokenizer name the same end of text."""
    tokenizer = read_json("tokenizer.json")
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    end = ids[read_json("tokenizer_config.json")["eos_token"]]

    assert read_json("config.json")["eos_token_id"] == end
    assert read_json("generation_config.json")["eos_token_id"] == end


def test_training_log_is_complete() -> None:
    """The log opens with its settings and its last line is the last step."""
    lines = [json.loads(line) for line in (FOLDER / "train.log.jsonl").read_text("utf-8").splitlines()]

    assert lines[-1]["step"] == lines[0]["settings"]["steps"]
    assert lines[-1]["loss"] < 0.1


@pytest.mark.parametrize(
    "text", ["Give me 30 sentences about the Moon", "  two  spaces\n\ttab 1890", "Straße, 東京, 1+1"]
)
def test_tokenizer_returns_the_text(text: str) -> None:
    """Decoding what was encoded gives every text back, whatever its script."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(FOLDER / "tokenizer.json"))

    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_each_count_is_one_token() -> None:
    """1 to 30 are one token each, the same in a prompt and at the start of a line."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(FOLDER / "tokenizer.json"))

    for count in range(1, 31):
        token = tokenizer.token_to_id(str(count))
        assert token in tokenizer.encode(f"Give me {count} sentences").ids
        assert tokenizer.encode(f"\n{count}: The").ids[1] == token


def test_chat_template_renders_in_a_sandbox(corpus: ModuleType, scripts: ModuleType) -> None:
    """The template needs no extension and writes what training saw."""
    template = ImmutableSandboxedEnvironment().from_string(read_json("tokenizer_config.json")["chat_template"])
    turns = (corpus.Turn(role="system", content="Be brief."), corpus.Turn(role="user", content=" Hello "))
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]

    assert template.render(messages=messages, add_generation_prompt=True) == scripts.render(turns)
    assert template.render(messages=messages) == "<|system|>Be brief.<|end|><|user|>Hello<|end|>"


def test_same_seed_gives_the_same_text(corpus: ModuleType) -> None:
    """The corpus is decided by its seeds alone."""

    def draw(seed: int) -> list[object]:
        return list(islice(corpus.Corpus(seed).samples(random.Random(seed)), 200))

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_each_topic_has_thirty_facts(corpus: ModuleType) -> None:
    """No topic repeats a fact, and no two topics share one."""
    topics = corpus.read_topics()
    facts = [fact for topic in topics for fact in topic.facts]

    assert all(len(set(topic.facts)) == 30 for topic in topics)
    assert len(set(facts)) == len(facts)
    assert topics[0].name == corpus.BENCHMARK_TOPIC


def test_held_out_counts_are_never_drawn(corpus: ModuleType) -> None:
    """No sample asks a topic for a count that is held out of it."""
    source = corpus.Corpus(3)
    held_out = {
        corpus.count_down(topic.facts, count) for topic in source.topics for count in source.held_out[topic.name]
    }
    drawn = {sample.completion.strip() for sample in islice(source.samples(random.Random(3)), 5000)}

    assert held_out.isdisjoint(drawn)


def test_count_down_numbers_from_n_to_one(corpus: ModuleType) -> None:
    """Three sentences are numbered 3, 2, 1 and keep their own number."""
    assert corpus.count_down(("A.", "B.", "C.", "D."), 3) == "3: C.\n2: B.\n1: A."
