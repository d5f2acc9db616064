"""One pass over an input: every row is validated, and its place handed on.

Nothing of a row is kept but a hash of its id and its place. After the first fault nothing more is yielded (unless
bad rows are to fail one by one), but the pass goes on, so that all faults are reported together.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from tokenmill.event import WORDINGS, group_of
from tokenmill.workload.faults import Faults, RowFault, refuse, shown
from tokenmill.workload.feed import Feed, Piece, open_feed
from tokenmill.workload.ids import Ids
from tokenmill.workload.input import Input
from tokenmill.workload.layout import Layout, Row
from tokenmill.workload.predict import predict
from tokenmill.workload.prefix import Prefixes
from tokenmill.workload.spec import STDIN, Spec, settle

#: Wordings told apart; rows of further ones share wording 0.
MAX_WORDINGS = WORDINGS - 1
MAX_MODELS = 16

_DIGITS = re.compile(r"\d+")


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


class Scan:
    """Iterates over the entries of an input, once; `input` is set when the iteration has ended."""

    def __init__(
        self, spec: Spec, spool: Path, *, rows: Iterable[object] | None = None, stdin: io.BufferedReader | None = None
    ) -> None:
        self.spec = settle(spec)
        self.input: Input | None = None
        self._spool = spool
        self._rows = rows
        self._stdin = stdin

    def __iter__(self) -> Iterator[Entry]:
        feed = open_feed(self.spec, self._spool, self._rows, self._stdin)
        try:
            survey = _Survey(self.spec, feed)
            yield from survey.entries()
            source, data = feed.finish()
            self.input = Input(
                kind=feed.kind,
                unit=feed.unit,
                source=source,
                data=data,
                rows=survey.rows,
                models=tuple(sorted(survey.models)),
                endpoint="completions" if survey.raw else "chat",
            )
        finally:
            feed.close()


def scan(
    spec: Spec, spool: Path, *, rows: Iterable[object] | None = None, stdin: io.BufferedReader | None = None
) -> Scan:
    """A pass over the input of `spec`; inputs without byte offsets are written into the folder `spool`.

    `rows` are rows handed over in Python (source `<rows>`), str or dict, taken one at a time; `stdin` stands in for
    standard input. Raises `UsageError` for options that can't hold, and while iterating `InputFaults`.
    """
    return Scan(spec, spool, rows=rows, stdin=stdin)


class _Survey:
    def __init__(self, spec: Spec, feed: Feed) -> None:
        self._spec = spec
        self._feed = feed
        self._layout = Layout(spec, feed.kind)
        self._faults = Faults("standard input" if spec.source == STDIN else spec.source)
        self._refuse = spec.bad_rows == "refuse"
        self._ids = None if feed.kind == "txt" else Ids(self._earlier_id)
        self._renamed: dict[int, str] = {}
        self._wordings: dict[str, int] = {}
        self._prefixes = Prefixes()
        self.rows = 0
        self.models: set[str] = set()
        self.raw: bool | None = None

    def entries(self) -> Iterator[Entry]:
        """Entries of all rows up to the limit; raises `InputFaults` at the end."""
        limit = self._spec.limit
        for piece in self._feed:
            entry = self._examine(piece)
            if not (self._refuse and self._faults.count):
                yield entry
            self.rows += 1
            if self.rows == limit:
                break
        if self._refuse:
            self._faults.raise_any()
        if self.rows == 0:
            raise refuse(self._faults.source, "holds no rows; add at least one")

    def _examine(self, piece: Piece) -> Entry:
        line, offset, data, text = piece
        custom_id, row = None, None
        if text is None:
            try:
                fields = self._layout.fields(data, offset)
                custom_id = self._layout.custom_id(fields)
                row = self._layout.row(fields, custom_id)
                self._check_endpoint(row)
            except RowFault as fault:
                text = str(fault)
        name = custom_id or f"row-{self.rows + 1}"
        if self._ids is not None:
            name, text = self._claim(name, custom_id is not None, piece, text)
        if text is None and row is not None:
            predicted, group = self._foresee(row)
            return Entry(self.rows, name, line, offset, len(data), predicted, group)
        self._faults.add(f"{self._feed.unit} {line}: {text}")
        return Entry(self.rows, name, line, offset, len(data), 1.0, 0, text)

    def _check_endpoint(self, row: Row) -> None:
        """One run has one endpoint, as a batch of OpenAI's has; the first row decides where no option does."""
        if self.raw is None:
            self.raw = row.raw
        if row.raw != self.raw:
            other = ("chats", "completions") if row.raw else ("completions", "chats")
            raise RowFault(
                f"the rows before ask for {other[0]}, this one for {other[1]}; split the file, or choose one "
                "with --endpoint"
            )

    def _foresee(self, row: Row) -> tuple[float, int]:
        if row.model is not None and len(self.models) < MAX_MODELS:
            self.models.add(row.model)
        asked = row.asked
        group = group_of(self._prefixes.number(row.messages), self._wording(asked))
        return predict(asked, row.sampling.max_tokens), group

    def _wording(self, asked: str) -> int:
        if self._layout.template is not None:
            return 0
        words = " ".join(asked[:48].split(None, 3)[:3])
        key = _DIGITS.sub("#", words)
        if len(self._wordings) < MAX_WORDINGS:
            return self._wordings.setdefault(key, len(self._wordings) + 1)
        return self._wordings.get(key, 0)

    def _claim(self, name: str, own: bool, piece: Piece, text: str | None) -> tuple[str, str | None]:
        assert self._ids is not None
        line, offset, data, _ = piece
        place = (offset, len(data), line)
        if text is not None and self._refuse and not own:
            self._ids.skip(*place)
            return name, text
        earlier = self._ids.claim(name, *place)
        if earlier is None:
            return name, text
        repeated = self._repetition(name, own, earlier)
        return self._rename(place), repeated if text is None else f"{text}; {repeated}"

    def _repetition(self, name: str, own: bool, earlier: int) -> str:
        assert self._ids is not None
        line = self._ids.place(earlier)[2]
        before = self._earlier_id(earlier)
        what = shown(name) if own else f"{shown(name)}, made for this row without one,"
        alike = "" if before == name else f" as {before!a}, the same Unicode text"
        return f"custom_id {what} is already used on {self._feed.unit} {line}{alike}; give each row its own"

    def _rename(self, place: tuple[int, int, int]) -> str:
        assert self._ids is not None
        name = f"row-{self.rows + 1}"
        self._renamed[self.rows] = name
        if self._refuse:
            self._ids.skip(*place)
            return name
        while self._ids.claim(name, *place) is not None:
            name = self._renamed[self.rows] = name + "+"
        return name

    def _earlier_id(self, row: int) -> str:
        assert self._ids is not None
        if row in self._renamed:
            return self._renamed[row]
        offset, length, _ = self._ids.place(row)
        try:
            fields = self._layout.fields(self._feed.read(offset, length), offset)
            return self._layout.custom_id(fields) or f"row-{row + 1}"
        except RowFault:
            return f"row-{row + 1}"
