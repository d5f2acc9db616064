"""Compiles kernels and keeps the machine code for the next start.

No kernel may use fast-math: reassociation would change sums and remove the rounding that makes bytes exact. Machine
code is kept under the user's cache folder, apart for every state of the kernels' sources: numba looks only at the file
of the outermost function, and would run old code after a change of one that it calls. Where nothing can be written,
kernels are compiled anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numba
import platformdirs
from numba import types

#: Weights as the bits of a type. F16 is told from BF16 by a signed word: the bytes are the same.
WORDS = {"BF16": types.uint16, "F16": types.int16, "F32": types.uint32}

#: Bytes that a kernel writes, one after the other.
OUTPUT = types.Array(types.uint8, 1, "C", aligned=False)


def weights(element: str) -> Any:
    """The type of a flat array of weights: it may be read-only, and may start anywhere."""
    return types.Array(WORDS[element], 1, "C", readonly=True, aligned=False)


@cache
def cache_folder() -> str:
    """Where machine code of the kernels as they are now is kept."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(chosen) if chosen else Path(platformdirs.user_cache_dir("tokenmill")) / "numba"
    return str(root / digest.hexdigest()[:16])


def compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """`function` as machine code for arguments of these types; it lets other threads run."""
    try:
        return _compile(function, arguments, keep=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        UnpicklingError,
    ):  # the cache's folder can't be made or written, or is damaged
        return _compile(function, arguments, keep=False)


def _compile(function: Callable[..., Any], arguments: tuple[Any, ...], keep: bool) -> Callable[..., Any]:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = cache_folder() if keep else before
    try:
        build = numba.njit(nogil=True, cache=keep, error_model="numpy", fastmath=False)(function)
        build.compile(arguments)
    finally:
        numba.config.CACHE_DIR = before
    made: Callable[..., Any] = build
    return made
