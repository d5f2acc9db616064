"""What is said when scipy is missing: which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tokenmill.errors import UsageError


@contextmanager
def needs_scipy(purpose: str) -> Iterator[None]:
    """Stands around an import of scipy; `purpose` is what can't be computed without it.

    Raises:
        UsageError: scipy isn't installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{purpose} needs {error.name}: pip install 'tokenmill[bench]'") from error
