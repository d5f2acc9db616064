"""Folders of sentence-embedding models with random weights, written by transformers, and what it makes of texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

#: The shape of all-MiniLM-L6-v2, with a small vocabulary.
MINILM: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
#: Names as sentence-transformers 2 to 5 writes them, and as 6 does.
TYPES = {
    2: [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")],
    6: [
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.base.modules.normalize.Normalize",
    ],
}
SENTENCES = (
    "turn left at the red building and go straight past the church then right towards the river bridge "
    "fly over the field until you see a tower at three o'clock descend slowly Straße 日本 naïve 12 34"
)
WORDS = SENTENCES.split()


@cache
def wordpiece() -> Tokenizer:
    """A small WordPiece as BERT has it: words in small letters, [CLS] before and [SEP] behind."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(WORDS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def write_encoder(
    folder: Path,
    shape: dict[str, Any] = SMALL,
    *,
    pooling: str = "mean",
    normalize: bool = True,
    version: int = 2,
    longest: int | None = 48,
    lower: bool = False,
) -> Path:
    """A whole folder, as sentence-transformers of that version saves it."""
    tokenizer = wordpiece()
    torch.manual_seed(23)
    config = transformers.BertConfig(vocab_size=tokenizer.get_vocab_size(), initializer_range=0.1, **shape)
    model = transformers.BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # those that start as zeros or ones, or a lost one would not show
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": longest or 512}
    write_json(folder / "tokenizer_config.json", settings)
    kinds = TYPES[version][: 3 if normalize else 2]
    paths = ["", "1_Pooling", "2_Normalize"]
    parts = [{"idx": at, "name": str(at), "path": paths[at], "type": kind} for at, kind in enumerate(kinds)]
    write_json(folder / "modules.json", parts)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling_file(config.hidden_size, pooling, version))
    if version == 2:
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": lower})
    return folder


def pooling_file(hidden: int, mode: str, version: int) -> dict[str, Any]:
    if version == 6:
        return {"embedding_dimension": hidden, "pooling_mode": mode, "include_prompt": True}
    names = {
        "cls": "cls_token",
        "mean": "mean_tokens",
        "max": "max_tokens",
        "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    }
    return {"word_embedding_dimension": hidden} | {f"pooling_mode_{key}": mode == name for name, key in names.items()}


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def edit_json(path: Path, **changes: object) -> None:
    """Sets keys of a JSON object; `...` removes one."""
    values = (json.loads(path.read_text()) if path.exists() else {}) | changes
    write_json(path, {key: value for key, value in values.items() if value is not ...})


def make_texts(count: int, most_words: int, seed: int = 5) -> list[str]:
    """Texts of 1 to `most_words` words, no two alike."""
    draw = np.random.default_rng(seed)
    found = [" ".join(draw.choice(WORDS, size=draw.integers(1, most_words + 1))) for _ in range(count)]
    return [f"{text} {number}" for number, text in enumerate(found)]


@torch.inference_mode()
def reference(
    folder: Path, texts: Sequence[str], *, longest: int, pooling: str = "mean", normalize: bool = True
) -> NDArray[np.float32]:
    """What transformers makes of each text alone, pooled by the book."""
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    vectors = []
    for text in texts:
        inputs = tokenizer(text, truncation="longest_first", max_length=longest, return_tensors="pt")
        states = model(input_ids=inputs["input_ids"]).last_hidden_state[0]
        vector = states.mean(0) if pooling == "mean" else states[0]
        vectors.append(torch.nn.functional.normalize(vector, dim=0) if normalize else vector)
    return torch.stack(vectors).numpy()
