"""Answers thousands of prompts with language models, and proves how close to the limit the run came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenmill.driver.api import Answers, run
    from tokenmill.errors import TokenmillError

__version__ = "0.1.0"
__all__ = ["Answers", "TokenmillError", "__version__", "run"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: the command line's help needs none of them."""
    if name in ("Answers", "run"):
        from tokenmill.driver import api

        return getattr(api, name)
    if name == "TokenmillError":
        from tokenmill.errors import TokenmillError

        return TokenmillError
    raise AttributeError(f"module 'tokenmill' has no attribute {name!r}")
