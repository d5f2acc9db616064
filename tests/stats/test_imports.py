"""scipy belongs to benchmarks: a run does without it, and a benchmark without it says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tokenmill.errors import UsageError
from tokenmill.stats.library import needs_scipy

MODULES = "claim, compare, interval, measure, percentile, scaling, student, target"


def loaded(code: str) -> str:
    check = f"{code}\nimport sys; print('scipy' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


def test_scipy_is_imported_when_it_is_called() -> None:
    """All of the package can be imported without scipy, and the table of t is used without it."""
    code = f"from tokenmill.stats import {MODULES}; student.t_95(4)"

    assert loaded(code) == "False"
    assert loaded(f"{code}; student.quantile(0.95, 4)") == "True"


def test_a_run_does_without_scipy(tmp_path: Path) -> None:
    """Neither the help nor a whole run of the command loads scipy."""
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    run = ["run", "in.txt", "--node", "scripted:", "--runs-dir", "runs", "-o", "out.jsonl"]
    for arguments in (["--help"], run):
        code = (
            f"import os; os.chdir({str(tmp_path)!r})\n"
            "from tokenmill.cli import command\n"
            f"try: command({arguments!r}, prog_name='tokenmill')\n"
            "except SystemExit as ended: assert not ended.code, ended.code"
        )
        assert loaded(code) == "False"
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_missing_scipy_names_the_extra() -> None:
    """Without scipy the user learns what needs it and how to install it."""
    with (
        pytest.raises(UsageError, match=r"an interval needs scipy: pip install 'tokenmill\[bench\]'"),
        needs_scipy("an interval"),
    ):
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
