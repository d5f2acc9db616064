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
            (number, fault, re.compile(fault.match), re.compile(fault.path)) for number, fault in enumerate(faults)
        ]
        self._seed = f"{seed}:{name}"

    def choose(self, prompt: str, attempt: int, number: int, seconds: float) -> AnyFault | None:
        """The fault of a request for text: the `attempt`-th at its prompt and the `number`-th on this server."""
        for index, fault, match, _ in self._faults:
            if fault.path or (fault.numbers and number not in fault.numbers):
                continue
            if fault.times is not None and attempt > fault.times:
                continue
            if self._fits(fault, seconds) and match.search(prompt) and self._drawn(index, fault, prompt, attempt):
                return fault
        return None

    def for_path(self, path: str, number: int, seconds: float) -> AnyFault | None:
        """The fault of a request whose path is named by the fault itself."""
        for index, fault, _, pattern in self._faults:
            if fault.path and pattern.search(path) and self._fits(fault, seconds):
                if fault.numbers and number not in fault.numbers:
                    continue
                if self._drawn(index, fault, path, number):
                    return fault
        return None

    def _fits(self, fault: AnyFault, seconds: float) -> bool:
        return fault.after <= seconds and (fault.until is None or seconds < fault.until)

    def _drawn(self, index: int, fault: AnyFault, prompt: str, attempt: int) -> bool:
        if fault.share >= 1:
            return True
        text = f"{self._seed}:{index}:{attempt}:{prompt}".encode("utf-8", "replace")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") < fault.share * 2**64
