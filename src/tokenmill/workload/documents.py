"""Rows of a JSON document: a list of them, or one after another, with line ends wherever they fall.

The document is read in blocks and taken apart value by value, so one that holds a million rows on a single line needs
no more memory than its longest row.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from tokenmill.errors import InputFaults
from tokenmill.workload.faults import RowFault, refuse, shown
from tokenmill.workload.lines import MAX_LINE, Lines
from tokenmill.workload.strict_json import MAX_DEPTH, cause, read_value
from tokenmill.workload.tables import Record, encode

_SPACE = re.compile(r"[ \t\n\r]*")


def json_records(lines: Lines) -> Iterator[Record]:
    """Rows of a document, each numbered by the line on which it begins; a string is a prompt.

    Raises `InputFaults` where the document is broken, as what follows can't be told apart any more.
    """
    document = _Document(lines)
    if document.peek() == "[":
        yield from _listed(document)
        if document.peek():
            raise document.refuse("more text after the list; write one list of rows")
        return
    while document.peek():
        yield _row(*document.value())


def _listed(document: _Document) -> Iterator[Record]:
    document.skip()
    if document.peek() == "]":
        document.skip()
        return
    while True:
        yield _row(*document.value())
        mark = document.peek()
        if mark not in (",", "]"):
            found = f"found {shown(mark)}" if mark else "the text ends; is it cut off?"
            raise document.refuse(f"a comma or the end of the list must follow a row, {found}")
        document.skip()
        if mark == "]":
            return


def _row(line: int, value: object) -> Record:
    if isinstance(value, RowFault):
        return line, value
    if not isinstance(value, str | dict):
        return line, RowFault(f"a row must be an object or a string, not {shown(value)}")
    try:
        return line, encode(value)
    except RowFault as fault:
        return line, fault


class _Document:
    """The text of a document from the place that is read next; what lies before is dropped."""

    def __init__(self, lines: Lines) -> None:
        self._source = lines.source
        self._lines = lines
        self._blocks = lines.blocks()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._line = 1
        self._column = 1

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None
            self._pass(found.end())
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        self._pass(self._at + 1)

    def value(self) -> tuple[int, object]:
        """The line on which the next value begins, and the value or the `RowFault` in it."""
        self.peek()
        line = self._line
        while True:
            try:
                value, end = read_value(self._text, self._at)
            except json.JSONDecodeError as error:
                within = error.pos - self._at
                if len(self._text) - self._at <= MAX_LINE and self._more():
                    continue
                self._pass(min(self._at + within, len(self._text)))
                raise self.refuse(f"broken JSON: {cause(error)}") from error
            except RecursionError as error:
                raise self.refuse(f"objects or lists are nested more than {MAX_DEPTH} deep; flatten them") from error
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._pass(end)
            return line, value

    def refuse(self, text: str) -> InputFaults:
        return refuse(self._source, f"line {self._line}, column {self._column}: {text}")

    def _pass(self, end: int) -> None:
        count = self._text.count("\n", self._at, end)
        self._line += count
        self._column = end - self._text.rfind("\n", self._at, end) if count else self._column + end - self._at
        self._at = end

    def _more(self) -> bool:
        """Reads on, by as much again as waits, so that a long value is not tried once for every block."""
        parts = [self._text[self._at :]]
        wanted, got = max(1, len(parts[0])), 0
        while got < wanted:
            block = next(self._blocks, None)
            parts.append(self._decoded(block))
            got += len(parts[-1])
            if block is None:
                break
        self._text, self._at = "".join(parts), 0
        return got > 0

    def _decoded(self, block: bytes | None) -> str:
        waiting = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(block or b"", final=block is None)
        except UnicodeDecodeError as error:
            place = self._lines.size - len(block or b"") - waiting + error.start
            found = f"byte {place} (0x{error.object[error.start]:02x}) is not UTF-8; convert with iconv -t UTF-8"
            raise refuse(self._source, found) from error
        if "\0" in text:
            raise refuse(self._source, "holds a NUL character; remove it, or convert the text to UTF-8")
        return text
