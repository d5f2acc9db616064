"""Ends an answer at a stop string, however the text is split on its way.

The first stop is the one that is complete first: generation ends there, so no later text may change the decision.
If several are complete at the same character, the longest wins and the most text is cut. Text that could still
become a stop is held back; text once given out is never taken back.
"""

from __future__ import annotations


class StopCutter:
    """Passes text on up to the first stop string; `stopped` says that it was found."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        assert all(stops), "an empty stop string would end every answer before it begins"
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that is certain now; nothing any more once stopped."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = self._first(text)
        if found is not None:
            self.stopped = True
            self._held = ""
            return text[:found]
        keep = self._unsure(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text that was held back, as no more will come."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> int | None:
        """Where the stop that is complete first begins."""
        best: tuple[int, int] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best):
                best = (start + len(stop), start)
        return None if best is None else best[1]

    def _unsure(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
