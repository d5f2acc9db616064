"""The clocks of an attempt: which one runs out, and what winds it up."""

from __future__ import annotations

import pytest

from tokenmill.engine.http.clocks import Clocks, Deadline, clocks_from
from tokenmill.errors import UsageError

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
