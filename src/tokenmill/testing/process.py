"""All servers of one process: started from a script, ended by a signal or by the end of its input."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable

from tokenmill.testing.behaviour import Script
from tokenmill.testing.control import ControlDoor
from tokenmill.testing.listener import Listener
from tokenmill.testing.site import Site
from tokenmill.testing.ticker import Ticker


async def serve(script: Script, tell: Callable[[str], None], *, until_input_ends: bool) -> None:
    """Serves until told to end; `tell` gets the line of URLs, one for each server and then the control door's."""
    loop = asyncio.get_running_loop()
    shared = {name: Ticker(curve, loop) for name, curve in script.device.items()}
    attempts: Counter[str] = Counter()
    sites: dict[str, Site] = {}
    for number, behaviour in enumerate(script.server):
        ticker = Ticker(behaviour.curve, loop) if behaviour.device is None else shared[behaviour.device]
        sites[behaviour.name] = site = Site(behaviour, number, ticker, attempts)
        if behaviour.honest:
            await site.be_honest()
    control = Listener(ControlDoor(sites), "127.0.0.1", 0)
    listeners = [*(site.listener for site in sites.values()), control]
    for listener in listeners:
        await listener.open()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    if until_input_ends:
        loop.add_reader(sys.stdin.fileno(), done.set)
    tell(" ".join(listener.url for listener in listeners))
    try:
        await done.wait()
    finally:
        for listener in listeners:
            listener.go_down()
        for site in sites.values():
            if site.honest is not None:
                await site.honest.close()
