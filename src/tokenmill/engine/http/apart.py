"""Asynchronous work for a synchronous caller that may itself be inside a running event loop, as in a notebook."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of `work`, from an event loop of its own in a thread that ends with it."""
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001  # raised again where it was waited for
            errors.append(error)

    thread = threading.Thread(target=target, name="tokenmill-survey", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
