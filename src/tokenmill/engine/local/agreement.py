"""How the ranks of a group load a model together: each does its part, and all go on or none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tokenmill.engine.local.group import Group
from tokenmill.errors import TokenmillError, UsageError

_Part = TypeVar("_Part")


def agree(group: Group, act: Callable[[], _Part]) -> _Part:
    """What `act` gives here, once it was done on every rank; all of them call this at the same time.

    A `TokenmillError` of any rank is raised on the lead. A follower then waits for its end, with the lead's.
    """
    if group.leads:
        done = act()
        for rank, fault in enumerate(group.hear(), start=1):
            if fault:
                raise UsageError(f"rank {rank} of the tensor parallel group: {fault.decode(errors='replace')}")
        group.tell(b"")
        return done
    try:
        done = act()
    except TokenmillError as error:
        group.tell(str(error).encode(errors="replace"))
        group.hear()
        group.leave(f"the lead went on after a fault here ({error})")
    group.tell(b"")
    group.hear()
    return done
