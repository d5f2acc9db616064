"""One text that stands for a model: equal digests mean equal arithmetic, tokens and prompts.

Small files count in full. Weight files count with name, size and header, and in full up to 1 GiB in all (about a
second); of larger ones 64 blocks of 1 MiB, evenly spread over each file, count, which tells models and
fine-tunings apart but not every single changed byte.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tokenmill.engine.local.weights import WeightIndex
from tokenmill.model.files import BadModel, find_file, read_bytes
from tokenmill.model.safetensors import Header

FULL_LIMIT = 1 << 30
BLOCK = 1 << 20
BLOCKS = 64
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)


def digest(folder: Path | None, index: WeightIndex, full_limit: int = FULL_LIMIT, block: int = BLOCK) -> str:
    """The digest of the model in `folder` as 64 hexadecimal digits; None for a model whose one file says it all."""
    total = hashlib.sha256()
    for name in SMALL_FILES if folder is not None else ():
        path = find_file(folder, name) if folder is not None else None
        if path is not None:
            total.update(f"{name}\0{hashlib.sha256(read_bytes(path)).hexdigest()}\n".encode())
    in_full = sum(header.size for _, header in index.headers) <= full_limit
    for path, header in index.headers:
        content = _hash_weights(path, header, None if in_full else block)
        name = path.name if folder is not None else "model.gguf"
        total.update(f"{name}\0{header.size}\0{hashlib.sha256(header.raw).hexdigest()}\0{content}\n".encode())
    return total.hexdigest()


def _hash_weights(path: Path, header: Header, block: int | None) -> str:
    try:
        with path.open("rb") as file:
            if block is None:
                return hashlib.file_digest(file, "sha256").hexdigest()
            found = hashlib.sha256()
            for at in range(BLOCKS):
                file.seek(max(0, header.size - block) * at // (BLOCKS - 1))
                found.update(file.read(block))
            return found.hexdigest()
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
