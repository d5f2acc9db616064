"""Times of requests and throughput, on data with known answers."""

from __future__ import annotations

import random
from statistics import quantiles

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.scripted import attempt, facts, node, runs, waves
from tokenmill.event import Attempt
from tokenmill.report.certificate import certify
from tokenmill.report.facts import Arrivals, RunFacts, Session
from tokenmill.report.measure import percentile, spread
from tokenmill.report.metrics import Metrics


def figures(run: RunFacts, attempts: list[Attempt]) -> Metrics:
    return certify(run, attempts).metrics


def test_one_request_has_the_times_of_its_definition() -> None:
    """TTFT, TPOT, ITL, latency and wait of a single streamed answer."""
    one = attempt(0, 2.0, 11.0, tokens=101, prompt=7, read=1.0, chunks=51)

    found = figures(facts(1, node(1)), [one])

    assert found.ttft.p50.value == pytest.approx(1.0)
    assert found.tpot.p50.value == pytest.approx(0.1)
    assert found.itl.p50.value == pytest.approx(0.2)
    assert found.itl_mean.value == found.itl_max.value == pytest.approx(0.2)
    assert found.latency.p50.value == pytest.approx(11.0)
    assert found.wait.p50.value == pytest.approx(2.0)
    assert (found.prompt_tokens, found.output_tokens) == (7, 101)


def test_throughput_is_over_the_makespan_loading_included() -> None:
    """Twelve answers of 100 tokens in 33 seconds, three of them loading."""
    found = figures(facts(12, node(4, load=3.0)), waves(12, 4, start=3.0))

    assert found.makespan.value == pytest.approx(33.0)
    assert found.makespan_without_loading.value == pytest.approx(30.0)
    assert found.requests_per_second.value == pytest.approx(12 / 33)
    assert found.output_tokens_per_second.value == pytest.approx(1200 / 33)


def test_loading_beside_work_is_not_taken_off_the_makespan() -> None:
    """While one node answers, the loading of another costs no time of its own."""
    nodes = node(4, name="a"), node(4, load=5.0, name="b", device="gpu")

    assert figures(facts(4, *nodes), waves(4, 4)).makespan_without_loading.value == pytest.approx(10.0)


def test_sessions_are_laid_end_to_end() -> None:
    """The time between a kill and the resume doesn't exist, and each session has its own clock."""
    run = facts(2, node(1), sessions=(Session(5.0, 20.0), Session(1.0, 99.0)))
    attempts = [attempt(1, 2.0, 3.0, session=1), attempt(0, 6.0, 10.0)]

    found = figures(run, attempts)

    assert found.makespan.value == pytest.approx(15.0 + 4.0)
    assert found.wait.largest.value == pytest.approx(16.0)


def test_failed_attempts_have_no_say_in_times() -> None:
    """Percentiles and throughput are over answers."""
    failed = attempt(0, 0.0, 50.0, outcome="failed")

    found = figures(facts(2, node(2)), [failed, attempt(1, 0.0, 10.0)])

    assert found.latency.count == 1
    assert found.latency.largest.value == pytest.approx(10.0)


def test_p99_needs_300_requests() -> None:
    """With 299 it is n/a and says why, with 300 it is there."""
    few = figures(facts(299, node(1)), waves(299, 1)).latency.p99
    enough = figures(facts(300, node(1)), waves(300, 1)).latency.p99

    assert (few.value, few.reason) == (None, "p99 needs 300 requests, there are 299")
    assert enough.value == pytest.approx(10.0)


def test_nothing_has_no_percentiles() -> None:
    """An empty run says n/a with reasons, never a number."""
    found = figures(facts(0, node(1), sessions=(Session(0.0, 4.0),)), [])

    assert found.makespan.value == pytest.approx(4.0)
    for shown in (found.ttft.p50, found.itl.p95, found.tpot.mean, found.latency.largest, found.requests_per_second):
        assert shown.value is None
        assert shown.reason


def test_an_answer_that_came_whole_has_no_tpot() -> None:
    """One chunk tells when the answer was there, not how fast it was written."""
    found = figures(facts(1, node(1)), [attempt(0, 0.0, 5.0, read=5.0, chunks=1)])

    assert found.ttft.p50.value == pytest.approx(5.0)
    assert found.tpot.p50.value is None
    assert found.itl.p50.value is None


def test_wait_is_unknown_when_rows_arrived_late() -> None:
    """Without each row's arrival no wait is claimed."""
    found = figures(facts(1, node(1), arrivals=(Arrivals(0, 1.0, 1),)), [attempt(0, 2.0, 1.0)])

    assert (found.wait.p50.value, found.wait.p50.reason) == (None, "rows arrived during the run")


def test_percentiles_agree_with_the_standard_library() -> None:
    """Linear between the nearest ranks, as `statistics.quantiles` does inclusively."""
    sample = sorted(random.Random(7).expovariate(1.0) for _ in range(501))
    cuts = quantiles(sample, n=100, method="inclusive")

    assert [percentile(sample, share) for share in (0.5, 0.95, 0.99)] == pytest.approx([cuts[49], cuts[94], cuts[98]])


@given(st.lists(st.floats(0, 1e6), min_size=300, max_size=320))
def test_percentiles_are_monotone(values: list[float]) -> None:
    """p50 <= p95 <= p99 <= largest, and all within the sample."""
    found = spread(values, "s", "")
    steps = [min(values), *(cell.value for cell in (found.p50, found.p95, found.p99, found.largest))]

    assert steps == sorted(steps)


@settings(max_examples=60, deadline=None)
@given(runs())
def test_the_order_of_attempts_does_not_matter(run: tuple[RunFacts, list[Attempt]]) -> None:
    """The figures of requests are the same however the record hands the attempts out."""
    known, attempts = run

    there, back = figures(known, attempts), figures(known, attempts[::-1])

    assert there.latency == back.latency
    assert there.ttft == back.ttft
    assert there.makespan == back.makespan
