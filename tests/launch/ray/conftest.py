"""A Ray of one machine for the tests of Ray Data; those of whole clusters make their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from requirements import require

#: A worker's words go to its log; telling them here as well would fill the reports of failing tests.
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """Ray with four processors by its own count, whatever the machine has."""
    require("ray")
    import ray

    os.environ.update(QUIET)
    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    try:
        yield
    finally:
        ray.shutdown()
