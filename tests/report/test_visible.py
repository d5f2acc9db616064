"""Text from outside stays text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.report.visible import FORMULA_STARTS, cell, shortened, visible

anything = st.text(st.characters(codec=None, categories=None)) | st.text(
    "=+-@\t\r\n \u202e\x1b<>&'\"a\ud800", max_size=8
)


@given(anything)
def test_nothing_invisible_is_left(text: str) -> None:
    """Whatever comes, only printable letters go out, which UTF-8 can write; printable text is unchanged."""
    shown = visible(text)

    assert shown.isprintable()
    shown.encode()
    assert shown == text or not text.isprintable()


@given(anything)
def test_a_cell_is_never_a_formula(text: str) -> None:
    """A spreadsheet sees text, whatever a name begins with, also after blanks."""
    assert not cell(text).lstrip(" ").startswith(FORMULA_STARTS)


@given(anything, st.integers(1, 40))
def test_long_text_is_cut_and_counted(text: str, most: int) -> None:
    """At most so many letters of the text are shown, and how many are left out is said."""
    shown = shortened(text, most)

    assert shown == visible(text) if len(text) <= most else shown.endswith(f"({len(text) - most:,} more characters)")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("a\nb", "a\\nb"),
        ("\ud800", "\\ud800"),
        ("é ü 漢", "é ü 漢"),
    ],
)
def test_what_steers_becomes_an_escape(text: str, shown: str) -> None:
    """Terminal escapes, marks that turn letters around, line ends and halves of letters are written out."""
    assert visible(text) == shown
