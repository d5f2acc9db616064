"""What a plan for stated devices finds, and the arithmetic of a study of ten small devices that it reproduces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenmill.driver.figures import keep_figures
from tokenmill.driver.options import Settings
from tokenmill.driver.plan_gpus import Asked, GpuPlan, Placed, plan_gpus, stored_pace
from tokenmill.driver.plan_kinds import kinds_of_gpus
from tokenmill.driver.plan_run import Work
from tokenmill.driver.plan_words import sizes_of
from tokenmill.errors import UsageError
from tokenmill.plan.figures import Figure, Step
from tokenmill.plan.gpus import parse_gpus
from tokenmill.plan.identity import Sighting
from tokenmill.plan.shape import find_shape
from tokenmill.plan.step import Link
from tokenmill.schedule.simulate import SimRow

MIXTRAL, GPT2 = find_shape("mixtral-8x7b"), find_shape("gpt2")
LINK = Link(rate=12e9, latency=1e-5)
#: Instructions that are answered with up to 512 tokens.
WORK = Work(tuple(SimRow(row=row, tokens=512) for row in range(600)), 600 * 100, 612)


def study(work: Work | None = WORK, bandwidth: float | None = 616e9, link: Link | None = LINK) -> GpuPlan:
    """Mixtral 8x7B in 8 bits on ten devices of 11 GB."""
    groups = tuple(type(group)(count=10, memory=group.memory, bandwidth=bandwidth) for group in parse_gpus("10x11GB"))
    return plan_gpus(Asked(shape=MIXTRAL, dtype="int8", groups=groups, link=link), work, Settings())


def of(plan: GpuPlan, name: str) -> Placed:
    return next(each for each in plan.layouts if each.name == name)


def test_the_memory_plan_of_the_study() -> None:
    """110 GB in all, 47 of weights, 4.7 a device, 63 left, 6.3 a device, 128 KiB a token: hundreds of sequences."""
    plan = study()

    assert plan.memory == 110_000_000_000
    assert [round(size / 1e9) for size in (plan.weights, plan.left)] == [47, 63]
    assert [round(size / 1e9, 1) for size in (plan.even, plan.left_even)] == [4.7, 6.3]
    assert plan.kv_token == 128 * 1024
    assert 100 < plan.sequences < 1000
    said = " ".join(sizes_of(plan))
    for words in ("110 GB in all", "47 GB of weights", "4.7 GB a device", "leave 63 GB", "6.3 GB a device", "128 KiB"):
        assert words in said


def test_the_verdict_of_the_study() -> None:
    """One model a device wants 470 of 110 GB; one copy over all is left, with hundreds of sequences at a time."""
    plan = study()

    assert "10 copies of 47 GB are 470 of 110 GB" in " ".join(plan.refused)
    assert plan.answers[0].startswith("one copy a device is impossible")
    assert all(each.tp * each.stages > 1 for each in plan.layouts)
    spread, wide = of(plan, "layers over 10"), of(plan, "tp 8")
    assert 100 < spread.batch < 1000
    assert 100 < wide.batch < 1000
    assert wide.idle == 2
    assert any("one of them is busy at a time" in line for line in plan.answers)


def test_true_batches_are_what_pays() -> None:
    """A full batch over all devices writes many times what one request after the other does."""
    spread = of(study(), "layers over 10")

    assert spread.alone is not None
    assert spread.together is not None
    assert spread.together > 4 * spread.alone


def test_layouts_are_ordered_by_their_time() -> None:
    """The quickest stands first, and no makespan is below its bound."""
    times = [(each.makespan, each.bound) for each in study().layouts]

    assert times == sorted(times)
    assert all(makespan >= bound for makespan, bound in times if makespan is not None and bound is not None)


def test_a_small_model_is_copied() -> None:
    """GPT-2 fits every device, and copies share nothing, so they are quickest where links are slow."""
    groups, link = parse_gpus("4x24GB"), Link(rate=1e9, latency=1e-4)
    asked = Asked(shape=GPT2, dtype="fp32", groups=groups, link=link, pace=200.0)
    plan = plan_gpus(asked, WORK, Settings())

    assert plan.layouts[0].name == "dp 4"
    assert {"tp 4", "tp 2 x dp 2", "layers over 4"} <= {each.name for each in plan.layouts}


def test_a_pace_is_the_pace_of_one_request() -> None:
    """A stated pace is what one request alone gets on one device, with its keys and values."""
    asked = Asked(shape=GPT2, dtype="fp32", groups=parse_gpus("1x24GB"), pace=200.0)
    (alone,) = plan_gpus(asked, WORK, Settings()).layouts

    assert alone.alone == pytest.approx(200)


def test_without_a_pace_times_are_missing_with_a_reason() -> None:
    """Sizes are told all the same, and each layout says what would have to be stated."""
    without_pace, without_link, without_rows = study(bandwidth=None), study(link=None), study(work=None)

    assert "give --bandwidth" in of(without_pace, "tp 8").note
    assert "give its rate with --link" in of(without_link, "tp 8").note
    assert "name it with --requests" in of(without_rows, "tp 8").note
    assert of(without_pace, "tp 8").makespan is None
    assert without_rows.rows is None
    assert without_rows.tokens == MIXTRAL.context


def test_a_width_that_divides_nothing_is_refused() -> None:
    """GPT-2 has 12 heads: 8 isn't possible, and the line says what is."""
    with pytest.raises(UsageError, match=r"gpt2 has 12 heads, which 8 doesn't divide; take 1 or 2 or 3 or 4 or 6$"):
        plan_gpus(Asked(shape=GPT2, dtype="fp32", groups=parse_gpus("8x11GB"), tp=8), WORK, Settings())


def test_what_does_not_fit_at_all_is_impossible() -> None:
    """One device of 11 GB holds no copy, and the plan says so instead of a number."""
    plan = plan_gpus(Asked(shape=MIXTRAL, dtype="int8", groups=parse_gpus("1x11GB")), WORK, Settings())

    assert plan.layouts == ()
    assert plan.answers[0].startswith("impossible: ")
    assert plan.refused == ("the one device: no: 47 GB of weights, and it has 11 GB",)


def test_a_kind_of_devices_stays_idle_only_where_that_is_quicker() -> None:
    """Slow devices beside fast ones may hold up the last rows; then leaving them out is one of the layouts."""
    fast, slow = parse_gpus("4x80GB,1x24GB")
    groups = (
        type(fast)(count=4, memory=fast.memory, bandwidth=3e12),
        type(slow)(count=1, memory=slow.memory, bandwidth=1e11),
    )
    short = Work(WORK.rows[:10], 1000, 612)
    plan = plan_gpus(Asked(shape=GPT2, dtype="fp32", groups=groups, tp=1, link=LINK), short, Settings())

    assert plan.layouts[0].name == "dp 4 on the 4 x 80 GB"
    assert plan.layouts[0].idle == 1
    assert not any("on the 1 x" in each.name for each in plan.layouts)


def test_many_rows_are_played_in_part() -> None:
    """A long input takes as long as its tokens say: twice the rows take twice the time."""
    pages = [
        Work(tuple(SimRow(row=row, tokens=50 + row % 7) for row in range(rows)), 10 * rows, 70)
        for rows in (30000, 60000)
    ]
    asked = Asked(shape=GPT2, dtype="fp32", groups=parse_gpus("2x2GB"), pace=100.0, tp=1, link=LINK)
    one, two = (plan_gpus(asked, work, Settings(slots=16)).layouts[0].makespan for work in pages)

    assert one is not None
    assert two == pytest.approx(2 * one, rel=0.01)


def test_a_stored_pace_is_found_by_the_model(tmp_path: Path) -> None:
    """The newest check of a model of that name says how quick one request is, and its day and node are told."""
    figures = [
        Figure(
            node="gpu-a",
            address="http://10.0.0.1:8000",
            engine="openai",
            model="gpt2",
            digest=day,
            host="h",
            device="gpu:0",
            checked=f"{day}T10:00:00",
            sighting=Sighting(node="gpu-a", place="10.0.0.1", port=8000),
            slots=4,
            steps=(Step(1, pace),),
        )
        for day, pace in (("2026-11-19", 50.0), ("2026-11-20", 60.0))
    ]
    keep_figures(tmp_path, figures)

    found = stored_pace("gpt2", tmp_path)

    assert found is not None
    assert found[0] == 60.0
    assert "2026-11-20 on gpu-a" in found[1]
    assert stored_pace("llama-3-8b", tmp_path) is None


def test_a_fleet_of_hosts_takes_the_quickest_layout() -> None:
    """Each host has the copies of the layout that is quickest for its rows: few rows want wide ones, many want more."""
    asked = Asked(shape=GPT2, dtype="fp32", groups=parse_gpus("4x24GB"), link=LINK, pace=200.0)
    few, many = (kinds_of_gpus(asked, WORK, rows, Settings(slots=64)) for rows in (100.0, 3000.0))

    assert "gpt2 as tp 2 x dp 2 on each host" in few.source
    assert (few.a_host, few.nodes[0].slots) == (2, 50)
    assert "gpt2 as dp 4 on each host" in many.source
    assert (many.a_host, many.nodes[0].slots) == (4, 64)
