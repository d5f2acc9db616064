"""From counters and powers to joules, and where Linux shows them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tokenmill.resources import rapl
from tokenmill.resources.curves import Curves
from tokenmill.resources.energy import NEVER, WENT_BACK, Counted, Integrated
from tokenmill.resources.gpu import Reading
from tokenmill.resources.meters import COUNTER, POWER, gpu_meter, processor_meters, uses


def test_a_counter_is_a_difference() -> None:
    """What it stood at before is nobody's."""
    meter = Counted(1e-3)

    assert [meter.add(1.0, 5000), meter.add(2.0, 5300), meter.add(4.0, 6300)] == [None, 0.3, 0.5]
    assert meter.joules() == (pytest.approx(1.3), "")


def test_a_counter_begins_again_after_its_range() -> None:
    """262144 J of a processor package are soon full."""
    meter = Counted(1e-6, range=262_143_328_850)
    meter.add(0.0, 262_143_000_000)

    assert meter.add(1.0, 671_150) == pytest.approx(1.0)
    assert meter.joules() == (pytest.approx(1.0), "")


def test_a_counter_without_range_that_goes_back_is_unknown() -> None:
    """Then nobody knows how much there was, also later."""
    meter = Counted(1e-3)
    for second, count in enumerate([900, 1000, 10, 500]):
        meter.add(float(second), count)

    assert meter.joules() == (None, WENT_BACK)


def test_a_reading_that_failed_loses_no_energy() -> None:
    """The next one holds its part too."""
    meter = Counted(1.0)
    for second, count in enumerate([10, None, 30]):
        meter.add(float(second), count)

    assert meter.joules() == (20.0, "")


def test_one_reading_is_no_energy() -> None:
    """Not 0 either."""
    counted, integrated = Counted(1.0), Integrated()
    counted.add(0.0, 10)
    integrated.add(0.0, 70.0)

    assert counted.joules() == integrated.joules() == (None, NEVER)


def test_power_is_only_told_over_enough_time() -> None:
    """A counter that moves in steps shows wild powers over a millisecond; the energy counts all the same."""
    meter = Counted(1.0)

    assert [meter.add(0.0, 0), meter.add(0.001, 3), meter.add(1.001, 5)] == [None, None, pytest.approx(2.0)]
    assert meter.joules() == (5.0, "")


def test_powers_are_joined_by_straight_lines() -> None:
    """100 W falling to 50 W in 2 s, a reading that failed, then 50 W for 2 s."""
    meter = Integrated()
    for second, watts in [(0.0, 100.0), (2.0, 50.0), (3.0, None), (4.0, 50.0)]:
        meter.add(second, watts)

    assert meter.joules() == (150.0 + 100.0, "")


def zone(root: Path, folder: str, name: str, energy: str | None = "1000") -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text("262143328850\n")
    if energy is not None:
        (path / "energy_uj").write_text(f"{energy}\n")
    return path


def test_each_processor_counts_once(tmp_path: Path) -> None:
    """Cores lie in their package, the board holds all, and the second door leads to the same counter."""
    for folder, name in [
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ]:
        zone(tmp_path, folder, name)

    assert [each.name for each in rapl.zones(tmp_path)] == ["package-0", "dram 0", "package-1"]
    assert rapl.zones(tmp_path)[0].range == 262_143_328_850


def test_no_counters_are_a_reason(tmp_path: Path) -> None:
    """A machine without RAPL has an entry that says so."""
    (found,) = uses([], Curves(0.0), tmp_path / "none")

    assert (found.part, found.joules) == ("processor", None)
    assert "shows no energy counters" in found.reason


def test_a_counter_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    """A zone without its file is listed, without a number."""
    zone(tmp_path, "intel-rapl:0", "package-0", energy=None)

    ((_, meter),) = processor_meters(tmp_path)

    assert meter.use(Curves(0.0)).joules is None
    assert "can't be read" in meter.use(Curves(0.0)).reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_counter_names_the_way_out(tmp_path: Path) -> None:
    """Most systems keep the counter for root."""
    (zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj").chmod(0)

    assert "chmod a+r" in rapl.zones(tmp_path)[0].fault


def test_permission_denied_is_told_from_other_faults(tmp_path: Path) -> None:
    """Only what a change of rights can help is told so."""
    path = tmp_path / "energy_uj"

    assert "may be read by root only" in rapl.why(path, PermissionError(errno.EACCES, "Permission denied"))
    assert rapl.why(path, OSError(errno.EIO, "Input/output error")).endswith("can't be read (Input/output error)")


def test_a_gpu_is_measured_in_the_best_way_it_has() -> None:
    """The counter before the power, and a reason if there is neither."""
    both = Reading(busy=1.0, memory=2, total=3, watts=70.0, counter=9, reasons={})
    power = Reading(busy=1.0, memory=2, total=3, watts=70.0, counter=None, reasons={"counter": "no"})
    none = Reading(busy=1.0, memory=2, total=3, watts=None, counter=None, reasons={"counter": "no", "watts": "no"})

    found = [gpu_meter("GPU 0", first).use(Curves(0.0)) for first in (both, power, none)]

    assert [each.source for each in found] == [COUNTER, POWER, ""]
    assert [each.step for each in found] == [1e-3, None, None]
    assert found[2].reason == "no"
