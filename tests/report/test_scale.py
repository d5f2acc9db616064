"""A certificate of many attempts doesn't hold them as objects."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

from report.scripted import attempt, facts, node
from tokenmill.event import Attempt
from tokenmill.report.certificate import certify

ROWS = 20_000


def stream() -> Iterator[Attempt]:
    for row in range(ROWS):
        yield attempt(row, row * 0.5, 4.0, tokens=40, prompt=10, read=0.1, width=8.0)


def test_attempts_are_read_once_and_kept_as_numbers() -> None:
    """Attempts come from an iterator; the peak is under 250 bytes for each, a third of what the objects need."""
    tracemalloc.start()
    certificate = certify(facts(ROWS, node(8)), stream())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert certificate.metrics.latency.count == ROWS
    assert peak < 250 * ROWS
