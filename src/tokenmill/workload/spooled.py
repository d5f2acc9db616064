"""Rows that lie nowhere as they are sent: records of tables, documents and lists, written as JSONL into a spool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from tokenmill.workload.faults import RowFault
from tokenmill.workload.input import FileState
from tokenmill.workload.pieces import Piece, Placed, States
from tokenmill.workload.spool import Spool
from tokenmill.workload.tables import Record


class SpooledFeed(Placed):
    """Records written as JSONL into the spool; `state` tells the state of the named file once it has been read."""

    def __init__(
        self,
        kind: str,
        unit: str,
        records: Iterator[Record],
        spool: Spool,
        state: Callable[[], FileState] | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        self.kind = kind
        self.unit = unit
        self.records = records
        self.spool = spool
        self._state = state
        self._file = file

    def __iter__(self) -> Iterator[Piece]:
        spool = self.spool
        for number, data in self.records:
            offset = spool.size
            if isinstance(data, RowFault):
                yield number, offset, b"", str(data)
                continue
            spool.write(data + b"\n")
            yield number, offset, data, None

    def read(self, offset: int, length: int) -> bytes:
        return self.spool.read(offset, length)

    def finish(self) -> States:
        return self._state() if self._state else None, self.spool.finish()

    def close(self) -> None:
        self.spool.close()
        if self._file is not None:
            self._file.close()
