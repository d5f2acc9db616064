"""One cluster of three nodes for all tests here, as starting one takes a second; no test leaves a job in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from requirements import require
from tokenmill.testing.slurm import SlurmCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    """A running cluster."""
    require("slurm")
    with SlurmCluster(node_timeout=5, kill_wait=5) as made:
        yield made
        left = made.run("squeue", "-h")
        assert left == "", left
