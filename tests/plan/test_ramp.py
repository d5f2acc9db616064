"""The ramp finds the slots of a server from when answers began and ended."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.plan.ramp import BRIEFEST, TAIL, Burst, Ramp, Shot, words

#: How late the end of an answer of a second may be seen without overlapping with the next answer in its slot.
LATEST = TAIL / (1 - TAIL)


def burst(width: int, slots: int, first: float = 0.2, whole: float = 1.0, tokens: int = 16) -> Burst:
    """What a server with this many slots answers to a burst: the next begins when one ends."""
    starts = [index // slots * whole for index in range(width)]
    return Burst(tuple(Shot(start + first, start + whole, tokens) for start in starts))


def ramped(slots: int, most: int = 16) -> Ramp:
    ramp = Ramp(most)
    while ramp.width is not None:
        ramp.add(burst(ramp.width, slots))
    return ramp


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5, 8, 12, 15])
def test_slots_are_found(slots: int) -> None:
    """The ramp ends at the slots there are, after at most twice as many requests as the last step needs."""
    ramp = ramped(slots)

    assert (ramp.slots, ramp.is_full, words(ramp)) == (slots, True, str(slots))


def test_more_slots_than_were_asked_for_are_told_as_such() -> None:
    """A server that takes all at once may have more slots than the ramp sends."""
    ramp = ramped(16)
    assert (ramp.slots, ramp.is_full, words(ramp)) == (16, False, "16+")
    assert [each.width for each in ramp.bursts] == [1, 2, 4, 8, 16]
    assert ramped(64, most=6).slots == 6


def test_a_request_that_waits_once_is_asked_again() -> None:
    """One burst with a late answer may be chance; the same burst again decides."""
    ramp = Ramp(4)
    for each in (burst(1, 4), burst(2, 1), burst(2, 4), burst(4, 4)):
        assert ramp.width == each.width
        ramp.add(each)

    assert (ramp.width, ramp.slots, ramp.is_full) == (None, 4, False)


def test_answers_that_arrive_in_lumps_make_no_limit() -> None:
    """Answers that seem to follow each other, in a burst that took no longer than one, ran together on the server."""
    ramp = Ramp(16)
    ramp.add(burst(1, 4))
    lump = Burst((Shot(0.2, 0.6, 16), Shot(0.7, 1.1, 16)))
    ramp.add(lump)
    ramp.add(lump)

    assert (ramp.width, ramp.slots, ramp.is_full, words(ramp)) == (None, 1, False, "1+")


def test_a_late_last_token_shows_no_further_slot() -> None:
    """Ends that reach the client late, after the next answers began, don't make these run together."""
    late = Burst((*(Shot(0.1, last, 16) for last in (1.0, 1.0, 1.2)), *(Shot(1.05, 2.0, 16) for _ in range(3))))
    assert late.overlap == 3


def test_of_two_disturbed_bursts_the_smaller_counts() -> None:
    """A burst in which ends came late enough to overlap with the next answers is outvoted by the same burst again."""
    ramp = Ramp(16)
    for each in (burst(1, 2), burst(2, 2), burst(4, 3), burst(4, 2)):
        ramp.add(each)
    assert (ramp.width, ramp.slots, ramp.is_full) == (None, 2, True)


def test_a_server_that_turns_requests_away_ends_the_ramp() -> None:
    """Requests refused as too many didn't run, so the slots are those of the others."""
    ramp = Ramp(16)
    ramp.add(burst(1, 2))
    ramp.add(burst(2, 2))
    ramp.add(Burst(burst(3, 2).shots, refused=1))

    assert (ramp.width, ramp.slots, ramp.is_full) == (None, 2, True)


def test_answers_too_short_tell_nothing() -> None:
    """Answers of one token, or written in no time, can't overlap, so no number is made up."""
    for short in (burst(1, 4, tokens=1), burst(1, 4, first=0.995)):
        ramp = Ramp(16)
        ramp.add(short)
        assert (ramp.width, ramp.slots, words(ramp)) == (None, None, "n/a: answers too short to overlap")
    ramp = Ramp(16)
    ramp.add(Burst((), refused=1))
    assert (ramp.width, words(ramp), ramp.first_token, ramp.pace) == (None, "n/a: no answer", None, None)


def test_pace_and_first_token_are_measured_on_the_way() -> None:
    """The pace is that of the best burst, the first token that of a request alone."""
    ramp = ramped(4)
    assert ramp.first_token == 0.2
    assert ramp.pace == 64.0


@given(st.integers(1, 40), st.integers(1, 64), st.floats(0.0, 0.9), st.floats(2 * BRIEFEST, 30.0))
def test_slots_are_found_exactly_whatever_there_are(slots: int, most: int, first: float, writing: float) -> None:
    """With undisturbed times the ramp finds the slots, or as many as it sends, in twice as many requests as that."""
    whole = writing / (1 - first)
    ramp = Ramp(most)
    while ramp.width is not None:
        ramp.add(burst(ramp.width, slots, first * whole, whole))

    assert (ramp.slots, ramp.is_full) == (min(slots, most), slots < most)
    assert max(each.width for each in ramp.bursts) <= min(2 * slots, most)


@given(st.integers(1, 20), st.integers(1, 32), st.randoms(use_true_random=False))
def test_late_ends_hide_no_slot_and_invent_none(slots: int, most: int, random: Random) -> None:
    """Ends that reach the client late, by up to the part of an answer that the ramp leaves out, change no number."""
    ramp = Ramp(most)
    while ramp.width is not None:
        calm = burst(ramp.width, slots, first=0.0)
        late = (Shot(shot.first, shot.last + LATEST * random.random(), shot.tokens) for shot in calm.shots)
        ramp.add(Burst(tuple(late)))

    assert (ramp.slots, ramp.is_full) == (min(slots, most), slots < most)


@given(st.integers(1, 20), st.floats(0.01, 0.9), st.randoms(use_true_random=False))
def test_uneven_answers_never_show_more_slots_than_there_are(slots: int, spread: float, random: Random) -> None:
    """However long each answer takes, no more are written at one moment than there are slots."""
    free = [0.0] * slots
    shots = []
    for _ in range(40):
        at = free.index(min(free))
        start = free[at]
        free[at] = start + 1 + spread * random.random()
        shots.append(Shot(start + 0.1, free[at], 16))
    found = Burst(tuple(shots)).overlap
    assert found <= slots
    assert found == slots
