"""Where requests come from: files, standard input, tables, Python rows and built-in sets.

`scan` reads an input once, validates every row and yields where each one lies; `Reader` reads a row's text again by
byte offset when it is dispatched. Neither keeps the rows, so a million of them cost a few integers each.
"""

from __future__ import annotations

from tokenmill.workload.entry import Entry
from tokenmill.workload.input import FileState, Input, InputChanged, check_grown, check_unchanged
from tokenmill.workload.predict import predict
from tokenmill.workload.reader import Reader
from tokenmill.workload.scan import Scan, scan
from tokenmill.workload.spec import ROWS, Spec

__all__ = [
    "ROWS",
    "Entry",
    "FileState",
    "Input",
    "InputChanged",
    "Reader",
    "Scan",
    "Spec",
    "check_grown",
    "check_unchanged",
    "predict",
    "scan",
]
