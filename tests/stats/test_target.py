"""Targets: reading, judging, and the worst of all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import InputFaults
from tokenmill.stats.interval import Interval
from tokenmill.stats.measure import Measure
from tokenmill.stats.target import Judged, Target, judge_all, parse, worst

KNOWN = ("speedup", "efficiency", "makespan", "ttft.p95", "rss")


def one(text: str) -> Target:
    (target,) = parse([text], KNOWN)
    return target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("speedup@8>=4", Target(name="speedup", at="8", sign=">=", limit=4.0)),
        (" makespan <= 2 min ", Target(name="makespan", sign="<=", limit=2.0, unit="min")),
        ("efficiency@pull/8>50%", Target(name="efficiency", at="pull/8", sign=">", limit=50.0, unit="%")),
        ("ttft.p95<.2s", Target(name="ttft.p95", sign="<", limit=0.2, unit="s")),
    ],
)
def test_targets_are_read(text: str, target: Target) -> None:
    """A figure, perhaps a point, a comparison, a limit and perhaps a unit."""
    assert one(text) == target


def test_all_faults_are_told_together() -> None:
    """What is no target, no known figure or no known unit is named, each with the way out."""
    with pytest.raises(InputFaults) as raised:
        parse(["speedup=4", "sped>4", "makespan<3fortnights", "rss<1GB"], KNOWN)

    assert raised.value.faults == (
        "'speedup=4' is no target; write such as 'speedup@8>=4' or 'makespan<=2min'",
        "'sped>4' names the figure 'sped'; known: efficiency, makespan, rss, speedup, ttft.p95",
        "'makespan<3fortnights' has the unit 'fortnights'; known: %, x, ms, s, min, h, B, kB, MB, GB, MiB, GiB, "
        "or none for the figure's own",
    )


@pytest.mark.parametrize(
    ("text", "measured", "outcome"),
    [
        ("speedup@8>=4", Measure(4.0, ""), "pass"),
        ("speedup@8>4", Measure(4.0, ""), "fail"),
        ("speedup@8>=4x", Measure(3.9, ""), "fail"),
        ("efficiency>50%", Measure(0.6, "per slot"), "pass"),
        ("makespan<=2min", Measure(119.0, "s"), "pass"),
        ("ttft.p95<200ms", Measure(0.3, "s"), "fail"),
        ("rss<1.5GB", Measure(1.4e9, "B"), "pass"),
        ("makespan<=2", Measure(1.0, "min"), "pass"),
    ],
)
def test_a_value_is_judged_in_its_unit(text: str, measured: Measure, outcome: str) -> None:
    """The limit is brought to the figure's unit; without a unit it is in that of the figure."""
    judged = one(text).judge(measured)

    assert (judged.outcome, judged.value, judged.reason) == (outcome, measured.value, "")


def test_what_cannot_be_judged_says_why() -> None:
    """A figure that is missing, not available or of another unit gives n/a with the reason."""
    targets = parse(["speedup@8>=4", "rss<1GB", "makespan<1GB"], KNOWN)
    figures = {"rss": Measure(None, "B", "no such counter here"), "makespan": Measure(3.0, "s")}

    reasons = [(judged.outcome, judged.reason) for judged in judge_all(targets, figures)]

    assert reasons == [
        ("n/a", "not measured"),
        ("n/a", "no such counter here"),
        ("n/a", "the target is in GB, the figure in s"),
    ]


@pytest.mark.parametrize(("low", "is_clear"), [(4.1, True), (3.9, False), (None, None)])
def test_an_interval_says_how_clear_the_outcome_is(low: float | None, is_clear: bool | None) -> None:
    """The value decides; an interval that holds the limit makes the outcome unclear."""
    high = None if low is None else 4.6
    measured = Interval(value=4.3, low=low, high=high, unit="", counts=(5,), counted="pairs")

    judged = one("speedup>=4").judge(measured)

    assert (judged.outcome, judged.is_clear) == ("pass", is_clear)


def test_the_worst_outcome_counts() -> None:
    """A failure is worse than what can't be judged, and that is worse than a pass; no targets pass."""
    passed, missing, failed = (Judged(target=one("speedup>1"), outcome=outcome) for outcome in ("pass", "n/a", "fail"))

    assert worst([passed, failed, missing]) == "fail"
    assert worst([missing, passed]) == "n/a"
    assert worst([passed]) == worst([]) == "pass"


@given(st.sampled_from(KNOWN), st.sampled_from(["", "8", "pull/8"]), st.sampled_from([">=", "<=", ">", "<"]))
def test_a_target_is_read_as_it_is_written(name: str, at: str, sign: str) -> None:
    """The text of a target gives the same target again."""
    target = Target(name=name, at=at, sign=sign, limit=2.5, unit="s")

    assert one(str(target)) == target
