"""Errors that name the value, the place and the way out.

Users see a `TokenmillError` as one line without a traceback. Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence


class TokenmillError(Exception):
    """A problem the user can act on; `exit_code` is what the command ends with."""

    exit_code = 2


class UsageError(TokenmillError):
    """A wrong option, name or file; nothing was sent."""


class NodeUnreachable(UsageError):
    """A server doesn't answer; a run goes on without it if it has another."""


class InputFaults(TokenmillError):
    """All faults of one input, reported together."""

    SHOWN = 20

    def __init__(self, source: str, faults: Sequence[str], more: int = 0) -> None:
        self.faults = tuple(faults)
        total = len(faults) + more
        if total == 1:
            super().__init__(f"{source}: {faults[0]}")
            return
        lines = [f"{source}: {total} faults, nothing was sent", *(f"  {fault}" for fault in faults[: self.SHOWN])]
        if total > self.SHOWN:
            lines.append(f"  and {total - self.SHOWN} more")
        super().__init__("\n".join(lines))


class StorageError(TokenmillError):
    """The record can't be written any more; what was committed is kept and the run resumes."""

    exit_code = 4


class NodeGone(TokenmillError):
    """A node can't be used any more and the run can't go on without it; what was committed is kept."""

    exit_code = 4


class EngineError(Exception):
    """An engine failed one request; the driver turns it into a `Failed` event, so it never ends a run.

    `kind` is one of `tokenmill.event.FAILURE_KINDS`; `retry_after` the seconds for which the node asked to be left
    alone, None if it didn't.
    """

    #: The HTTP status of the answer that this failure is read from, None if there was none.
    status: int | None = None

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
