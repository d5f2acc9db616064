"""To whom a fault happens."""

from __future__ import annotations

from tokenmill.testing import Reset, Silent, Status
from tokenmill.testing.choose import Chooser
from tokenmill.testing.fault import AnyFault

CHAT = "/api/chat"


def chosen(
    chooser: Chooser, prompt: str = "p", attempt: int = 1, number: int = 1, seconds: float = 0.0
) -> AnyFault | None:
    return chooser.for_text(CHAT, prompt, attempt, number, seconds)


def test_all_conditions_must_hold() -> None:
    """Pattern, number, time window and attempt each keep a fault away."""
    fault = Reset(match="bad", numbers=(3,), after=1.0, until=2.0, times=1)
    chooser = Chooser([fault], 0, "a")
    assert chosen(chooser, "a bad one", 1, 3, 1.5) is fault
    assert chosen(chooser, "a good one", 1, 3, 1.5) is None
    assert chosen(chooser, "a bad one", 1, 4, 1.5) is None
    assert chosen(chooser, "a bad one", 1, 3, 0.5) is None
    assert chosen(chooser, "a bad one", 1, 3, 2.0) is None
    assert chosen(chooser, "a bad one", 2, 3, 1.5) is None


def test_the_first_that_fits_happens() -> None:
    """Of several faults only the first of the list happens."""
    first, second = Silent(match="x"), Reset()
    chooser = Chooser([first, second], 0, "a")
    assert (chosen(chooser, "x"), chosen(chooser, "y")) == (first, second)


def test_a_share_is_drawn_by_seed_and_not_by_order() -> None:
    """A share of the requests is struck, the same ones each time, others with another seed, name or attempt."""

    def struck(seed: int, name: str, attempt: int = 1) -> set[int]:
        chooser = Chooser([Reset(share=0.05)], seed, name)
        return {row for row in range(4000) if chosen(chooser, f"row {row}", attempt, row)}

    usual = struck(7, "a")
    assert 150 < len(usual) < 250
    assert usual == struck(7, "a")
    assert len(usual & struck(8, "a")) < 40
    assert len(usual & struck(7, "b")) < 40
    assert len(usual & struck(7, "a", 2)) < 40


def test_a_fault_with_a_path_happens_there_only() -> None:
    """A fault that names a path strikes that path, and other requests than those for text only so."""
    fault = Status(path="^/api/tags$", numbers=(2,))
    chooser = Chooser([fault], 0, "a")
    assert chosen(chooser, number=2) is None
    assert chooser.for_listing("/api/tags", 1, 0.0) is None
    assert chooser.for_listing("/api/tags", 2, 0.0) is fault
    assert chooser.for_listing("/api/ps", 2, 0.0) is None
    assert Chooser([Reset()], 0, "a").for_listing("/api/tags", 1, 0.0) is None
