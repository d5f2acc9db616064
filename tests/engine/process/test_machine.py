"""What of the machine is ours to use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokenmill.engine.local.machine import has_fast_bf16, usable_cores, usable_memory

linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity is a feature of Linux")


def describe_cpus(folder: Path, siblings: str | None) -> Path:
    """A kernel's description in which every CPU we may use has these siblings; None gives each its own core."""
    for cpu in os.sched_getaffinity(0):
        topology = folder / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu if siblings is None else siblings}\n")
    return folder


@linux
def test_two_threads_of_one_core_are_one(tmp_path: Path) -> None:
    """Hyperthreads don't count."""
    assert usable_cores(describe_cpus(tmp_path, "0-255"), tmp_path) == 1


@linux
def test_without_a_description_every_cpu_is_a_core(tmp_path: Path) -> None:
    """Where the kernel says nothing, the affinity is what is known."""
    assert usable_cores(tmp_path, tmp_path) == len(os.sched_getaffinity(0))


@linux
@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("100000 100000", 1)])
def test_a_cpu_quota_limits_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    """A container that may use one core's time gets one thread, whatever the host has."""
    (tmp_path / "cpu.max").write_text(quota)

    assert usable_cores(describe_cpus(tmp_path, None), tmp_path) == cores


@linux
def test_no_quota_is_no_limit(tmp_path: Path) -> None:
    """The word `max` means what it says."""
    (tmp_path / "cpu.max").write_text("max 100000")

    assert usable_cores(describe_cpus(tmp_path, None), tmp_path) == len(os.sched_getaffinity(0))


def test_a_memory_limit_counts(tmp_path: Path) -> None:
    """In a container, what its limit leaves is all there is."""
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")

    assert usable_memory(tmp_path) == 600_000


def test_without_a_memory_limit_the_machine_counts(tmp_path: Path) -> None:
    """No limit means the memory the machine has free."""
    (tmp_path / "memory.max").write_text("max\n")

    assert usable_memory(tmp_path) > 1_000_000


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("flags : fpu avx2 avx512_bf16", True), ("Features : fp asimd bf16", True), ("flags : fpu avx2 avx512f", False)],
)
def test_bf16_is_fast_where_the_cpu_says_so(tmp_path: Path, flags: str, fast: bool) -> None:
    """Emulated bf16 isn't fast."""
    (tmp_path / "cpuinfo").write_text(flags)

    assert has_fast_bf16(tmp_path / "cpuinfo") is fast


def test_a_cpu_nobody_describes_has_no_fast_bf16(tmp_path: Path) -> None:
    """Unknown means the safe choice."""
    assert not has_fast_bf16(tmp_path / "missing")
