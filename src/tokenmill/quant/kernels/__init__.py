"""Fast twins of the NumPy reference: the same bytes, compiled by numba while nobody holds the interpreter's lock.

Only this package imports numba. Without it the reference does the work, only slower.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

_COMPILING = threading.Lock()


@contextmanager
def without_scipy() -> Iterator[None]:
    """Has numba start without SciPy, which it would load for functions that no kernel calls: 17 MB and 0.2 s.

    For processes that do nothing else meanwhile, as an import of SciPy in another thread would fail.
    """
    is_hidden = "scipy" not in sys.modules
    if is_hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment] # what the import system takes for: not there
    try:
        yield
    finally:
        if is_hidden:
            del sys.modules["scipy"]


def kernel(module: str, name: str, element: str, arguments: str) -> Callable[..., Any] | None:
    """The kernel `name` of a module of this package for weights of a type, compiled once; None without numba.

    `arguments` says what follows the weights: a `b` for each flat array of bytes, an `i` for each whole number.
    """
    with _COMPILING:  # threads that start together must not compile the same kernel twice
        return _kernel(module, name, element, arguments)


@cache
def _kernel(module: str, name: str, element: str, arguments: str) -> Callable[..., Any] | None:
    try:
        compiler = import_module("tokenmill.quant.kernels.compile")
    except ImportError:
        return None
    function = getattr(import_module(f"tokenmill.quant.kernels.{module}"), name)
    kinds = {"b": compiler.OUTPUT, "i": compiler.types.intp}
    made: Callable[..., Any] = compiler.compiled(
        function, compiler.weights(element), *(kinds[each] for each in arguments)
    )
    return made
