"""The ranks of a group that don't lead: they compute what they are told and hold nothing that could disagree."""

from __future__ import annotations

from typing import NoReturn

from tokenmill.engine.local.group import Group


def obey(group: Group) -> NoReturn:
    """Does what the lead says until the lead is gone, which ends this process."""
    while True:
        group.hear()
