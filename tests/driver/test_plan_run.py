"""What `plan` predicts from stored figures, against the same strategies on the servers that the figures are of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from tokenmill.driver.figures import keep_figures, read_figures
from tokenmill.driver.meaning import write_paces
from tokenmill.driver.options import Options, Settings, make_strategy
from tokenmill.driver.plan_run import PLAYED, Plan, plan_run, read_work
from tokenmill.driver.verdicts import StoredVerdict, keep
from tokenmill.errors import UsageError
from tokenmill.plan.figures import Figure, steps_of
from tokenmill.plan.identity import Sighting
from tokenmill.plan.ramp import Burst, Ramp, Shot
from tokenmill.report.facts import DevicePace, Pace
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import SimNode, simulate
from tokenmill.workload import Spec

A, B, C = "http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://10.0.0.3:8000"
DAY = "2026-11-20"
SENTENCES = Spec(source="sentences")
CURVES = {
    "4 slots": Curve(slots=4),
    "12 slots": Curve(slots=12),
    "falling": Curve(slots=16, serial=0.1),
    "knee at 7": Curve(slots=16, serial=0.05, coherence=0.02),
}


def burst(width: int, curve: Curve, speed: float, first: float) -> Burst:
    """What the server that the simulator plays makes of requests of 16 tokens that are sent at once."""
    shots: list[Shot] = []
    begin = 0.0
    while len(shots) < width:
        running = min(curve.slots or width, width - len(shots))
        token = 1 / (speed * curve.pace(running))
        shots += [Shot(begin + first + token, begin + first + 16 * token, 16)] * running
        begin = shots[-1].last
    return Burst(tuple(shots))


def figure(address: str, curve: Curve, speed: float = 25.0, first: float = 0.1, version: str = "1.0") -> Figure:
    """What a check of that server keeps."""
    ramp = Ramp(16)
    while ramp.width is not None:
        ramp.add(burst(ramp.width, curve, speed, first))
    host, _, port = address.removeprefix("http://").partition(":")
    return Figure(
        node=f"{host}:{port}",
        address=address,
        engine="openai",
        model="m",
        digest="d" * 40,
        host=host,
        device=f"{host}:{port}",
        checked=f"{DAY}T10:00:00+0000",
        sighting=Sighting(node=address, place=host, port=int(port), addresses=frozenset({host})),
        version=version,
        slots=ramp.slots,
        is_full=ramp.is_full,
        first_token=ramp.first_token,
        steps=steps_of(ramp.bursts),
    )


def plan(runs: Path, *nodes: str, spec: Spec = SENTENCES, **settings: object) -> Plan:
    return plan_run(Options(workload=spec), Settings(nodes=nodes or (A, B), **settings), runs)  # type: ignore[arg-type]


def really(folder: Path, nodes: Sequence[SimNode], spec: Spec = SENTENCES) -> float:
    """The makespan of the run's own strategy on these servers."""
    rows = read_work(spec, folder).rows
    settings = Settings(nodes=(A,), strategy="auto")
    strategy, _ = make_strategy(settings, len(rows), 0, names=[str(number) for number in range(len(nodes))])
    return simulate(strategy, rows, nodes, legs=2).makespan


def on_one_host(figure: Figure) -> Figure:
    """Two servers of one machine, at two of its ports."""
    port = 8000 if figure.address == A else 8001
    sighting = replace(figure.sighting, addresses=frozenset({"10.0.0.1"}), place="10.0.0.1", port=port)
    return replace(figure, sighting=sighting)


def verdict(together: float, *use: str, **more: object) -> StoredVerdict:
    known = {
        "host": "10.0.0.1",
        "device": "unknown",
        "digest": "d" * 40,
        "addresses": (A, B),
        "use": use,
        "together": together,
        "alone": 100.0,
        "low": together / 100 - 1.02,
        "high": together / 100 - 0.98,
        "date": DAY,
        "slots": None,
        "threads": None,
    }
    return StoredVerdict(**(known | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("curve", CURVES.values(), ids=list(CURVES))
def test_the_prediction_is_what_comes(tmp_path: Path, curve: Curve) -> None:
    """From what a check sees of two servers a run on each and on both is predicted to within 3 %."""
    keep_figures(tmp_path, [figure(A, curve), figure(B, curve, speed=10.0)])
    found = plan(tmp_path)

    nodes = [SimNode(slots=64, speed=speed, overhead=0.1, curve=curve) for speed in (25.0, 10.0)]
    fast, slow = found.alone
    assert fast.makespan == pytest.approx(really(tmp_path, nodes[:1]), rel=0.03)
    assert slow.makespan == pytest.approx(really(tmp_path, nodes[1:]), rel=0.03)
    (both,) = found.together
    assert both.makespan == pytest.approx(really(tmp_path, nodes), rel=0.03)
    assert all(choice.bound <= choice.makespan for choice in (fast, slow, both))
    assert both.gain == pytest.approx(1 - both.makespan / fast.makespan)


def test_a_long_input_is_played_in_part(tmp_path: Path) -> None:
    """Of an input that is longer than what is played, the rest is foreseen to within 2 %, and it is said."""
    spec = Spec(source=f"synthetic:rows={3 * PLAYED}")
    keep_figures(tmp_path, [figure(A, CURVES["4 slots"]), figure(B, CURVES["falling"])])
    found = plan(tmp_path, spec=spec)

    nodes = [SimNode(slots=64, speed=25.0, overhead=0.1, curve=CURVES[name]) for name in ("4 slots", "falling")]
    assert found.together[0].makespan == pytest.approx(really(tmp_path, nodes, spec), rel=0.02)
    assert f"{PLAYED} of the {3 * PLAYED} rows" in found.assumes[-1]


def test_a_second_node_of_one_device_is_only_used_if_it_was_measured_to_help(tmp_path: Path) -> None:
    """Without a verdict it is n/a with the command that measures it; with one against it, it is named."""
    keep_figures(tmp_path, [on_one_host(figure(A, CURVES["4 slots"])), on_one_host(figure(B, CURVES["4 slots"]))])
    unknown = plan(tmp_path)
    assert (len(unknown.alone), unknown.together, unknown.answers) == (2, (), ())
    assert "not measured together; run 'tokenmill nodes check --together" in unknown.nodes[1].note

    keep(tmp_path, [verdict(96.0, A)])
    against = plan(tmp_path)
    assert against.together == ()
    assert against.nodes[1].note.endswith(f"measured 4 % slower together on {DAY}: not used")


def test_two_nodes_of_one_device_that_help_make_what_was_measured(tmp_path: Path) -> None:
    """With a verdict for both, the set writes as much more than one as the verdict says."""
    keep_figures(tmp_path, [on_one_host(figure(A, CURVES["4 slots"])), on_one_host(figure(B, CURVES["4 slots"]))])
    keep(tmp_path, [verdict(150.0, A, B)])
    spec = Spec(source="synthetic:rows=400")
    (both,) = plan(tmp_path, spec=spec).together
    one = plan(tmp_path, spec=spec).alone[0]
    assert one.makespan / both.makespan == pytest.approx(1.5, rel=0.04)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (verdict(150.0, A, B, versions={"10.0.0.1:8000": "0.9"}), "at version 0.9, its figures are of 1.0: not used"),
        (verdict(150.0, A, B, slots=1), "was measured with --slots 1, so not used"),
    ],
    ids=["another version", "other slots"],
)
def test_a_verdict_of_another_use_is_named_and_not_used(tmp_path: Path, stored: StoredVerdict, words: str) -> None:
    """What was measured with another server version or other slots says nothing of this run."""
    keep_figures(tmp_path, [on_one_host(figure(A, CURVES["4 slots"])), on_one_host(figure(B, CURVES["4 slots"]))])
    keep(tmp_path, [stored])
    found = plan(tmp_path)
    assert found.together == ()
    assert words in found.nodes[1].note


def test_figures_of_another_model_are_named_and_not_used(tmp_path: Path) -> None:
    """A node whose figures are of another digest or model is n/a, with what it holds and the command."""
    other = replace(figure(C, CURVES["4 slots"]), digest="e" * 40)
    third = replace(figure("http://10.0.0.4:8000", CURVES["4 slots"]), model="n", digest="f" * 40)
    keep_figures(tmp_path, [figure(A, CURVES["4 slots"]), figure(B, CURVES["4 slots"]), other, third])
    found = plan(tmp_path, A, B, C, "http://10.0.0.4:8000", model="m")
    assert len(found.alone) == 2
    assert f"its figures of {DAY} are of another m (eeee" in found.nodes[2].note
    assert f"its figures are of n (checked on {DAY}), not of m" in found.nodes[3].note
    with pytest.raises(UsageError, match="of 2 models: m, n; name one with --model"):
        plan(tmp_path, A, "http://10.0.0.4:8000")


def test_runs_complete_the_figures(tmp_path: Path) -> None:
    """A prompt is read at the rate that a run has measured; where none has, the plan says so."""
    keep_figures(tmp_path, [figure(A, CURVES["4 slots"])])
    before = plan(tmp_path, A)
    assert "the rate is n/a" in " ".join(before.assumes)
    write_paces(
        tmp_path,
        (DevicePace(host="10.0.0.1", device="10.0.0.1:8000", digest="d" * 40, pace=Pace(prefill=10.0, decode=90.0)),),
    )
    after = plan(tmp_path, A)
    assert after.nodes[0].reading == 10.0
    assert after.alone[0].makespan > before.alone[0].makespan
    assert "the rate is n/a" not in " ".join(after.assumes)


def test_newer_figures_take_the_place_of_older_ones(tmp_path: Path) -> None:
    """There is one figure for an address and a model, and a damaged file is refused with the way out."""
    keep_figures(tmp_path, [figure(A, CURVES["4 slots"]), figure(B, CURVES["4 slots"])])
    keep_figures(tmp_path, [figure(A, CURVES["12 slots"])])
    assert {each.address: each.slots for each in read_figures(tmp_path)} == {A: 12, B: 4}
    keep_figures(tmp_path, [])
    (tmp_path / "figures.json").write_text("[{}]")
    with pytest.raises(UsageError, match="delete it, 'tokenmill nodes check' measures again"):
        plan(tmp_path)
