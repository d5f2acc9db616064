"""One process for many faults: starting one for each would take most of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tokenmill.testing import AnyFault, Behaviour, FaultServer

Strike = Callable[..., AbstractContextManager[FaultServer]]


@pytest.fixture(scope="module")
def one_server() -> Iterator[FaultServer]:
    with FaultServer(Behaviour(chunks=4)) as server:
        yield server
    assert server.said == "", server.said


@pytest.fixture
def struck(one_server: FaultServer) -> Strike:
    """A server that knows nothing of the tests before, with these faults."""

    @contextmanager
    def strike(*faults: AnyFault) -> Iterator[FaultServer]:
        one_server.behave(fault=faults)
        one_server.forget()
        yield one_server

    return strike
