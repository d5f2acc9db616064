"""A model with random weights, for sweeps that need one and were given none: what is fast or slow is its shape."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import tokenmill
from tokenmill.errors import UsageError

DEMO = Path(tokenmill.__file__).parent / "demo"
SEED = 20261121


def write_model(folder: Path, shape: dict[str, int]) -> Path:
    """Writes a GPT-2 of this `shape` (fields of its configuration) unless it is there; returns the folder.

    Weights are by the family's own initialisation and always the same. It has the tokenizer of the demo, and no end
    token, so that every answer has all its tokens. The folder appears whole or not at all.

    Raises:
        UsageError: a library is missing, or the folder can't be written.
    """
    if folder.exists():
        return folder
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _fill(part, shape)
        part.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder}: the model can't be written ({error.strerror}); use --bench-dir") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _fill(folder: Path, shape: dict[str, int]) -> None:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise UsageError(
            f"a model with random weights needs {error.name}: pip install 'tokenmill[local]' transformers; or name "
            "nodes with --node"
        ) from error
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, folder)
    vocab = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(SEED)
    config = transformers.GPT2Config(**shape, vocab_size=vocab, eos_token_id=None, bos_token_id=None, pad_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)  # it names end tokens of another vocabulary
