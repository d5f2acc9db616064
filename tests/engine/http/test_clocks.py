"""The clocks of an attempt: which one runs out, and what winds it up."""

from __future__ import annotations

import asyncio

import pytest

from engine.http.asking import answer, engine_at, tell_in
from tokenmill.engine.http.clocks import Clocks, Deadline, clocks_from
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.errors import UsageError
from tokenmill.testing import Behaviour, FaultServer

CLOCKS = Clocks(connect=1.0, first_token=10.0, gap=2.0, whole=15.0)


def test_the_first_token_has_the_longest_wait() -> None:
    """Until a token comes the first clock runs, afterwards the gap."""
    deadline = Deadline(CLOCKS, 100.0)
    assert (deadline.due, deadline.reason) == (110.0, "no token within 10 s (clock `first_token`)")

    deadline.token(103.0)
    assert (deadline.due, deadline.reason) == (105.0, "no further token for 2 s (clock `gap`)")


def test_the_whole_is_bounded() -> None:
    """However steadily tokens come, the whole answer has its own clock."""
    deadline = Deadline(CLOCKS, 100.0)
    for now in range(101, 115):
        deadline.token(float(now))

    assert (deadline.due, deadline.reason) == (115.0, "the answer took more than 15 s (clock `whole`)")


def test_a_standstill_of_ours_is_not_the_nodes() -> None:
    """Seconds during which this process stood still are given back."""
    deadline = Deadline(CLOCKS, 100.0)
    deadline.token(101.0)
    deadline.sleep(300.0)

    assert deadline.due == 403.0


def test_the_environment_sets_clocks() -> None:
    """Each clock has its variable; the others keep their defaults."""
    chosen = clocks_from({"TOKENMILL_GAP_TIMEOUT": "1.5", "TOKENMILL_CONNECT_TIMEOUT": " "})

    assert (chosen.gap, chosen.connect, chosen.whole) == (1.5, 10.0, 3600.0)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_clock_must_be_a_time(text: str) -> None:
    """A variable that is no time is refused by name, with an example."""
    with pytest.raises(UsageError, match=f"TOKENMILL_REQUEST_TIMEOUT is '{text}'; give seconds above 0"):
        clocks_from({"TOKENMILL_REQUEST_TIMEOUT": text})


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can jump, as a machine's does over its sleep."""

    jumped = 0.0

    def time(self) -> float:
        return super().time() + self.jumped


@pytest.mark.parametrize("waits", ["head", "token"])
def test_a_sleep_of_this_machine_fails_nothing(api: str, waits: str) -> None:
    """Answers that were waited for while this machine slept for an hour are waited for again, and arrive."""
    behaviour = Behaviour(first_token=0.4) if waits == "head" else Behaviour(rate=20.0)
    clocks = Clocks(connect=600.0, first_token=600.0, gap=600.0, whole=900.0)
    with FaultServer(behaviour) as server:

        async def body(engine: ServerEngine) -> str:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, JumpingLoop)
            asking = asyncio.ensure_future(answer(engine))
            while not (await asyncio.to_thread(server.state)).running:
                pass  # each look takes the server a moment
            loop.jumped += 3600.0
            return (await asking)[0]

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            assert runner.run(tell_in(engine_at(server.url, api, clocks=clocks), body))
