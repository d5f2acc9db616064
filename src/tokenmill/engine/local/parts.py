"""What a model is loaded from: a folder as transformers writes it, or one file that holds the same facts."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tokenmill.engine.local.chat import ChatTemplate, read_template
from tokenmill.engine.local.digest import digest
from tokenmill.engine.local.tokenizer import Tokenizer
from tokenmill.engine.local.weights import WeightIndex, check_weights
from tokenmill.model.config import ModelConfig, make_config, read_generation, read_raw_config
from tokenmill.quant.compressed.scheme import is_compressed, read_encoding


class Parts(Protocol):
    """Reads the parts of one model, each when it is asked for; none of them loads torch."""

    def read_config(self) -> ModelConfig: ...

    def read_tokenizer(self, config: ModelConfig) -> Tokenizer: ...

    def read_template(self) -> ChatTemplate | None: ...

    def check_weights(self, config: ModelConfig) -> WeightIndex: ...

    def digest(self, index: WeightIndex) -> str: ...


def open_parts(path: Path) -> Parts:
    """The parts of the model at `path`: a folder, or a GGUF file."""
    if path.is_dir():
        return FolderParts(path)
    from tokenmill.engine.local.gguf.parts import GgufParts

    return GgufParts(path)


class FolderParts:
    """A folder with config.json and safetensors files, whose matrices compressed-tensors may have packed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read_config(self) -> ModelConfig:
        config, path = read_raw_config(self._path)
        if is_compressed(config):
            read_encoding(config, path)
            config = {key: value for key, value in config.items() if key != "quantization_config"}
        return make_config(config, read_generation(self._path), path)

    def read_tokenizer(self, config: ModelConfig) -> Tokenizer:
        return Tokenizer(self._path, config.vocab)

    def read_template(self) -> ChatTemplate | None:
        return read_template(self._path)

    def check_weights(self, config: ModelConfig) -> WeightIndex:
        stated, path = read_raw_config(self._path)
        packed = read_encoding(stated, path) if is_compressed(stated) else None
        return check_weights(self._path, config, packed)

    def digest(self, index: WeightIndex) -> str:
        return digest(self._path, index)
