"""One fault server for each file of stories, told by each story how to misbehave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.http.asking import APIS
from tokenmill.testing import Behaviour, FaultServer


@pytest.fixture(scope="module")
def running() -> Iterator[FaultServer]:
    with FaultServer(Behaviour(slots=2)) as server:
        yield server


@pytest.fixture
def server(running: FaultServer) -> Iterator[FaultServer]:
    """The file's server, well-behaved again after each story."""
    yield running
    running.behave(
        overflow="openai",
        fault=(),
        rate=None,
        chunks=None,
        first_token=0.0,
        digest=None,
        load=0.0,
        key=None,
        models=("llama3.2:latest",),
    )


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)
