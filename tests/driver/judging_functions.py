"""Functions that recipes of the tests name as validators."""

from __future__ import annotations

import contextlib

import psutil

from tokenmill.validate import Item


def picky(item: Item) -> object:
    """Raises over one word, as the validators of users do."""
    if "boom" in item.text:
        raise ZeroDivisionError("no such word")
    return True


def killing(item: Item) -> object:
    """Kills the worker of the embedding model over one word, as the system does that has no memory left."""
    if "shoot" in item.text:
        for worker in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        return False, "It is gone."
    return True
