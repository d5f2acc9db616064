"""From tokens to pieces: what one answer shows, and how its tokens are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenmill.engine.local.stream import AnswerStream
from tokenmill.engine.local.wire import Piece


class ByteDecoder:
    """Each token is one byte of UTF-8; a character comes out when its last byte is there."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, token: int) -> str:
        self._bytes += bytes([token])
        try:
            text = self._bytes.decode()
        except UnicodeDecodeError:
            return ""
        self._bytes = b""
        return text

    def flush(self) -> str:
        return self._bytes.decode(errors="replace")


def play(text: str | bytes, stops: tuple[str, ...] = (), finish: str = "length") -> list[Piece]:
    """The pieces of an answer whose last token is its end, or that a stop string ends before."""
    stream = AnswerStream(7, ByteDecoder(), stops, prompt_tokens=3)
    tokens = list(text.encode() if isinstance(text, str) else text)
    pieces = []
    for number, token in enumerate(tokens, 1):
        pieces.append(stream.add(token, finish if number == len(tokens) else None))
        if pieces[-1].finish:
            break
    return pieces


def test_every_token_is_a_piece_and_the_last_one_sums_up() -> None:
    """An answer cut by its limit keeps all its text and counts all its tokens."""
    assert play("héy") == [Piece(7, "h", 1), Piece(7, "", 1), Piece(7, "é", 1), Piece(7, "y", 1, "length", 3, 4)]


def test_the_end_token_counts_and_has_no_text() -> None:
    """The token by which the model ends an answer took a forward pass, but nobody reads it."""
    assert play("hi!", finish="stop") == [Piece(7, "h", 1), Piece(7, "i", 1), Piece(7, "", 1, "stop", 3, 3)]


def test_a_stop_string_ends_the_answer() -> None:
    """The piece that completes a stop string is the last, and its reason is `stop`."""
    pieces = play("one.\n\ntwo", stops=("\n\n",))

    assert "".join(piece.text for piece in pieces) == "one."
    assert pieces[-1] == Piece(7, "", 1, "stop", 3, 6)


def test_held_back_text_comes_with_the_last_piece() -> None:
    """Half a stop string at the end of an answer is part of the answer."""
    pieces = play("a\n", stops=("\n\n",))

    assert [piece.text for piece in pieces] == ["a", "\n"]
    assert pieces[-1].finish == "length"


def test_half_a_character_at_the_limit_shows_as_such() -> None:
    """An answer that ends within a character says so with the replacement character instead of dropping it."""
    assert "".join(piece.text for piece in play("é".encode()[:1])) == "\ufffd"


def test_a_stop_string_that_only_the_last_flush_completes_still_stops() -> None:
    """What the decoder held back passes the stop strings too."""
    pieces = play(b"a" + "é".encode()[:1], stops=("\ufffd",))

    assert "".join(piece.text for piece in pieces) == "a"
    assert pieces[-1].finish == "stop"


@given(st.text(max_size=20).filter(bool), st.lists(st.text(min_size=1, max_size=3), max_size=2).map(tuple))
def test_the_shown_text_ends_before_the_first_stop(text: str, stops: tuple[str, ...]) -> None:
    """Whatever the text, no stop string is shown and nothing before it is lost."""
    pieces = play(text, stops)
    shown = "".join(piece.text for piece in pieces)

    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert (pieces[-1].finish == "stop") is any(stop in text for stop in stops)
    assert pieces[-1].output_tokens == len(pieces)
