"""Keys: found where the operator said, sent to one origin, and printed as stars everywhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tokenmill.cluster import Node
from tokenmill.engine.http.address import Address, parse_url
from tokenmill.errors import UsageError

STARS = "****"
OPENAI_ORIGIN = "https://api.openai.com"
LONGEST_KEY = 16_384


class Veiled(str):
    """A text that shows as stars where a debugger or a traceback shows values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return STARS


class Key:
    """A secret that can't be printed by accident; only `header` gives it away."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = Veiled(secret)

    def __repr__(self) -> str:
        return STARS

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is not stored")

    def header(self) -> str:
        return Veiled(f"Bearer {self._secret}")

    def scrub(self, text: str) -> str:
        """The text without the key: servers like to quote the key that they refuse."""
        return text.replace(self._secret, STARS)


def find_key(node: Node, address: Address, environment: Mapping[str, str]) -> Key | None:
    """The node's key: from where the node says, else OPENAI_API_KEY if it was meant for this origin."""
    if node.key is not None:
        return Key(_checked(node, secret_at(node, node.key, environment)))
    secret = environment.get("OPENAI_API_KEY", "").strip()
    if secret and node.engine != "ollama" and address.origin in _openai_origins(environment):
        return Key(_checked(node, secret))
    return None


def _openai_origins(environment: Mapping[str, str]) -> tuple[str, ...]:
    base = environment.get("OPENAI_BASE_URL", "").strip()
    return (OPENAI_ORIGIN, parse_url("OPENAI_BASE_URL", base).origin) if base else (OPENAI_ORIGIN,)


def secret_at(node: Node, place: str, environment: Mapping[str, str], what: str = "key") -> str:
    """The text in the variable or the private file that `place` names; `what` it is, for errors."""
    kind, _, name = place.partition(":")
    if kind == "env" and name:
        secret = environment.get(name, "").strip()
        if not secret:
            raise UsageError(f"node {node.name!r}: its {what} is in the variable {name}, which is not set; set it")
        return secret
    if kind == "file" and name:
        return _from_file(node, Path(name).expanduser(), what)
    raise UsageError(
        f"node {node.name!r}: a {what} is named as env:NAME or file:PATH, and never written out; correct the node's "
        f"{what}"
    )


def _from_file(node: Node, path: Path, what: str) -> str:
    """The content of a file that nobody else can read."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise UsageError(f"node {node.name!r}: the {what} file {path} is no regular file; name one that is")
            if state.st_mode & 0o077:
                mode = stat.S_IMODE(state.st_mode)
                raise UsageError(
                    f"node {node.name!r}: the {what} file {path} has mode {mode:04o}, so others may read it; "
                    "chmod 600 it"
                )
            content = file.read(LONGEST_KEY + 1)
    except OSError as error:
        raise UsageError(
            f"node {node.name!r}: the {what} file {path} can't be read ({error.strerror}); name another"
        ) from error
    return content.decode("utf-8", errors="replace").strip()


def _checked(node: Node, secret: str) -> str:
    """A key goes into a header: one line of visible ASCII. What is wrong is said without the key."""
    if not secret or len(secret) > LONGEST_KEY or not all("!" <= letter <= "~" for letter in secret):
        raise UsageError(
            f"node {node.name!r}: its key is empty, too long or holds blanks or characters beyond ASCII; correct it"
        )
    return secret
