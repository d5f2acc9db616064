"""Fast twins of the NumPy reference: the same bytes, compiled by numba while nobody holds the interpreter's lock.

Only this package imports numba. Without it the reference does the work, only slower.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

_COMPILING = threading.Lock()


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
