"""A model as a whole: found by what the user named, opened part by part when asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenmill.engine.local.chat import ChatTemplate
from tokenmill.engine.local.decoding import IncrementalDecoder
from tokenmill.engine.local.parts import open_parts
from tokenmill.engine.local.tokenizer import BadText, Tokenizer
from tokenmill.engine.local.weights import WeightIndex
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.model.config import ModelConfig
from tokenmill.request import Message, Request

DEMO = "demo"
GGUF = ".gguf"
#: What a model needs: no pickle, no code.
DOWNLOADED = ("*.safetensors", "*.json", "*.jinja")
#: Where a model of the hub keeps copies of itself in other forms.
SUBFOLDERS = ("*/*",)

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")


class UnknownModel(UsageError):
    """A target that is neither a folder nor a model that can be downloaded."""


class NoChatTemplate(TokenmillError):
    """Messages for a model that only continues text."""


def resolve(target: str, left_out: Sequence[str] = SUBFOLDERS) -> Path:
    """The place of a model: the bundled `demo`, an existing folder or GGUF file, or a model of the hub.

    A model of the hub is downloaded if need be, except for what fits one of the patterns `left_out`.
    """
    if target == DEMO:
        return _demo()
    try:
        path = Path(target).expanduser()
        if target and path.is_dir():
            return path
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:
        raise UnknownModel(
            f"model {target!r} can't be a path ({error}); name a folder, org/name or {DEMO!r}"
        ) from error
    if is_file and path.suffix.lower() == GGUF:
        return path
    if is_file:
        raise UnknownModel(
            f"model {target!r} is a file; name the folder that holds config.json and model.safetensors, "
            f"or a {GGUF} file"
        )
    if not _HUB_ID.fullmatch(target) or ".." in target:
        raise UnknownModel(
            f"model {target!r}: there is no such folder, and it doesn't have the form org/name of a model on the hub; "
            f"the bundled model is {DEMO!r}"
        )
    return _download(target, left_out)


def _demo() -> Path:
    path = Path(__file__).parents[2] / DEMO
    if not (path / "config.json").is_file():
        raise UnknownModel(f"model {DEMO!r} isn't part of this installation ({path}); install tokenmill again")
    return path


def _download(name: str, left_out: Sequence[str]) -> Path:
    """The hub's snapshot of a model, from its cache (HF_HOME) when that is complete or nothing else can be reached."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), ignore_patterns=list(left_out)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise UnknownModel(
            f"model {name!r}: there is no such folder, and it can't be had from the hub ({reason}); "
            f"download it where there is a network and name its folder, or use {DEMO!r}"
        ) from error


class ModelFolder:
    """The parts of one model, each read once and only when needed; none of them loads torch.

    `path` is its folder, or the GGUF file that stands for one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts = open_parts(path)

    @cached_property
    def config(self) -> ModelConfig:
        return self._parts.read_config()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self._parts.read_tokenizer(self.config)

    @cached_property
    def template(self) -> ChatTemplate | None:
        return self._parts.read_template()

    @cached_property
    def index(self) -> WeightIndex:
        return self._parts.check_weights(self.config)

    @cached_property
    def digest(self) -> str:
        return self._parts.digest(self.index)

    def decoder(self) -> IncrementalDecoder:
        """A decoder for one answer."""
        return self.tokenizer.decoder()

    def encode_request(self, request: Request) -> list[int]:
        """The prompt's tokens; never none.

        With a chat template a bare prompt is a user's message, and the template alone decides on special tokens.
        Without one, or if the request asks for it, it is continued as it stands, with the special tokens the tokenizer
        adds.
        """
        messages = request.messages or (Message("user", request.prompt or ""),)
        if self.template is not None and not request.raw:
            tokens = self.tokenizer.encode(self.template.render(messages), add_special=False)
        elif request.messages:
            raise NoChatTemplate(
                f"request {request.custom_id!r} has messages, but {self.path} has no chat template; "
                "give a prompt, or take a model made for chats"
            )
        else:
            tokens = self.tokenizer.encode(request.prompt or "", add_special=True)
        if not tokens:
            raise BadText(f"request {request.custom_id!r} is empty: no token to continue from; give it some text")
        return tokens
