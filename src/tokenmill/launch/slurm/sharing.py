"""Whether the nodes of a cluster see a folder of this host; found out before a job is submitted that couldn't work."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from tokenmill.errors import UsageError
from tokenmill.record.place import shared_kind


def check_shared(folder: Path, hosts: Iterable[tuple[str, str]]) -> None:
    """Raises `UsageError` if the folder is on a disk of this host and some node is another host.

    `hosts` are (address, name) of the nodes. A folder that isn't there yet is judged by the nearest that is.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if shared_kind(there):
        return
    others = [name for address, name in hosts if not is_here(address, name)]
    if others:
        raise UsageError(
            f"{folder}: is on a disk of this host, and node {others[0]!r} is another; keep runs in a folder that all "
            "nodes see (--runs-dir), or say --shared if they do see this one; nothing was submitted"
        )


def is_here(address: str, name: str) -> bool:
    """Whether a node is this very host."""
    own = socket.gethostname()
    return name.partition(".")[0] == own.partition(".")[0] or address in (own, "localhost") or address[:4] == "127."
