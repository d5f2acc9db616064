"""One pass over an input: every row is validated, and its place handed on.

Nothing of a row is kept but a hash of its id and its place. After the first fault nothing more is yielded (unless
bad rows are to fail one by one), but the pass goes on, so that all faults are reported together.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenmill.event import WORDINGS, group_of
from tokenmill.workload.choice import Choice, sampled
from tokenmill.workload.entry import Entry
from tokenmill.workload.episodes import EPISODES, skipped_words
from tokenmill.workload.faults import Faults, RowFault, refuse, shown
from tokenmill.workload.feed import Feed, open_feed
from tokenmill.workload.ids import Ids
from tokenmill.workload.input import Input
from tokenmill.workload.layout import Layout, Row
from tokenmill.workload.pieces import Piece
from tokenmill.workload.predict import predict
from tokenmill.workload.prefix import Prefixes
from tokenmill.workload.spec import STDIN, Spec, settle

#: Wordings told apart; rows of further ones share wording 0.
MAX_WORDINGS = WORDINGS - 1
MAX_MODELS = 16

_DIGITS = re.compile(r"\d+")


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
            yield from survey.chosen()
            source, data = feed.finish()
            self.input = Input(
                kind=feed.kind,
                unit=feed.unit,
                source=source,
                data=data,
                rows=survey.rows,
                models=tuple(sorted(survey.models)),
                endpoint="completions" if survey.raw else "chat",
                skipped=feed.skipped,
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
        self._choice = Choice(spec)
        self._seen = 0
        self.rows = 0
        self.models: set[str] = set()
        self.raw: bool | None = None

    def chosen(self) -> Iterator[Entry]:
        """Entries of the rows to take; raises `InputFaults` at the end."""
        count = self._spec.sample
        if count is None:
            yield from self._entries()
            return
        yield from sampled(self._entries(), count, self._spec.seed or 0)
        self.rows = min(self.rows, count)

    def _entries(self) -> Iterator[Entry]:
        """Entries of all rows of the split, up to the limit."""
        limit = self._spec.limit
        for piece in self._feed:
            entry = self._examine(piece)
            self._seen += 1
            if entry is None:
                continue
            if not (self._refuse and self._faults.count):
                yield entry
            self.rows += 1
            if self.rows == limit:
                break
        if self._refuse:
            self._faults.raise_any()
        self._check_rows()

    def _check_rows(self) -> None:
        source = self._faults.source
        if self.rows and self._choice.without is None:
            return
        if self._seen:
            raise self._choice.refusal(source)
        if self._feed.skipped:
            raise refuse(source, f"holds no rows; {skipped_words(self._feed.skipped)}")
        raise refuse(source, "holds no rows; add at least one")

    def _examine(self, piece: Piece) -> Entry | None:
        """The entry of a row; None if it isn't taken."""
        line, offset, data, text = piece
        custom_id, row, is_taken = None, None, True
        if text is None:
            try:
                fields = self._layout.fields(data, offset)
                custom_id = self._layout.custom_id(fields)
                is_taken = self._choice.takes(fields, custom_id or f"row-{self._seen + 1}")
                if is_taken:
                    row = self._layout.row(fields, custom_id)
                    self._check_endpoint(row)
            except RowFault as fault:
                text = f"{self._feed.within(custom_id)}{fault}"
        name = custom_id or f"row-{self._seen + 1}"
        if self._ids is not None:
            name, text = self._claim(name, custom_id is not None, piece, text)
        if not is_taken:
            return None
        if text is None and row is not None:
            predicted, group = self._foresee(row)
            return Entry(self.rows, name, line, offset, len(data), predicted, group)
        self._faults.add(f"{self._feed.place(line)}: {text}")
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
        each = "episode an episode_id of its own" if self._feed.kind == EPISODES else "row its own"
        return f"custom_id {what} is already used on {self._feed.place(line)}{alike}; give each {each}"

    def _rename(self, place: tuple[int, int, int]) -> str:
        assert self._ids is not None
        name = f"row-{self._seen + 1}"
        self._renamed[self._seen] = name
        if self._refuse:
            self._ids.skip(*place)
            return name
        while self._ids.claim(name, *place) is not None:
            name = self._renamed[self._seen] = name + "+"
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
