"""What the files under /proc say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.resources.proc import Held, Ticks, read_held, read_machine, read_ticks
from tokenmill.resources.process import NO_PROC, look, machine_seconds

REST = "S 1 7 7 0 -1 4194560 1000 0 0 0 150 25 3 4 20 0 9 0 86421 500000 9000 18446744073709551615 1 1 0 0"
STATUS = """Name:\tpython3
Umask:\t0022
State:\tS (sleeping)
VmPeak:\t  900000 kB
VmHWM:\t  412300 kB
VmRSS:\t  301000 kB
Threads:\t9
"""
MACHINE = """cpu  700 50 250 9000 300 10 40 60 500 0
cpu0 350 25 125 4500 150 5 20 30 250 0
intr 12345
"""


def proc(folder: Path, pid: int = 7, stat: str = f"7 (python3) {REST}\n", status: str = STATUS) -> Path:
    """A folder that looks like /proc with one process."""
    (folder / str(pid)).mkdir(parents=True)
    (folder / str(pid) / "stat").write_text(stat, encoding="utf-8")
    (folder / str(pid) / "status").write_text(status, encoding="utf-8")
    (folder / "stat").write_text(MACHINE)
    return folder


def test_processor_time_is_user_and_system_without_children() -> None:
    """Ticks of the process itself count; those of children it waited for don't."""
    assert read_ticks(f"7 (python3) {REST}") == Ticks(175, 86421)


@given(st.text(st.characters(exclude_characters="\0"), max_size=15))
def test_a_name_can_not_shift_the_fields(name: str) -> None:
    """Brackets, spaces and line ends in the name of a process change nothing."""
    assert read_ticks(f"7 ({name}) {REST}") == Ticks(175, 86421)


def test_memory_is_in_bytes() -> None:
    """The kernel's kB are KiB."""
    assert read_held(STATUS) == Held(301000 * 1024, 412300 * 1024)


def test_a_process_without_memory_has_no_zero() -> None:
    """A process that is ending has no sizes, which is not 0 bytes."""
    assert read_held("Name:\tpython3\nState:\tZ (zombie)\n") == Held(None, None)


def test_the_machine_works_in_some_of_its_time_only() -> None:
    """Idle, waiting for disks and stolen time aren't work, and guests are in user time already."""
    assert read_machine(MACHINE) == 700 + 50 + 250 + 10 + 40


def test_an_old_kernel_has_fewer_columns() -> None:
    """Columns that later kernels added may be missing."""
    assert read_machine("cpu 5 6 7 100 1 2 3\n") == 5 + 6 + 7 + 2 + 3


def test_a_process_is_looked_at(tmp_path: Path) -> None:
    """Time in seconds, memory in bytes."""
    seen = look(7, proc(tmp_path))

    assert (seen.rss, seen.peak, seen.born, seen.reason) == (301000 * 1024, 412300 * 1024, 86421, "")
    assert seen.cpu == 175 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("stat", "status", "reason"),
    [
        ("7 (python3", STATUS, "can't be read"),
        ("7 (python3) S 1", STATUS, "can't be read"),
        (f"7 (python3) {REST}", "VmRSS:\t12 pages\n", "VmRSS is in pages, not in kB"),
        (f"7 (python3) {REST}", "VmRSS:\n", "can't be read"),
    ],
)
def test_what_can_not_be_understood_is_a_reason(tmp_path: Path, stat: str, status: str, reason: str) -> None:
    """A form that isn't known gives no number."""
    seen = look(7, proc(tmp_path, stat=stat, status=status))

    assert (seen.cpu, seen.rss, seen.peak) == (None, None, None)
    assert reason in seen.reason


def test_a_process_that_is_gone_and_a_system_without_proc_differ(tmp_path: Path) -> None:
    """The reason tells whether the process or the whole of /proc is missing."""
    assert look(8, proc(tmp_path / "linux")).reason == "it is gone"
    assert look(8, tmp_path / "other").reason == NO_PROC
    assert machine_seconds(tmp_path / "other") == NO_PROC


def test_a_machine_file_of_another_form_is_a_reason(tmp_path: Path) -> None:
    """No number is made of what isn't understood."""
    (tmp_path / "stat").write_text("intr 1 2 3\n")

    assert "isn't about all cores" in str(machine_seconds(tmp_path))
