"""Reads rows again by byte offset, when they are dispatched and when they are exported."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from tokenmill.request import Request
from tokenmill.workload.faults import RowFault, shown
from tokenmill.workload.input import Input, InputChanged
from tokenmill.workload.layout import Layout
from tokenmill.workload.spec import Spec, settle


class Reader:
    """Gives the request or the fields of a row at a known place. Safe to use from several threads.

    Whether the file is still what was scanned is `check_unchanged`'s to say, once; the reader notices only what
    can't be the row that was scanned.
    """

    def __init__(self, spec: Spec, source: Input) -> None:
        self._layout = Layout(settle(replace(spec, endpoint=source.endpoint)), source.kind)
        self.kind = source.kind
        self._unit = source.unit
        self.endpoint = source.endpoint
        self._path = source.data.path
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputChanged(f"{self._path} can't be read any more ({error.strerror}); put it back") from error

    def request(self, row: int, custom_id: str, offset: int, length: int, line: int) -> Request:
        """The request of an entry without a fault; raises `InputChanged` if the row isn't there any more."""
        try:
            fields = self._layout.fields(self._bytes(offset, length, line), offset)
            own_id = self._layout.custom_id(fields)
            found = self._layout.row(fields, own_id)
        except RowFault as fault:
            raise self._changed(line, str(fault)) from fault
        if own_id is not None and own_id != custom_id:
            raise self._changed(line, f"it has custom_id {shown(own_id)} and had {shown(custom_id)}")
        return Request(
            row=row,
            custom_id=custom_id,
            prompt=found.prompt,
            messages=found.messages,
            sampling=found.sampling,
            raw=found.raw,
        )

    def fields(self, offset: int, length: int, line: int) -> dict[str, object]:
        """The row as it stands in the input; empty for one that could not be parsed."""
        data = self._bytes(offset, length, line)
        try:
            return self._layout.fields(data, offset)
        except RowFault:
            return {}

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bytes(self, offset: int, length: int, line: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise InputChanged(f"{self._path} can't be read any more ({error.strerror}); put it back") from error
        if len(data) != length:
            raise self._changed(line, "the file ends before it")
        return data

    def _changed(self, line: int, what: str) -> InputChanged:
        return InputChanged(
            f"{self._path}: {self._unit} {line} changed since the run began: {what}; put the old file back"
        )
