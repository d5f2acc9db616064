"""What a run says of itself, on real runs of the scripted engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.runs import run, script
from tokenmill.report.bound import UNKNOWN

PACE = "slots = 8\nper_token = 0.002\ntokens = 40\n"


def test_a_loop_does_not_look_perfect(tmp_path: Path) -> None:
    """An engine that answers one at a time gets no ratio at first, and under 0.5 once batching was measured there."""
    loop = script(tmp_path, PACE + "serial = true\n")
    before = run(tmp_path, ["x"] * 15, loop).certificate
    batch = run(tmp_path, ["x"] * 250, script(tmp_path, PACE)).certificate
    after = run(tmp_path, ["x"] * 15, script(tmp_path, PACE + "serial = true\n")).certificate

    assert before is not None
    assert batch is not None
    assert after is not None
    assert before.bound.ratio.value is None
    assert UNKNOWN in before.verdict[0].lower()
    assert batch.bound.ratio.value is not None
    assert after.bound.ratio.value is not None
    assert after.bound.ratio.value < 0.5
    assert "disguise" in after.audit.verdict


def test_the_causes_sum_to_the_gap(tmp_path: Path) -> None:
    """Load, retries and tail of a real run add up to the makespan less the bound within 1 %."""
    node = script(
        tmp_path,
        PACE
        + 'load = 0.2\n[[rule]]\nmatch = "flaky"\nfail = "transient"\ntimes = 1\n'
        + '[[rule]]\nmatch = "long"\ntokens = 300\n',
    )
    certificate = run(tmp_path, ["x"] * 60 + ["flaky", "long"], node).certificate

    assert certificate is not None
    assert certificate.causes is not None
    causes = certificate.causes
    names = ("loading", "retried", "cooling", "client", "tail", "slower")
    assert causes.loading >= 0.19
    assert causes.tail > 0.2
    assert sum(getattr(causes, name) for name in names) == pytest.approx(causes.gap, rel=0.01)
