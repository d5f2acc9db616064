"""From footprints to figures, and which figures would mislead."""

from __future__ import annotations

import msgspec
import pytest

from tokenmill.footprint import Curve, EnergyUse, Footprint, ProcessUse
from tokenmill.report.definitions import DEFINITIONS
from tokenmill.report.resource_definitions import RESOURCE_DEFINITIONS
from tokenmill.report.resources import NOT_IDLE, Resources, mean, resources
from tokenmill.report.spoken_resources import DEFINED, spoken

NONE = Curve(unit="", reason="not in this test")


def curve(unit: str, *values: float | None) -> Curve:
    return Curve(unit=unit, means=values, maxima=values)


def part(joules: float | None, *watts: float, name: str = "package-0", reason: str = "") -> EnergyUse:
    source = "RAPL" if joules is not None else ""
    step = 1e-6 if joules is not None else None
    return EnergyUse(part=name, source=source, joules=joules, reason=reason, step=step, power=curve("W", *watts))


def process(peak: int | None, reason: str = "", seen: int | None = None) -> ProcessUse:
    return ProcessUse(
        name="driver",
        pid=7,
        peak_rss=peak,
        peak_reason=reason,
        seen_peak=seen,
        cpu_seconds=1.5,
        cpu=curve("%", 50.0, 100.0),
        rss=curve("B", 10 << 20, 20 << 20),
    )


def footprint(*energy: EnergyUse, **more: object) -> Footprint:
    """A session of 4 s with two points, the first 1 s long."""
    known = {
        "interval": 1.0,
        "start": 0.0,
        "times": (1.0, 4.0),
        "samples": 4,
        "is_whole": True,
        "spent": 0.008,
        "lasted": 4.0,
        "cores": 2,
        "machine": curve("%", 20.0, 100.0),
        "load": curve("", 0.5, 0.5),
        "processes": (process(30 << 20),),
        "omitted": 0,
        "gpus": (),
        "no_gpu": "no GPU",
        "energy": energy,
        **more,
    }
    return Footprint(**known)  # type: ignore[arg-type]  # the fields are those above


def judged(*sessions: Footprint, count: int | None = None, tokens: int = 100, answers: int = 10) -> Resources:
    found = resources(
        dict(enumerate(sessions)), sessions=len(sessions) if count is None else count, tokens=tokens, answers=answers
    )
    assert found is not None
    return found


def test_a_mean_counts_points_as_long_as_they_last() -> None:
    """1 s at 20 % and 3 s at 100 % are 80 %; gaps don't count."""
    assert mean(curve("%", 20.0, 100.0), 0.0, (1.0, 4.0)) == 80.0
    assert mean(curve("%", None, 100.0), 0.0, (1.0, 4.0)) == 100.0
    assert mean(NONE, 0.0, (1.0, 4.0)) is None


def test_energy_is_told_for_each_token_and_answer() -> None:
    """The parts that were measured are summed, and named."""
    found = judged(footprint(part(300.0, 75.0, 75.0), part(100.0, 25.0, 25.0, name="dram 0")))

    assert (found.energy.value, found.energy_of) == (400.0, ("package-0", "dram 0"))
    assert (found.energy_per_token.value, found.energy_per_answer.value) == (4.0, 40.0)


def test_all_sessions_of_a_run_count() -> None:
    """A resumed run took what all its sessions took."""
    assert judged(footprint(part(300.0, 75.0)), footprint(part(200.0, 50.0))).energy.value == 500.0


def test_no_meter_is_a_reason_and_not_zero() -> None:
    """What each part said is kept."""
    found = judged(footprint(part(None, reason="no RAPL here")))

    assert found.energy.value is None
    assert found.energy.reason == "GPU: no GPU; package-0: no RAPL here"
    assert found.energy_per_token.value is found.energy_per_answer.value is found.idle_share_at_most.value is None


def test_a_session_that_was_cut_off_has_no_whole_energy() -> None:
    """What it took after its last sample isn't known, so the sum is only told as the least."""
    found = judged(footprint(part(300.0, 75.0), is_whole=False), footprint(part(200.0, 50.0)))

    assert found.energy.value is None
    assert found.energy.reason.endswith("at least 500 J")


def test_a_session_without_samples_leaves_the_sum_unknown() -> None:
    """As one of an older version."""
    assert judged(footprint(part(300.0, 75.0)), count=2).energy.reason == "only 1 of 2 sessions were sampled"


def test_sessions_that_measured_other_parts_are_not_added() -> None:
    """A sum of a GPU here and a processor there is of nothing."""
    found = judged(footprint(part(300.0, 75.0)), footprint(part(200.0, 50.0, name="GPU 0")))

    assert found.energy.value is None


def test_answers_from_elsewhere_have_no_joules() -> None:
    """Another machine's energy isn't measured here, so this one's must not pass for it."""
    found = judged(footprint(part(300.0, 75.0), elsewhere=("far",)))

    assert found.energy.value == 300.0
    assert found.energy_per_token.value is None
    assert found.energy_per_token.reason == "measured on this host only, and far may have answered elsewhere"
    assert (found.elsewhere, found.not_here) == (("far",), "measured on this host only")


def test_no_answers_have_no_joules_each() -> None:
    """Nothing is divided by nothing."""
    assert judged(footprint(part(3.0, 1.0)), tokens=0, answers=0).energy_per_answer.reason == "there are no answers"


def test_the_idle_share_is_bounded_but_not_claimed() -> None:
    """Idle power can't be above the least power seen: 40 W of 4 s are at most 160 of 400 J."""
    found = judged(footprint(part(400.0, 40.0, 120.0)))

    assert (found.idle_share.value, found.idle_share.reason) == (None, NOT_IDLE)
    assert found.idle_share_at_most.value == pytest.approx(40.0)


def test_a_peak_that_is_not_known_tells_what_was_seen() -> None:
    """At least that much it was."""
    found = judged(footprint(processes=(process(None, "the session ended by force", 3 << 20),)))

    assert found.sessions[0].processes[0].peak_rss.reason == (
        "the session ended by force; at least 3.0 MiB when it was looked at last"
    )


def test_sampling_tells_its_own_cost() -> None:
    """8 ms in 4 s."""
    assert judged(footprint()).sessions[0].sampling_cost.value == pytest.approx(2.0)


def test_a_run_without_footprints_has_no_resources() -> None:
    """An older record says nothing."""
    assert resources({}, sessions=1, tokens=1, answers=1) is None


def test_the_text_tells_every_figure_or_why_not() -> None:
    """Peaks, shares with the number of cores, energy and its parts, and the cost of the sampling."""
    found = judged(footprint(part(400.0, 40.0, 120.0), elsewhere=("far",)))

    assert list(spoken(found)) == [
        ("machine", "80.0 % of one core, 2 cores, 100 % at most; load 0.50"),
        ("memory", "driver: 30.0 MiB at most"),
        ("processor", "driver: 1.50 s, 87.5 % of one core"),
        ("GPU", "n/a: no GPU"),
        ("energy", "package-0: 400 J by RAPL, 100 W on average"),
        ("energy", "400 J for package-0"),
        ("  a token", "n/a: measured on this host only, and far may have answered elsewhere"),
        ("  an answer", "n/a: measured on this host only, and far may have answered elsewhere"),
        ("  idle share", f"n/a: {NOT_IDLE}; at most 40.0 %"),
        ("elsewhere", "far: n/a, measured on this host only"),
        ("sampling", "every 1 s, 4 samples, for 2.00 ms/s of processor time"),
    ]


def test_every_figure_has_its_definition() -> None:
    """No number of the resources is in the JSON without one, and none takes the name of another figure."""
    found = msgspec.to_builtins(judged(footprint(part(400.0, 40.0, 120.0))))

    def names(node: object, name: str) -> set[str]:
        if isinstance(node, dict):
            return set().union(*(names(value, name if key == "value" else key) for key, value in node.items()))
        if isinstance(node, list | tuple):
            return set().union(*(names(value, name) for value in node))
        return {name} if isinstance(node, int | float) and not isinstance(node, bool) else set()

    assert names(found, "") <= set(RESOURCE_DEFINITIONS)
    assert set(DEFINED.values()) <= set(RESOURCE_DEFINITIONS)
    assert not set(DEFINITIONS) & set(RESOURCE_DEFINITIONS)
