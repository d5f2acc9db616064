"""A model is found by what the user names, and turns requests into the tokens of its prompts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from engine.loader.saved_models import (
    byte_level_tokenizer,
    edit_json,
    save_model,
    save_tokenizer,
    sentencepiece_tokenizer,
)
from tokenmill.engine.local.folder import ModelFolder, resolve
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.request import Message, Request

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def ask(prompt: str | None = None, *messages: Message) -> Request:
    return Request(row=0, custom_id="row-1", prompt=prompt, messages=messages)


def test_an_existing_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute and relative paths and `~` lead to the folder."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert resolve(str(tmp_path / "org")) == tmp_path / "org"
    assert resolve("org/name").resolve() == tmp_path / "org" / "name"
    assert resolve("~/org") == tmp_path / "org"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("gtp2", "doesn't have the form org/name"),
        ("", "doesn't have the form org/name"),
        ("../secret/x", "doesn't have the form org/name"),
        ("org/../x", "doesn't have the form org/name"),
        ("org/na..me", "doesn't have the form org/name"),
        ("org/name/more", "doesn't have the form org/name"),
        ("org/na me", "doesn't have the form org/name"),
        ("a\0b", "doesn't have the form org/name"),
        ("~no-such-user/model", "can't be a path"),
        ("x" * 5000, "can't be a path"),
    ],
)
def test_names_that_cannot_be_a_model_are_refused(target: str, words: str) -> None:
    """Without asking any network; the error shows the form of a name and the bundled model."""
    with pytest.raises(UsageError) as refusal:
        resolve(target)

    assert words in str(refusal.value)
    assert "demo" in str(refusal.value)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    """The user is told to name its folder."""
    (tmp_path / "model.safetensors").touch()

    with pytest.raises(UsageError, match="is a file; name the folder"):
        resolve(str(tmp_path / "model.safetensors"))


def resolve_elsewhere(target: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a process with other hub settings, which are read at import, makes of a target."""
    code = (
        "import sys\nfrom tokenmill.engine.local.folder import resolve\nfrom tokenmill.errors import UsageError\n"
        "try: print(resolve(sys.argv[1]))\nexcept UsageError as error: print(error, file=sys.stderr)"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code, target], env=clean | environment, capture_output=True, text=True, check=True
    )


def test_the_bundled_model_is_complete() -> None:
    """`demo` leads to a folder whose weights, tokenizer and chat template fit together."""
    folder = ModelFolder(resolve("demo"))

    assert folder.index.parameters > 100_000
    assert folder.encode_request(ask("hello"))
    assert folder.template is not None


@pytest.mark.parametrize("settings", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_hub_that_cannot_be_reached_is_one_clear_error(tmp_path: Path, settings: dict[str, str]) -> None:
    """Offline by choice or by fault, the error names the model and the ways out, in one line."""
    found = resolve_elsewhere("some-org/some-model", HF_HOME=str(tmp_path), **settings)

    assert found.stdout == ""
    message = found.stderr.strip().splitlines()[-1]
    assert message.startswith("model 'some-org/some-model': there is no such folder, and it can't be had from the hub")
    assert "'demo'" in message


def test_a_downloaded_model_is_found_offline(tmp_path: Path) -> None:
    """HF_HOME is honoured and its cache needs no network."""
    repository = tmp_path / "hub" / "models--some-org--some-model"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)

    found = resolve_elsewhere("some-org/some-model", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert Path(found.stdout.strip()) == snapshot


@pytest.fixture
def chat_folder(tmp_path: Path) -> Path:
    save_model(tmp_path, "llama")
    save_tokenizer(tmp_path, sentencepiece_tokenizer(), bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE)
    return tmp_path


def test_prompts_and_messages_pass_the_chat_template(chat_folder: Path) -> None:
    """A bare prompt is a user's message, and the beginning token comes once, from the template alone."""
    folder = ModelFolder(chat_folder)
    oracle = PreTrainedTokenizerFast.from_pretrained(chat_folder)
    turns = [Message("system", "be brief"), Message("user", "the fox")]

    expected = oracle.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in turns], add_generation_prompt=True
    )["input_ids"]
    assert folder.encode_request(ask(None, *turns)) == expected
    tokens = folder.encode_request(ask("the fox"))
    assert tokens == folder.encode_request(ask(None, Message("user", "the fox")))
    assert tokens.count(sentencepiece_tokenizer().token_to_id("<s>")) == 1


def test_without_a_template_a_prompt_is_continued(chat_folder: Path) -> None:
    """The prompt stands as it is, after the tokenizer's own beginning token."""
    edit_json(chat_folder / "tokenizer_config.json", chat_template=...)
    oracle = PreTrainedTokenizerFast.from_pretrained(chat_folder)

    assert ModelFolder(chat_folder).encode_request(ask("the fox")) == oracle("the fox")["input_ids"]


def test_messages_need_a_template(chat_folder: Path) -> None:
    """A model without one refuses them, naming the request."""
    edit_json(chat_folder / "tokenizer_config.json", chat_template=...)

    with pytest.raises(TokenmillError, match=r"'row-1' has messages, but .* has no chat template"):
        ModelFolder(chat_folder).encode_request(ask(None, Message("user", "the fox")))


def test_a_prompt_without_tokens_is_refused(tmp_path: Path) -> None:
    """There is nothing to continue from."""
    save_model(tmp_path, "gpt2")
    save_tokenizer(tmp_path, byte_level_tokenizer())

    with pytest.raises(TokenmillError, match="'row-1' is empty"):
        ModelFolder(tmp_path).encode_request(ask(""))


def test_the_parts_of_a_folder_belong_together(chat_folder: Path) -> None:
    """Config, weights, decoder and digest are those of the model that was saved."""
    folder = ModelFolder(chat_folder)
    decoder = folder.decoder()
    ids = folder.tokenizer.encode("the fox", add_special=True)

    assert "".join([*map(decoder.feed, ids), decoder.flush()]) == "the fox"
    assert folder.config.family == "llama"
    assert set(folder.index.places) >= {"embed_tokens.weight", "lm_head.weight"}
    assert folder.digest == ModelFolder(chat_folder).digest
    assert len(folder.digest) == 64


def test_a_tokenizer_of_another_model_is_refused(chat_folder: Path) -> None:
    """A vocabulary larger than the model's is found before anything is loaded."""
    edit_json(chat_folder / "config.json", vocab_size=300)

    with pytest.raises(TokenmillError, match="vocab_size of 300"):
        ModelFolder(chat_folder).encode_request(ask("x"))
