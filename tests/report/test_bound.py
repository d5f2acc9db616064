"""The lower bound and its ratio."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.scripted import FOREVER, attempt, facts, node, runs, stored, waves
from tokenmill.event import Attempt
from tokenmill.report.bound import UNKNOWN, Bound
from tokenmill.report.certificate import certify
from tokenmill.report.facts import DevicePace, Pace, RunFacts, Span, merge, merge_all


def bound(run: RunFacts, attempts: list[Attempt]) -> Bound:
    return certify(run, attempts).bound


def test_the_bound_is_output_over_the_best_rate() -> None:
    """Four slots at ten tokens a second, later one alone: all tokens at forty a second."""
    found = bound(facts(13, node(4)), waves(13, 4))

    assert found.decode.value == pytest.approx(1300 / 40)
    assert found.binding == "decode"
    assert found.ratio.value == pytest.approx(32.5 / 40)


def test_the_bound_is_the_longest_answer_at_the_best_pace() -> None:
    """The slow longest answer is judged by the pace of the fastest stream."""
    attempts = [attempt(0, 0.0, 40.0, tokens=201, width=2.0), attempt(1, 0.0, 5.0, tokens=51, width=2.0)]

    found = bound(facts(2, node(2)), attempts)

    assert found.single_stream.value == pytest.approx(0.1)
    assert found.longest.value == pytest.approx(20.0)


def test_short_answers_set_no_pace() -> None:
    """Two tokens that arrive together are no proof of a fast stream."""
    attempts = [attempt(0, 0.0, 20.0, tokens=101, width=2.0), attempt(1, 0.0, 0.1, tokens=2, width=2.0)]

    assert bound(facts(2, node(2)), attempts).single_stream.value == pytest.approx(0.2)


def test_prompts_bound_a_run_that_only_reads() -> None:
    """Prompt tokens are made evenly until the first token, and idle time doesn't water their rate down."""
    attempts = [
        attempt(row, 10.0 * row, 6.0, tokens=10, prompt=1000, read=5.0, width=2.0, chunks=10) for row in range(4)
    ]

    found = bound(facts(4, node(1)), attempts)

    assert found.devices[0].prefill == pytest.approx(200.0)
    assert found.prefill.value == pytest.approx(20.0)
    assert found.binding == "prefill"


def test_a_window_is_two_seconds_or_a_twentieth_of_the_run() -> None:
    """A burst counts in proportion to its share of the window."""
    short = [attempt(0, 0.0, 10.0, tokens=100, width=2.0), attempt(1, 4.0, 1.0, tokens=100, width=2.0)]
    long = [attempt(0, 0.0, 100.0, tokens=1000, width=2.0), attempt(1, 4.0, 1.0, tokens=100, width=2.0)]

    found = bound(facts(2, node(2)), short).devices[0], bound(facts(2, node(2)), long).devices[0]

    assert [device.decode_window for device in found] == [2.0, 5.0]
    assert [device.decode for device in found] == pytest.approx([10 + 100 / 2, 10 + 100 / 5])


def test_a_burst_at_the_end_is_in_a_window() -> None:
    """The best window may be one that only ends where a rate changes."""
    attempts = [attempt(0, 0.0, 10.0, tokens=100, width=2.0), attempt(1, 9.0, 1.0, tokens=100, width=2.0)]

    assert bound(facts(2, node(2)), attempts).devices[0].decode == pytest.approx(10 + 100 / 2)


def test_all_of_the_work_time_is_a_window_too() -> None:
    """Bursts at both ends of three seconds of work: no window of two holds both, yet the whole does."""
    attempts = [attempt(0, 5.0, 3.0, tokens=30, width=2.0)]
    attempts += [attempt(row, start, 0.5, tokens=60, width=2.0) for row, start in ((1, 5.0), (2, 7.5))]

    assert bound(facts(3, node(2)), attempts).devices[0].decode == pytest.approx(150 / 3)


def test_failed_work_shows_rates_but_is_no_work_to_do() -> None:
    """The bound counts the tokens of answers only."""
    failed = attempt(0, 0.0, 10.0, outcome="failed")

    found = bound(facts(5, node(4)), [failed, *waves(4, 4, start=10.0)])

    assert found.decode.value == pytest.approx(10.0)


def test_two_nodes_on_one_device_are_one_device() -> None:
    """The rate of a device is that of its nodes together, counted once."""
    nodes = node(2, name="a"), node(2, name="b")
    attempts = [attempt(row, 0.0, 10.0, node=row % 2, width=2.0) for row in range(4)]

    found = bound(facts(4, *nodes), attempts)

    assert len(found.devices) == 1
    assert found.devices[0].decode == pytest.approx(40.0)


def test_devices_add_up_for_the_time_they_were_there() -> None:
    """A second device that left after half the run counts half."""
    gone = node(2, name="b", device="gpu", up=(Span(0, 0.0, 10.0),))
    attempts = [attempt(row, 10.0 * (row // 2), 10.0, width=2.0) for row in range(4)]
    attempts += [attempt(row, 0.0, 10.0, node=1, width=2.0) for row in (4, 5)]

    found = bound(facts(6, node(2), gone), attempts)

    assert [device.present for device in found.devices] == pytest.approx([1.0, 0.5])
    assert found.decode.value == pytest.approx(600 / (20 + 20 / 2))


def test_a_loop_has_no_ratio_before_batching_was_measured() -> None:
    """With width 1 only, the hardware's limit is unknown, and it says so."""
    found = certify(facts(8, node(1)), waves(8, 1))

    assert found.bound.ratio.value is None
    assert found.bound.ratio.reason == UNKNOWN
    assert found.verdict[0] == UNKNOWN


def test_a_loop_scores_at_most_half_where_batching_gives_twice() -> None:
    """The pace stored by a batched run of other work judges a loop on the same device."""
    batched = [attempt(row, 10.0 * (row // 4), 10.0, tokens=100, prompt=20, read=0.5, width=4.0) for row in range(12)]
    learned = certify(facts(12, node(4)), batched).paces
    # Alone, a request is twice as fast as in a batch of four. The prompts are much longer than those of before.
    loop = [attempt(row, 5.0 * row, 5.0, tokens=95, prompt=400, read=0.25, width=1.0) for row in range(12)]

    before = bound(facts(12, node(1)), loop)
    after = bound(facts(12, node(1), stored=learned), loop)

    assert before.ratio.value is None
    assert after.ratio.value is not None
    assert after.ratio.value <= 0.5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 80), st.floats(0.01, 1), st.floats(0.01, 0.2)), min_size=4, max_size=20),
    st.integers(2, 4),
)
def test_a_loop_never_beats_the_batched_run_it_is_judged_by(work: list[tuple[int, float, float]], slots: int) -> None:
    """Judged by the pace of a batched run of the same work, a loop's bound is at most the batched makespan."""
    batched, free = [], [0.0] * slots
    for row, (tokens, read, pace) in enumerate(work):
        slot = min(range(slots), key=free.__getitem__)
        length = read + tokens * pace
        batched.append(attempt(row, free[slot], length, tokens=tokens, prompt=50, read=read, width=float(slots)))
        free[slot] += length
    first = certify(facts(len(work), node(slots)), batched)
    learned = first.bound.devices[0]
    known = stored(prefill=learned.prefill, decode=learned.decode, single_stream=1e-3, width=float(slots))
    loop, now = [], 0.0
    for row, (tokens, read, pace) in enumerate(work):
        length = 2 * (read + tokens * pace)
        loop.append(attempt(row, now, length, tokens=tokens, prompt=50, read=2 * read, width=1.0))
        now += length

    judged = bound(facts(len(work), node(1), stored=known), loop)

    assert judged.bound.value is not None
    assert judged.bound.value <= max(free) * (1 + 1e-6)


def test_overlap_is_the_width_of_a_silent_engine_that_streams() -> None:
    """Where no width is reported, streams seen to overlap count as width; answers that came whole don't."""
    streams = [attempt(row, 0.0, 10.0, read=1.0) for row in range(4)] + [attempt(4, 0.0, 1.0, outcome="failed")]
    whole = [attempt(row, 0.0, 10.0, read=10.0, chunks=1) for row in range(4)]

    assert bound(facts(5, node(4)), streams).ratio.value is not None
    assert bound(facts(4, node(4)), whole).ratio.reason == UNKNOWN


def test_a_run_without_tokens_has_no_bound() -> None:
    """Nothing answered, nothing bounded: n/a with the reason, and no causes."""
    failed = [attempt(0, 0.0, 5.0, outcome="failed")]

    for attempts in ([], failed):
        found = certify(facts(1, node(1), answered=0), attempts)
        assert found.bound.bound.value is None
        assert found.bound.bound.reason
        assert found.causes is None


def test_paces_worth_keeping_come_from_full_windows() -> None:
    """A second of work is not enough to store a rate, yet enough for a stream's pace."""
    quick = certify(facts(4, node(4)), waves(4, 4, seconds=1.0)).paces[0].pace
    slow = certify(facts(4, node(4)), waves(4, 4)).paces[0].pace

    assert (quick.decode, slow.decode) == (0.0, pytest.approx(40.0))
    assert quick.single_stream == pytest.approx(1 / 99)
    assert slow.width == 4.0


def test_a_device_with_two_models_stores_no_pace() -> None:
    """Rates of a mix belong to neither model."""
    nodes = node(1, name="a"), node(1, name="b", digest="other")

    assert certify(facts(2, *nodes), [attempt(0, 0.0, 9.0), attempt(1, 0.0, 9.0, node=1)]).paces == ()


def test_merging_keeps_the_best_of_each_part() -> None:
    """Rates and width take the larger, the single stream the smaller that was measured."""
    old = Pace(prefill=10.0, decode=20.0, single_stream=0.0, width=1.0)
    new = Pace(prefill=5.0, decode=30.0, single_stream=0.1, width=4.0)

    assert merge(old, new) == merge(new, old) == Pace(prefill=10.0, decode=30.0, single_stream=0.1, width=4.0)
    assert merge(merge(old, new), Pace(single_stream=0.2)).single_stream == 0.1


def test_stored_paces_are_merged_by_device_and_model() -> None:
    """Another digest on the same device is another entry."""
    here = stored(decode=10.0)
    other = (DevicePace(host="localhost", device="cpu", digest="e", pace=Pace(decode=1.0)),)

    assert merge_all(here, other + stored(decode=12.0)) == stored(decode=12.0) + other


@settings(max_examples=120, deadline=None)
@given(runs())
def test_the_bound_is_at_most_the_makespan(run: tuple[RunFacts, list[Attempt]]) -> None:
    """No part of the bound exceeds the makespan, with any run and any stored pace."""
    certificate = certify(*run)
    found, makespan = certificate.bound, certificate.metrics.makespan.value or 0.0

    for part in (found.longest, found.prefill, found.decode, found.bound):
        assert part.value is None or part.value <= makespan * (1 + 1e-6) + 2e-6
    assert found.ratio.value is None or 0 < found.ratio.value <= 1


def test_the_end_of_a_span_may_lie_beyond_the_run() -> None:
    """A node that is up until the session ends was there for all of the run, not longer."""
    found = bound(facts(4, node(4, up=(Span(0, 0.0, FOREVER),))), waves(4, 4))

    assert found.devices[0].present == pytest.approx(1.0)
