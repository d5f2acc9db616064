"""Every planted second is found in its cause."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from report.scripted import attempt, facts, node, runs, stored, waves
from tokenmill.event import Attempt
from tokenmill.report.causes import NAMES, Causes
from tokenmill.report.certificate import certify
from tokenmill.report.facts import Arrivals, ManyArrivals, RunFacts, Session, Span


def found(run: RunFacts, attempts: list[Attempt]) -> Causes:
    why = certify(run, attempts).causes
    assert why is not None
    return why


def assert_causes(why: Causes, **planted: float) -> None:
    """The planted causes are found within 1 %, and no others."""
    expected = dict.fromkeys(NAMES, 0.0) | planted
    assert {name: getattr(why, name) for name in NAMES} == pytest.approx(expected, rel=0.01, abs=1e-6)
    assert sum(expected.values()) == pytest.approx(why.gap, rel=0.01)


def test_a_perfect_run_misses_nothing() -> None:
    """Full slots from start to end leave no gap, and no cause is named."""
    why = found(facts(12, node(4)), waves(12, 4))

    assert_causes(why)
    assert why.largest == ""


def test_loading_is_found() -> None:
    """Seconds before the node is ready are loading."""
    why = found(facts(12, node(4, load=3.0)), waves(12, 4, start=3.0))

    assert_causes(why, loading=3.0)
    assert why.largest == "loading"


def test_a_tail_is_found() -> None:
    """One row after three full waves leaves three of four slots idle for its ten seconds."""
    why = found(facts(13, node(4)), waves(13, 4))

    assert_causes(why, tail=7.5)
    assert why.largest == "tail"


def test_a_client_stall_is_found() -> None:
    """Two seconds in which rows wait and nothing is sent are the client's."""
    late = [attempt(row, 22.0, 10.0, width=4.0) for row in range(8, 12)]

    why = found(facts(12, node(4)), waves(8, 4) + late)

    assert_causes(why, client=2.0)
    assert why.largest == "client"


def test_a_stall_of_one_slot_counts_as_one_slot() -> None:
    """A slot idle for two seconds while rows wait is half a second of a run with four slots."""
    attempts = [*waves(11, 4), attempt(11, 22.0, 8.0, tokens=80, width=4.0)]

    assert_causes(found(facts(12, node(4)), attempts), client=0.5)


def test_retried_work_is_found() -> None:
    """Four slots working ten seconds for nothing are ten seconds of retried work."""
    failed = [attempt(row, 20.0, 10.0, outcome="failed") for row in range(8, 12)]
    again = [attempt(row, 30.0, 10.0, lease=2, width=4.0) for row in range(8, 12)]

    assert_causes(found(facts(12, node(4)), waves(8, 4) + failed + again), retried=10.0)


def test_a_final_failure_is_retried_work_too() -> None:
    """Work on a row that never got its answer is not generating."""
    failed = [attempt(row, 20.0, 5.0, outcome="failed") for row in range(8, 12)]

    assert_causes(found(facts(12, node(4), answered=8), waves(8, 4) + failed), retried=5.0)


def test_backoff_is_cooling_only_when_nothing_else_waits() -> None:
    """The slots that the rows in backoff will take are cooling, the others are tail."""
    failed = [attempt(row, 20.0, 4.0, outcome="failed") for row in (8, 9)]
    good = [attempt(row, 20.0, 4.0, tokens=40, width=4.0) for row in (10, 11)]
    again = [attempt(row, 27.0, 10.0, lease=2, width=2.0) for row in (8, 9)]

    why = found(facts(12, node(4)), waves(8, 4) + failed + good + again)

    assert_causes(why, retried=2.0, cooling=1.5, tail=1.5 + 5.0)


def test_a_row_in_backoff_does_not_excuse_the_client() -> None:
    """While one row backs off and others wait to be sent, an idle slot is the client's."""
    failed = attempt(0, 0.0, 1.0, outcome="failed")
    others = [attempt(1, 3.0, 10.0), attempt(0, 13.0, 10.0, lease=2)]

    assert_causes(found(facts(2, node(1)), [failed, *others]), retried=1.0, client=2.0)


def test_a_restart_is_cooling_and_its_load_is_loading() -> None:
    """After a crash the node is down for 3 s and loads for 2 s; the rows it had are done again."""
    crashed = [attempt(row, 10.0, 6.0, outcome="failed") for row in range(4, 8)]
    again = [attempt(row, 21.0, 10.0, lease=2, width=4.0) for row in range(4, 8)]
    one = node(4, loads=(Span(0, 19.0, 21.0),), up=(Span(0, 0.0, 16.0), Span(0, 21.0, 31.0)))

    assert_causes(found(facts(8, one), waves(4, 4) + crashed + again), retried=6.0, cooling=3.0, loading=2.0)


def test_a_node_held_back_on_purpose_is_cooling() -> None:
    """Idle slots of a node in quarantine are cooling although rows are waiting."""
    late = [attempt(row, 25.0, 10.0, width=4.0) for row in range(8, 12)]
    one = node(4, cooling=(Span(0, 20.0, 25.0),))

    assert_causes(found(facts(12, one), waves(8, 4) + late), cooling=5.0)


def test_everything_planted_at_once_is_told_apart() -> None:
    """A load, a stall, retried work and a tail in one run each keep their seconds."""
    first = waves(4, 4, start=3.0)
    second = [attempt(row, 15.0, 10.0, width=4.0) for row in range(4, 8)]
    failed = [attempt(row, 25.0, 4.0, outcome="failed") for row in range(8, 12)]
    again = [attempt(row, 29.0, 10.0, lease=2, width=4.0) for row in range(8, 12)]
    last = attempt(12, 39.0, 10.0, width=1.0)
    run = facts(13, node(4, load=3.0))

    why = found(run, [*first, *second, *failed, *again, last])

    assert_causes(why, loading=3.0, retried=4.0, client=2.0, tail=7.5)
    assert why.largest == "tail"


def test_rows_that_never_could_be_sent_are_no_excuse_for_a_stall() -> None:
    """Rows refused before sending don't turn the tail into the client's fault."""
    assert_causes(found(facts(20, node(4), unsent=7), waves(13, 4)), tail=7.5)


def test_rows_that_had_not_arrived_are_not_waiting() -> None:
    """Idle before rows arrive is not the client's."""
    late = [attempt(row, 15.0, 10.0, width=4.0) for row in range(4, 8)]

    for arrivals in (Arrivals(0, 15.0, 4),), ManyArrivals([(0, 15.0, 3), (0, 15.0, 1)]):
        run = facts(8, node(4), arrivals=arrivals)

        assert_causes(found(run, waves(4, 4) + late), tail=5.0)


def test_two_nodes_share_the_seconds_by_slots() -> None:
    """A node of one slot that idles beside one of three misses a quarter of the seconds."""
    nodes = node(3, name="a"), node(1, name="b", device="gpu")
    attempts = [attempt(row, 10.0 * (row // 3), 10.0, width=3.0) for row in range(9)]
    attempts += [attempt(9, 0.0, 10.0, node=1, width=3.0), attempt(10, 18.0, 12.0, tokens=120, node=1, width=3.0)]

    assert_causes(found(facts(11, *nodes), attempts), client=2.0)


def test_lost_rows_wait_in_the_next_session() -> None:
    """After a kill the work in flight is retried work, and idling in the next session is the client's."""
    lost = [attempt(row, 10.0, 0.0, outcome="lost") for row in range(4, 8)]
    again = [attempt(row, 103.0, 10.0, session=1, lease=2, width=4.0) for row in range(4, 8)]
    one = node(4, up=(Span(0, 0.0, 15.0), Span(1, 102.0, 113.0)), loads=(Span(1, 100.0, 102.0),))
    run = facts(8, one, sessions=(Session(0.0, 15.0), Session(100.0, 200.0)))

    certificate = certify(run, waves(4, 4) + lost + again)

    assert certificate.metrics.makespan.value == pytest.approx(28.0)
    assert certificate.causes is not None
    assert_causes(certificate.causes, retried=5.0, loading=2.0, client=1.0)


def test_idling_beside_the_longest_answer_is_no_missing_time() -> None:
    """When the longest answer bounds the run, the slots it left empty could not have helped."""
    attempts = [attempt(0, 0.0, 40.0, tokens=401, width=4.0)] + [
        attempt(row, 0.0, 10.0, width=4.0) for row in (1, 2, 3)
    ]

    certificate = certify(facts(4, node(4)), attempts)

    assert certificate.bound.binding == "longest"
    assert certificate.causes is not None
    assert certificate.causes.tail == pytest.approx(0, abs=0.01)
    assert certificate.causes.unavoidable == pytest.approx(40 - 17.5, rel=0.01)


def test_an_over_full_slot_is_counted_once() -> None:
    """Requests queued in an engine with look-ahead don't make more slots than there are."""
    queued = [attempt(row, 0.0, 10.0 * (1 + row // 2), read=10.0 * (row // 2), width=2.0) for row in range(6)]

    certificate = certify(facts(6, node(2)), queued)

    assert certificate.states.generating == pytest.approx(30.0)
    assert certificate.states.most_in_flight == 6


def test_slower_than_the_stored_pace_is_said() -> None:
    """A run at half the stored rate misses half its time to pace."""
    why = found(facts(12, node(4), stored=stored(decode=80.0, width=4.0)), waves(12, 4))

    assert_causes(why, slower=15.0)
    assert why.largest == "slower"


@settings(max_examples=120, deadline=None)
@given(runs())
def test_causes_sum_to_the_gap(run: tuple[RunFacts, list[Attempt]]) -> None:
    """Whatever happened, no cause is negative, they sum to the gap, and the states sum to the makespan."""
    certificate = certify(*run)
    spent, makespan = certificate.states, certificate.metrics.makespan.value or 0.0
    parts = (spent.loading, spent.generating, spent.retried, spent.cooling, spent.client, spent.tail)

    assert all(part >= -1e-9 for part in parts)
    assert sum(parts) == pytest.approx(makespan, abs=1e-6)
    if certificate.causes is not None:
        missing = [getattr(certificate.causes, name) for name in NAMES]
        assert all(seconds >= 0 for seconds in missing)
        assert sum(missing) == pytest.approx(certificate.causes.gap, rel=1e-6, abs=1e-5)
