"""What reaches a screen or a pipe: plain words that can't steer a terminal, whatever a model or a file put in them.

Results go to stdout through `say` and `say_json`, everything else to stderr through `tell`. A reader that went away
is no fault of the run, so `say` raises an error of its own for it; notes that can't be written are dropped.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TextIO

import msgspec

from tokenmill.errors import UsageError

#: What JSON may hold unescaped and a terminal should not see.
_UNSAFE = re.compile(r"[^\x20-\x7e\n]")


class ReaderGone(Exception):
    """Whoever read stdout has closed it, as `head` does."""


def printable(text: str) -> str:
    """`text` with everything that could steer a terminal or reorder its letters as an escape, line ends included."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def say(text: str) -> None:
    """One result on stdout; line ends in `text` are kept.

    Raises:
        ReaderGone: nobody reads it any more.
        UsageError: it can't be written, as on a full disk.
    """
    try:
        _write(sys.stdout, text)
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise UsageError(f"can't write to standard output ({error.strerror}); send it elsewhere") from error


def tell(text: str) -> None:
    """A note or an error on stderr."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, text)


def say_json(value: object) -> None:
    """`value` as one line of JSON in ASCII, which is safe on every terminal and in every locale."""
    say_encoded(msgspec.json.encode(value))


def say_encoded(text: bytes) -> None:
    """JSON that is encoded already."""
    say(_UNSAFE.sub(_escape, text.decode()).rstrip("\n"))


def line_for(command: str, folder: Path) -> str:
    """A command line on a run, by its folder: that holds wherever runs are kept and from wherever it is typed."""
    return f"tokenmill {command} {shlex.quote(str(folder.absolute()))}"


def drop_stdout() -> None:
    """Lets nothing more be written to a stdout that nobody reads, not even when Python ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def is_plain() -> bool:
    """Whether stdout takes ASCII only."""
    return not (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed before we started
        return
    lines = "\n".join(printable(line) for line in text.split("\n"))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(lines.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _escape(found: re.Match[str]) -> str:
    """A letter as JSON escapes it: two halves for one outside the first 65,536."""
    pairs = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pairs[at]:02x}{pairs[at + 1]:02x}" for at in range(0, len(pairs), 2))
