"""Memory over time, on the run's clock and in a unit that fits."""

from __future__ import annotations

import math

from report.dossiers import dossier
from report.scripted import facts, node, waves
from tokenmill.footprint import Curve, Footprint, ProcessUse
from tokenmill.report.charts import charts
from tokenmill.report.dossier import Dossier
from tokenmill.report.facts import Session

NOTHING = Curve(unit="", reason="not sampled")
MIB = 2**20


def process(name: str, pid: int, *samples: float | None) -> ProcessUse:
    curve = Curve(unit="B", means=samples, maxima=samples)
    return ProcessUse(
        name=name, pid=pid, peak_rss=None, peak_reason="", seen_peak=None, cpu_seconds=None, cpu=NOTHING, rss=curve
    )


def footprint(*processes: ProcessUse) -> Footprint:
    return Footprint(
        interval=1.0,
        start=0.0,
        times=(1.0, 2.0),
        samples=2,
        is_whole=True,
        spent=0.0,
        lasted=2.0,
        cores=2,
        machine=NOTHING,
        load=NOTHING,
        processes=processes,
        omitted=0,
        gpus=(),
        no_gpu="none",
        energy=(),
    )


def sampled(*footprints: Footprint) -> Dossier:
    """A run whose sessions had these footprints; each but the last lasted 5 s."""
    sessions = tuple(Session(0.0, 5.0) for _ in footprints)
    run = facts(4, node(4), sessions=sessions, footprints=dict(enumerate(footprints)))
    return dossier(run, waves(4, 4, seconds=4.0))


def test_without_samples_there_is_no_chart() -> None:
    """A record that holds no footprint draws nothing of memory."""
    found = dossier(facts(4, node(4)), waves(4, 4))

    assert found.picture.memory == ()
    assert "memory" not in {chart.name for chart in charts(found.picture)}


def test_the_largest_comes_first_in_a_unit_that_fits() -> None:
    """Processes are ordered by what they held; GiB from one GiB on."""
    found = sampled(footprint(process("driver", 1, 512 * MIB, 256 * MIB), process("worker", 2, 1024 * MIB, 2048 * MIB)))

    assert [(trace.label, trace.unit, trace.values) for trace in found.picture.memory] == [
        ("worker", "GiB", (1.0, 2.0)),
        ("driver", "GiB", (0.5, 0.25)),
    ]
    assert [chart.text for chart in charts(found.picture) if chart.name == "memory"] == [
        "Largest samples: worker 2.00 GiB, driver 0.50 GiB."
    ]


def test_sessions_follow_each_other() -> None:
    """A resumed run has one trace for each process, with a gap where there was no process."""
    found = sampled(footprint(process("driver", 1, 8 * MIB, None)), footprint(process("driver", 9, 16 * MIB, 16 * MIB)))
    (trace,) = found.picture.memory

    assert trace.times == (1.0, 2.0, 2.0, 6.0, 7.0)
    assert [None if math.isnan(value) else value for value in trace.values] == [8.0, None, None, 16.0, 16.0]


def test_processes_of_one_name_are_told_apart() -> None:
    """Two workers of a run are two traces."""
    found = sampled(footprint(process("worker", 5, 8 * MIB, 8 * MIB), process("worker", 6, 4 * MIB, 4 * MIB)))

    assert [trace.label for trace in found.picture.memory] == ["worker 5", "worker 6"]
