"""What a scan says of one row: where it lies, and what the schedule needs to know of it."""

from __future__ import annotations

from msgspec import Struct


class Entry(Struct, frozen=True, gc=False):
    """One row's place and what the schedule needs to know of it.

    `row` counts rows from 0 in input order; a row without an id of its own is called `row-1` and so on, from 1.
    `line` is the line (or table row) from 1, `offset` and `length` are bytes in the data file. `predicted` is the
    output in tokens, `group` tells prompts of the same wording, numbers aside, and of the same long beginning (see
    `group_of`). `fault` is set only with `bad_rows="fail"`; such a row is never dispatched.
    """

    row: int
    custom_id: str
    line: int
    offset: int
    length: int
    predicted: float
    group: int
    fault: str | None = None
