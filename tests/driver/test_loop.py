"""The loop of a run depends on what it waits for; what runs on it doesn't notice."""

from __future__ import annotations

import asyncio

import uvloop

from tokenmill.driver.loop import run_in_loop


async def loop_class() -> type[asyncio.AbstractEventLoop]:
    return type(asyncio.get_running_loop())


def test_servers_are_waited_for_on_the_quicker_loop() -> None:
    """uvloop's, if it is installed."""
    assert run_in_loop(loop_class(), sockets=True) is uvloop.Loop


def test_other_runs_stay_on_the_loop_of_asyncio() -> None:
    """They have nothing to gain."""
    assert run_in_loop(loop_class(), sockets=False) is not uvloop.Loop
