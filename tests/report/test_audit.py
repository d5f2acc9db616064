"""What ran at the same time, and its name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from report.scripted import attempt, facts, node, runs, waves
from tokenmill.event import Attempt
from tokenmill.report import audit as rules
from tokenmill.report.audit import Audit
from tokenmill.report.certificate import certify
from tokenmill.report.facts import RunFacts


def audit(run: RunFacts, attempts: list[Attempt]) -> Audit:
    return certify(run, attempts).audit


def test_a_batch_with_reported_width_is_a_true_batch() -> None:
    """Reported step width of at least 1.5 is the proof."""
    found = audit(facts(8, node(4)), waves(8, 4, width=4.0))

    assert found.verdict == rules.TRUE_BATCH
    assert found.overlap.value == pytest.approx(4.0)
    assert (found.width_mean.value, found.width_max.value) == (4.0, 4)


def test_overlap_without_reported_width_is_never_a_true_batch() -> None:
    """A silent server's streams overlap, and that is all that is known."""
    found = audit(facts(8, node(4)), [attempt(row, 0.0, 10.0) for row in range(8)])

    assert found.verdict == rules.OVERLAPPING
    assert found.width_mean.value is None
    assert "doesn't report" in found.width_mean.reason


def test_answers_that_came_whole_may_have_queued() -> None:
    """Without a first token, overlap counts from dispatch, and the verdict says what that is worth."""
    whole = [attempt(row, 0.0, 10.0, read=10.0, chunks=1) for row in range(4)]

    found = audit(facts(4, node(4)), whole)

    assert found.verdict == rules.OVERLAPPING
    assert "it may be queueing" in found.reason


def test_a_loop_that_calls_itself_a_batch_is_named() -> None:
    """Four were asked for, work was waiting, and one ran at a time."""
    found = certify(facts(8, node(4)), waves(8, 1, width=1.0))

    assert found.audit.verdict == rules.SEQUENTIAL
    assert found.audit.work_waiting.value == pytest.approx(7 / 8)


def test_requests_queued_in_a_serial_server_are_sequential_in_disguise() -> None:
    """All are in flight, yet each is written only after the one before."""
    queued = [attempt(row, 0.0, 10.0 * (row + 1), read=10.0 * row + 1) for row in range(8)]

    found = audit(facts(8, node(8)), queued)

    assert found.verdict == rules.SEQUENTIAL
    assert found.most_in_flight == 8
    assert found.overlap.value == pytest.approx(1.0)


def test_streams_that_overlap_at_width_one_are_sequential_in_disguise() -> None:
    """An engine of several slots that reports width 1 takes turns."""
    taking_turns = [attempt(row, 0.0, 10.0, width=1.0) for row in range(4)]

    assert audit(facts(4, node(4)), taking_turns).verdict == rules.SEQUENTIAL


def test_nodes_of_one_slot_side_by_side_overlap() -> None:
    """Width 1 on each of two nodes is what was asked for, and they ran at the same time."""
    nodes = node(1, name="a"), node(1, name="b", device="gpu")
    attempts = [attempt(row, 10.0 * (row // 2), 10.0, node=row % 2, width=1.0) for row in range(8)]

    assert audit(facts(8, *nodes), attempts).verdict == rules.OVERLAPPING


def test_one_at_a_time_as_asked_is_no_disguise() -> None:
    """A run that was meant to be sequential is not accused."""
    assert audit(facts(8, node(4), width_asked=1), waves(8, 1, width=1.0)).verdict == rules.AS_ASKED


def test_a_single_row_can_not_overlap() -> None:
    """With nothing else to send, running alone is no disguise."""
    assert audit(facts(1, node(4)), waves(1, 4, width=1.0)).verdict == rules.NOTHING_WAITING


def test_nothing_generated_has_no_verdict() -> None:
    """An empty run is n/a, with the reason."""
    found = audit(facts(0, node(4)), [])

    assert (found.verdict, found.reason) == (rules.NOTHING, "nothing was generated")
    assert found.overlap.value is None


def test_width_is_weighted_by_tokens() -> None:
    """A long answer made alone outweighs a short one made in company."""
    attempts = [attempt(0, 0.0, 10.0, tokens=90, width=1.0), attempt(1, 0.0, 1.0, tokens=10, width=2.0)]

    assert audit(facts(2, node(2)), attempts).width_mean.value == pytest.approx(1.1)


def test_requests_in_flight_are_means_over_equal_steps() -> None:
    """Half a run with four in flight and half with one, exactly."""
    attempts = [attempt(row, 0.0, 10.0) for row in range(3)] + [attempt(3, 0.0, 20.0)]

    series = audit(facts(4, node(4)), attempts).in_flight

    assert len(series.values) == rules.POINTS
    assert series.step == pytest.approx(0.1)
    assert series.values == pytest.approx((4.0,) * 100 + (1.0,) * 100)


@settings(max_examples=60, deadline=None)
@given(runs())
def test_overlap_and_flight_hold_for_any_run(run: tuple[RunFacts, list[Attempt]]) -> None:
    """Overlap is at least 1 where anything ran; the series holds every second of every request."""
    known, attempts = run
    certificate = certify(known, attempts)
    found = certificate.audit

    if attempts:
        assert found.overlap.value is not None
        assert found.overlap.value >= 1 - 1e-9
    assert max(found.in_flight.values, default=0) <= found.most_in_flight + 1e-6
    assert len(found.in_flight.values) <= rules.POINTS
