"""Which fault happens to a request; the same seed, prompt and attempt always draw the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from tokenmill.testing.fault import AnyFault


class Chooser:
    """The faults of a server, ready to be chosen from."""

    def __init__(self, faults: Sequence[AnyFault], seed: int, name: str) -> None:
        self._faults = [
            (index, fault, re.compile(fault.match), re.compile(fault.path) if fault.path else None)
            for index, fault in enumerate(faults)
        ]
        self._seed = f"{seed}:{name}"

    def for_text(self, path: str, prompt: str, attempt: int, number: int, seconds: float) -> AnyFault | None:
        """The fault of a request for text: the `attempt`-th at its prompt and the `number`-th on this server."""
        for index, fault, match, where in self._faults:
            if (
                (where is None or where.search(path))
                and _is_due(fault, number, seconds)
                and (fault.times is None or attempt <= fault.times)
                and match.search(prompt)
                and self._is_drawn(index, fault, prompt, attempt)
            ):
                return fault
        return None

    def for_listing(self, path: str, number: int, seconds: float) -> AnyFault | None:
        """The fault of the `number`-th request of any other kind with this path."""
        for index, fault, match, where in self._faults:
            if (
                where is not None
                and where.search(path)
                and _is_due(fault, number, seconds)
                and (fault.times is None or number <= fault.times)
                and match.search("")
                and self._is_drawn(index, fault, path, number)
            ):
                return fault
        return None

    def _is_drawn(self, index: int, fault: AnyFault, prompt: str, attempt: int) -> bool:
        return fault.share >= 1 or draw(f"{self._seed}:{index}:{attempt}:{prompt}") < fault.share


def _is_due(fault: AnyFault, number: int, seconds: float) -> bool:
    if fault.numbers and number not in fault.numbers:
        return False
    return fault.after <= seconds and (fault.until is None or seconds < fault.until)


def draw(text: str) -> float:
    """A number from 0 to 1 that follows from the text."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
