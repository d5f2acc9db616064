"""GPUs through NVML, and every way in which there may be none."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.device import Card, ScriptedNvml
from tokenmill.footprint import Footprint, OwnProcess
from tokenmill.resources.energy import WENT_BACK
from tokenmill.resources.gpu import Gpus, chosen, load
from tokenmill.resources.host import Host
from tokenmill.resources.meters import COUNTER, POWER

UUIDS = ["GPU-aaaa", "GPU-bbbb", "GPU-abcd"]


def played(*cards: Card, samples: int) -> Footprint:
    """A session of so many seconds beside these GPUs."""

    def fresh() -> list[tuple[str, OwnProcess]]:
        return []

    host = Host(0.0, fresh, Gpus(ScriptedNvml(*cards)), powercap=Path("/nowhere"))
    host.begin(0.0)
    for second in range(1, samples + 1):
        host.sample(float(second))
    return host.footprint(interval=1.0, spent=0.0, is_whole=True, elsewhere=())


def test_a_gpu_with_a_counter_gives_energy_power_load_and_memory() -> None:
    """2 s at 300 W and 400 W; the first answers tell which way there is."""
    found = played(Card(energies=[0, 1000, 301_000, 701_000], powers=[1] * 9), samples=2)

    (energy, processor) = found.energy
    assert (energy.source, energy.joules, energy.power.means) == (COUNTER, 700.0, (300.0, 400.0))
    assert processor.joules is None
    assert found.gpus[0].name == "GPU 0 (Test 80)"
    assert found.gpus[0].busy.means == (50.0, 50.0)
    assert found.gpus[0].memory.maxima == (2 << 30, 2 << 30)
    assert found.gpus[0].total == 80 << 30


def test_a_gpu_without_a_counter_is_integrated() -> None:
    """Power alone gives energy by straight lines."""
    energy = played(Card(powers=[70_000, 100_000, 200_000, 400_000]), samples=2).energy[0]

    assert (energy.source, energy.joules) == (POWER, 150.0 + 300.0)
    assert energy.power.means == (200.0, 400.0)


def test_a_gpu_that_tells_nothing_is_listed_with_the_reason() -> None:
    """Nothing that isn't known is 0."""
    found = played(Card(busy=None, memory=None), samples=2)

    assert (found.energy[0].joules, found.energy[0].reason) == (None, "NVML says: Not Supported")
    assert (found.gpus[0].total, found.gpus[0].busy.reason) == (None, "NVML says: Not Supported")
    assert found.gpus[0].busy.means == (None, None)


def test_a_driver_that_was_loaded_again_makes_energy_unknown() -> None:
    """Its counter begins at 0, and what was lost nobody knows."""
    assert played(Card(energies=[5, 5, 9, 1], powers=[1] * 9), samples=2).energy[0].reason == WENT_BACK


def test_a_library_without_a_driver_is_a_reason() -> None:
    """The words of NVML are kept."""
    gpus = Gpus(ScriptedNvml(broken="NVML Shared Library Not Found"))

    assert (gpus.names, gpus.reason) == ([], "NVML says: NVML Shared Library Not Found")


def test_no_library_and_no_driver_is_no_gpu(tmp_path: Path) -> None:
    """This machine either has NVML or says why not, and then there are no GPUs."""
    nvml = load(tmp_path / "none")
    gpus = Gpus(nvml)

    assert gpus.names or gpus.reason
    gpus.close()


def test_the_library_is_given_back() -> None:
    """NVML counts who opened it."""
    nvml = ScriptedNvml(Card())
    gpus = Gpus(nvml)
    assert nvml.is_open

    gpus.close()

    assert not nvml.is_open


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("GPU-b", [1]),
        ("1,GPU-bbbb", [1]),
        ("0,-1,1", [0]),
        ("7", []),
        ("MIG-1234", []),
    ],
)
def test_only_gpus_that_cuda_shows_count(visible: str | None, expected: list[int]) -> None:
    """Numbers or beginnings of UUIDs, up to the first that fits none."""
    assert chosen(visible, UUIDS) == expected


def test_hidden_gpus_are_a_reason() -> None:
    """GPUs that the run may not use aren't its own."""
    gpus = Gpus(ScriptedNvml(Card()), visible="-1")

    assert (gpus.names, gpus.reason) == ([], "CUDA_VISIBLE_DEVICES names no whole GPU of this machine")
