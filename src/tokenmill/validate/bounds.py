"""Limits on a measured value, which many validators share."""

from __future__ import annotations

from collections.abc import Iterable

from tokenmill.validate.kind import Options, Share
from tokenmill.validate.score import Score


class Bounds(Options, frozen=True, kw_only=True):
    """A value passes if it is at least one number and at most the other; without them it is measured, and passes."""

    at_least: Share | None = None
    at_most: Share | None = None

    def faults(self) -> Iterable[str]:
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            yield f"at_least {self.at_least} is above at_most {self.at_most}, so nothing could pass; swap them"

    def score(self, name: str, what: str, value: float | None, detail: str = "") -> Score:
        """The score of a value, `what` being its name in a sentence. Nothing to measure is nothing to refuse."""
        detail = f" {detail}" if detail else ""
        if value is None:
            return Score(validator=name, value=None, passed=True, reason=detail.strip())
        value = round(value, 4)
        if self.at_least is not None and value < self.at_least:
            reason = f"{what} is {value:g} and must be at least {self.at_least:g}.{detail}"
            return Score(validator=name, value=value, passed=False, reason=reason)
        if self.at_most is not None and value > self.at_most:
            reason = f"{what} is {value:g} and must be at most {self.at_most:g}.{detail}"
            return Score(validator=name, value=value, passed=False, reason=reason)
        return Score(validator=name, value=value, passed=True, reason=detail.strip())
