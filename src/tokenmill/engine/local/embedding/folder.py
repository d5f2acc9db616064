"""An encoder as a whole: its folder, read part by part when asked for. None of the parts loads torch."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

from tokenmill.engine.local.digest import digest
from tokenmill.engine.local.embedding.config import EncoderConfig, read_encoder_config
from tokenmill.engine.local.embedding.modules import LIMITS, Recipe, read_recipe
from tokenmill.engine.local.embedding.tokenizer import TextCutter
from tokenmill.engine.local.embedding.weights import check_encoder_weights
from tokenmill.engine.local.weights import WeightIndex
from tokenmill.model.fields import Fields
from tokenmill.model.files import BadModel, find_file, read_bytes, read_object

#: What the hub holds beside an encoder and isn't fetched: its other forms, and files deeper than a step's own.
LEFT_OUT = ("onnx/*", "openvino/*", "*/*.safetensors", "*/*/*")


class EncoderFolder:
    """The parts of one encoder, each read once and only when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise BadModel(f"{path}: an embedding model is a folder; name the one that holds config.json")

    @cached_property
    def config(self) -> EncoderConfig:
        return read_encoder_config(self.path)

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.path, self.config.hidden)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text that is read whole: what sentence-transformers cuts at."""
        stated, positions = self.recipe.longest, self.config.positions
        if stated is None:
            return min(self._of_tokenizer.size(("model_max_length",), 1 << 100, default=positions), positions)
        if stated > positions:
            raise BadModel(
                f"{self.path / LIMITS}: max_seq_length {stated} is more than the model's {positions} positions"
            )
        return stated

    @cached_property
    def tokenizer(self) -> TextCutter:
        side = self._of_tokenizer.choice(("truncation_side",), {"left": "left", "right": "right"}, "right")
        if self._of_tokenizer.faults:
            raise BadModel(f"{self.path / 'tokenizer_config.json'}: {self._of_tokenizer.faults[0]}")
        return TextCutter(
            self.path,
            self.config.vocab,
            longest=self.longest,
            lower=self.recipe.lower,
            side="left" if side == "left" else "right",
        )

    @cached_property
    def index(self) -> WeightIndex:
        return check_encoder_weights(self.path, self.config)

    @cached_property
    def digest(self) -> str:
        """One text that stands for the encoder: equal digests mean equal vectors."""
        total = hashlib.sha256(digest(self.path, self.index).encode())
        for name, path in self.recipe.files:
            total.update(f"\n{name}\0{hashlib.sha256(read_bytes(path)).hexdigest()}".encode())
        return total.hexdigest()

    @cached_property
    def _of_tokenizer(self) -> Fields:
        path = find_file(self.path, "tokenizer_config.json")
        return Fields({} if path is None else _whole(read_object(path)))


def _whole(said: object) -> dict[str, object]:
    """What tokenizer_config.json says; its word for no limit, 1e30, is a float where another program wrote it."""
    assert isinstance(said, dict)
    limit = said.get("model_max_length")
    return {**said, "model_max_length": int(limit)} if isinstance(limit, float) and limit >= 1 else said
