"""The inventory as a file: where it lies, how it is changed without losing an edit, and the nodes that a run names."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from msgspec.structs import replace

from tokenmill.cluster import Node
from tokenmill.driver.options import SERVED, Settings, engine_kinds, parse_node
from tokenmill.errors import UsageError
from tokenmill.plan.inventory import ALL, Entry, is_name, read
from tokenmill.record.atomic import make_folder, whole_file

LARGEST = 4 << 20
ADD = "add it with 'tokenmill nodes add NAME URL'"


def nodes_path(chosen: str | Path | None) -> Path:
    """`--nodes-file`, else TOKENMILL_NODES, else the user's configuration folder."""
    named = chosen or os.environ.get("TOKENMILL_NODES")
    return Path(named).expanduser() if named else Path(platformdirs.user_config_dir("tokenmill")) / "nodes.toml"


def load(path: Path) -> tuple[Entry, ...]:
    """The nodes of the inventory; none if there is no file yet."""
    return read(_text(path), str(path), engine_kinds())


def change(path: Path, edit: Callable[[str], str]) -> None:
    """Puts `edit` of the file's text in its place, whole and readable by the owner alone, one change at a time.

    The text before and after must be a valid inventory, so an edit never builds on faults or makes some.
    """
    try:
        make_folder(path.parent)
        with _alone(path.parent):
            target = path.resolve()  # a link stays a link, and what it names changes
            before = _text(target)
            read(before, str(path), engine_kinds())
            after = edit(before)
            read(after, str(path), engine_kinds())
            with whole_file(target) as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(after.encode())
    except OSError as error:
        raise UsageError(f"{path}: can't be written ({error.strerror}); use --nodes-file") from error


def nodes_of(settings: Settings) -> list[Node]:
    """The nodes of a run: KIND:TARGET as it is, a name or `all` from the inventory; each node once.

    Raises:
        UsageError: a name the inventory doesn't have, or a node that was named twice.
    """
    inventory: tuple[Entry, ...] | None = None
    found: list[Node] = []
    for text in settings.nodes:
        if ":" in text:
            found.append(parse_node(text, len(found)))
            continue
        if inventory is None:
            inventory = load(nodes_path(settings.nodes_file))
        found += named(text, inventory, nodes_path(settings.nodes_file))
    if settings.proxy is not None:
        found = [replace(node, proxy=node.proxy or settings.proxy) if node.engine in SERVED else node for node in found]
    seen: dict[str, Node] = {}
    for node in found:
        if node.name in seen:
            raise UsageError(f"node {node.name!r} is named twice; name it once")
        seen[node.name] = node
    return found


def named(text: str, inventory: Sequence[Entry], path: Path) -> list[Node]:
    """The nodes of the inventory that a name, or `all`, stands for."""
    if text == ALL:
        if not inventory:
            raise UsageError(f"--node all: no nodes in {path}; {ADD}")
        return [entry.node for entry in inventory]
    for entry in inventory:
        if entry.name == text:
            return [entry.node]
    known = ", ".join(entry.name for entry in inventory) or "none"
    way_out = f"; {ADD}" if is_name(text) else ""
    raise UsageError(
        f"node {text!r}: write KIND:TARGET, such as local:demo or http://HOST:PORT, or a name of {path}, "
        f"which has {known}{way_out}"
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UsageError(f"{path}: is larger than {LARGEST} bytes; this is no inventory of nodes")
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); use --nodes-file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time change files in the folder; the lock is the folder's own, so nothing is left over."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
