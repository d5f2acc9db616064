"""Files that lie are refused: nothing else is raised, quickly, and in memory that the file's size bounds.

`benchmarks/quantize_fuzz.py` does the same a million times.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from quant.fuzzing import Fuzz
from quant.mutations import LARGE
from requirements import require

#: Numbers of cases; each is a GGUF file and a safetensors file.
CASES = 2500


def test_changed_headers_are_refused_or_read(tmp_path: Path) -> None:
    """No change of a header makes more of a reader than a refusal; some are harmless, so the file is still read."""
    require("linux")
    fuzz = Fuzz(tmp_path)

    faults = [fault for number in range(CASES) for fault in fuzz.number(number)]

    assert not faults
    assert all(count > CASES // 200 for count in (*fuzz.accepted.values(), *fuzz.refused.values()))


@pytest.mark.parametrize("name", LARGE)
def test_large_headers_are_bounded(tmp_path: Path, name: str) -> None:
    """What is really as large as it says takes little time, and little memory beyond its size."""
    require("linux")
    assert Fuzz(tmp_path).check(name.split(",")[0], LARGE[name]()) == ""
