"""Stop strings: the answer ends before the first one, wherever the text was cut on its way."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tokenmill.engine.local.stops import StopCutter

LETTERS = st.text("abc", max_size=12)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=4).map(tuple)


def cut_whole(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The text before the stop that is complete first, found character by character."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(st.lists(LETTERS, max_size=8), STOPS)
@example(["a", "bc"], ("b", "abc"))
@example(["abc"], ("abc", "b"))
@example(["ab"], ("b", "ab"))
@example(["aa", "b"], ("aab",))
def test_any_split_gives_what_the_whole_gives(pieces: list[str], stops: tuple[str, ...]) -> None:
    """The pieces given out and the verdict are those of the whole text cut at its first stop."""
    cutter = StopCutter(stops)

    given_out = [cutter.feed(piece) for piece in pieces]
    stopped = cutter.stopped
    given_out.append(cutter.flush())

    assert ("".join(given_out), stopped) == cut_whole("".join(pieces), stops)


@given(st.lists(LETTERS, max_size=8), STOPS)
def test_only_what_may_become_a_stop_is_held_back(pieces: list[str], stops: tuple[str, ...]) -> None:
    """Text is given out as soon as no stop string can begin in it any more."""
    cutter = StopCutter(stops)
    text = ""
    given_out = ""
    for piece in pieces:
        given_out += cutter.feed(piece)
        text += piece
        if cutter.stopped:
            return
        held = text[len(given_out) :]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_without_stops_everything_passes_at_once() -> None:
    """An answer without stop strings is never delayed."""
    cutter = StopCutter(())

    assert [cutter.feed("one "), cutter.feed("two"), cutter.flush()] == ["one ", "two", ""]
    assert not cutter.stopped


def test_text_after_the_stop_is_dropped() -> None:
    """Once stopped, nothing comes out any more."""
    cutter = StopCutter(("END",))

    assert [cutter.feed("the EN"), cutter.feed("D of"), cutter.feed(" it"), cutter.flush()] == ["the ", "", "", ""]
    assert cutter.stopped
