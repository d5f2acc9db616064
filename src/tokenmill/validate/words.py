"""A text as words that compare: equal for all ways to write them that mean no difference.

Everything here takes time in proportion to the text, whatever is in it. `unicodedata.normalize` alone doesn't: it sorts
runs of combining marks by insertion, so a text of nothing else would take hours. It is fed short pieces.
"""

from __future__ import annotations

import re
import unicodedata

#: White space ends a piece, and so does this many characters, far more than any word has.
_PIECE = re.compile(r"\S{1,128}|\s+")
#: Letters and digits of any script with their marks, and apostrophes between them.
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_PLAIN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u00b4\u0060", "'") | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


def fold(text: str) -> str:
    """The text without differences of case, of composed characters, and of kinds of apostrophes and dashes."""
    if text.isascii():
        return text.lower().replace("`", "'")
    pieces = _PIECE.findall(text)
    return "".join(unicodedata.normalize("NFC", piece) for piece in pieces).casefold().translate(_PLAIN)


def words(text: str) -> list[str]:
    """The words of a text, folded; punctuation, symbols and space are left out."""
    return _WORD.findall(fold(text))


def normalised(text: str) -> str:
    """The words in one line, so that texts compare equal that differ in case, punctuation or space only.

    A text without a word, as one of symbols, is compared by its characters without space.
    """
    return " ".join(words(text)) or "".join(fold(text).split())
