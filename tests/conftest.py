"""Continuous integration draws the same examples each time, everybody else explores; a file's tests stay together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

#: Folders whose files share what is made but once, such as a cluster.
TOGETHER = ("launch/slurm",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where files run side by side, the tests of one file keep their order and their process."""
    root = Path(__file__).parent
    for item in items:
        file = item.path.relative_to(root)
        group = next((folder for folder in TOGETHER if file.is_relative_to(folder)), str(file))
        item.add_marker(pytest.mark.xdist_group(group))
