"""Whether several processes pay here: measured by a real run, kept, and a reason to refuse them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cli.desk import Desk
from cli.tiny_model import write_tiny_model
from tokenmill.driver.launching import WHOLE, groups_on, refuse_slower, seat_names, seats_of
from tokenmill.driver.options import Options, Settings, absolute
from tokenmill.driver.survey import survey
from tokenmill.driver.verdicts import Group, keep, read_verdicts, stored_of
from tokenmill.errors import UsageError
from tokenmill.launch.spec import parse_on
from tokenmill.schedule.trial import Verdict
from tokenmill.workload import Spec

#: Rows that are some 500 turns of workers with two requests in flight.
ROWS = 2000
SAID = re.compile(
    r"worker-0, worker-1 and whole may share a device: ([\d.]+) tok/s together, ([\d.]+) alone, "
    r"95 % interval ([+-]\d+) to ([+-]\d+) %: using (all|one)"
)
ALONE = Verdict(nodes=(2,), together=41.0, alone=52.5, low=-0.31, high=-0.12)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    write_tiny_model(tmp_path / "model")
    return Desk(tmp_path)


@pytest.mark.slow
def test_a_run_measures_whether_they_pay(desk: Desk) -> None:
    """A run that is long enough says which is faster, by how much and how surely; whatever is true here."""
    desk.write("in.txt", "".join(f"say {row}\n" for row in range(ROWS)))
    words = ("--model", "model", "--on", "processes:2", "--force", "--strategy", "auto", "--slots", "1")

    ended = desk.process("run", "in.txt", *words, "--max-tokens", "2", "--odd", "empty=flag", "-o", "out.jsonl")

    assert ended.code == 0, ended.err
    said = SAID.search(ended.err)
    assert said is not None, ended.err
    together, alone, low, high = map(float, said.groups()[:4])
    assert min(together, alone) > 0
    assert low - 1 <= 100 * (together / alone - 1) <= high + 1  # as all four are rounded
    assert said[5] == "one" or low >= 0
    if "not kept" not in ended.err:
        (stored,) = read_verdicts(desk.runs)
        assert len(stored.use) == (2 if said[5] == "all" else 1)


def settings(desk: Desk, **chosen: Any) -> Settings:
    """Of a run on two processes that hold the desk's model."""
    on = replace(parse_on("processes:2"), force=True)
    return Settings(nodes=(f"local:{absolute(str(desk.folder / 'model'))}",), on=on, **chosen)


def group_of(desk: Desk, chosen: Settings) -> Group:
    """What a verdict on these processes is found by."""
    digest = survey(Options(workload=Spec(source=str(desk.folder / "ok.txt"))), chosen).first[1].digest
    (group,) = groups_on(chosen, seats_of(chosen, remote=False), digest)
    return group


def test_what_is_known_to_be_slower_is_refused_with_the_figures(desk: Desk) -> None:
    """One line with both rates, the interval and the day; nothing is prepared, and a dry run says so too."""
    keep(desk.runs, [stored_of(group_of(desk, settings(desk)), ALONE, {})])

    for more in (("--strategy", "pull"), ("--strategy", "static"), ("--strategy", "auto"), ("--dry-run",)):
        words = ("--on", "processes:2", "--force", *more)
        ended = desk.call("run", "ok.txt", "--model", "model", *words, "-o", "out.jsonl")

        assert ended.code == 2
        assert "one process with all cores was faster here: 52.5 tok/s, and 41.0 with 2 processes" in ended.err
        assert "(95 % interval -31 to -12 %, measured on " in ended.err
        assert "leave --on out, or add --together yes" in ended.err
        assert ended.err.count("\n") == 1
        assert desk.made_runs() == []


def test_the_user_may_have_them_anyway(desk: Desk) -> None:
    """`--together yes` overrides, and a verdict on other slots says nothing."""
    group = group_of(desk, settings(desk))
    keep(desk.runs, [stored_of(group, ALONE, {})])

    refuse_slower(settings(desk, together="yes"), group.digest, desk.runs)
    refuse_slower(settings(desk, slots=3), group.digest, desk.runs)
    with pytest.raises(UsageError, match="one process with all cores was faster"):
        refuse_slower(settings(desk), group.digest, desk.runs)


@pytest.mark.parametrize("device", [None, "cpu", "mps"])
def test_one_process_with_everything_stands_beside_those_that_share_it(desk: Desk, device: str | None) -> None:
    """With strategy `auto`: on the processor, which a run takes that names no device, and on a machine's one GPU."""
    chosen = settings(desk, device=device, strategy="auto", kv_memory=1 << 24)

    assert seat_names(chosen) == ("worker-0", "worker-1", WHOLE)
    assert group_of(desk, chosen).nodes == (0, 1, 2)


def test_processes_with_a_gpu_each_are_held_against_nothing(desk: Desk) -> None:
    """One more would need a GPU that another has, and what was once measured of shared cores says nothing of them."""
    on_cores = group_of(desk, settings(desk))
    keep(desk.runs, [stored_of(replace(on_cores, device="cuda"), ALONE, {})])
    chosen = settings(desk, device="cuda", strategy="auto")

    assert seat_names(chosen) == ("worker-0", "worker-1")
    assert groups_on(chosen, seats_of(chosen, remote=False), on_cores.digest) == []
    refuse_slower(chosen, on_cores.digest, desk.runs)
