"""The files of a model folder, opened with distrust: a folder may come from anyone.

A name is plain, a file is regular, and where it is a symlink it stays inside the folder or, for a hub cache whose
snapshots link to blobs, inside the cache of that one model. JSON is capped in size before it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tokenmill.errors import TokenmillError

#: Largest JSON file read whole, bytes. A tokenizer.json of 256k entries is about 35 MB.
JSON_LIMIT = 200_000_000


class BadModel(TokenmillError):
    """A model folder that can't be loaded, or that must not be."""


def home_of(folder: Path) -> Path:
    """Where the files of `folder` may really lie: the folder, or its whole model in a hub cache."""
    real = folder.resolve()
    for parent in real.parents:
        if parent.name.startswith("models--") and real.parent == parent / "snapshots":
            return parent
    return real


def find_file(folder: Path, name: str) -> Path | None:
    """The file `name` directly in `folder`, or None if there is none; refuses names and links that lead elsewhere."""
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0") or len(os.fsencode(name)) > 255:
        raise BadModel(f"{folder}: {name!r} isn't a plain file name; take the folder only from a source you trust")
    path = folder / name
    try:
        mode = path.stat().st_mode
        real = path.resolve(strict=True)
    except FileNotFoundError:
        if path.is_symlink():
            raise BadModel(f"{path} links to a file that isn't there; download the model again") from None
        return None
    except (OSError, RuntimeError) as error:
        raise BadModel(f"{path}: can't be opened ({error})") from error
    if not stat.S_ISREG(mode):
        raise BadModel(f"{path} isn't a regular file; replace it by the file of the model")
    if not real.is_relative_to(home_of(folder)):
        raise BadModel(f"{path} links outside its folder, to {real}; replace the link by the file")
    return path


def read_bytes(path: Path, limit: int = JSON_LIMIT) -> bytes:
    """The whole file, refused above `limit` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    if len(content) > limit:
        raise BadModel(f"{path} is larger than {limit} bytes; that isn't a file of a model")
    return content


def read_object(path: Path, limit: int = JSON_LIMIT) -> Mapping[str, object]:
    """The JSON object in `path`."""
    return parse_object(read_bytes(path, limit), str(path))


def parse_object(content: bytes, source: str) -> Mapping[str, object]:
    """The JSON object in `content`; `source` names it in errors."""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadModel(f"{source} isn't valid JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise BadModel(f"{source} holds a JSON {type(found).__name__} instead of an object; download it again")
    return found
