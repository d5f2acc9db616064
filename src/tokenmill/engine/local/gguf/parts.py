"""One GGUF file as the parts of a model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tokenmill.engine.local.chat import ChatTemplate
from tokenmill.engine.local.digest import digest
from tokenmill.engine.local.gguf.config import read_config
from tokenmill.engine.local.gguf.tokenizer import make_tokenizer, special_texts
from tokenmill.engine.local.gguf.weights import check_weights
from tokenmill.engine.local.tokenizer import Tokenizer
from tokenmill.engine.local.weights import WeightIndex
from tokenmill.model.config import ModelConfig
from tokenmill.quant.gguf.reader import GgufFile, read_gguf

TEMPLATE = "tokenizer.chat_template"


class GgufParts:
    """The model in the GGUF file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _file(self) -> GgufFile:
        return read_gguf(self._path)

    def read_config(self) -> ModelConfig:
        return read_config(self._file)

    def read_tokenizer(self, config: ModelConfig) -> Tokenizer:
        return Tokenizer(self._path, config.vocab, make_tokenizer(self._file.metadata))

    def read_template(self) -> ChatTemplate | None:
        metadata = self._file.metadata
        if TEMPLATE not in metadata:
            return None
        return ChatTemplate(metadata.text(TEMPLATE), f"{self._path}, {TEMPLATE}", special_texts(metadata))

    def check_weights(self, config: ModelConfig) -> WeightIndex:
        return check_weights(self._file, config)

    def digest(self, index: WeightIndex) -> str:
        return digest(None, index)
