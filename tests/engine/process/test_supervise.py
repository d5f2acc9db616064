"""What is said of a worker's end."""

from __future__ import annotations

import pytest

from tokenmill.engine.local.supervise import describe_exit


@pytest.mark.parametrize(
    ("status", "output", "words"),
    [
        (
            1,
            "Traceback (most recent call last):\n  ...\nRuntimeError: no room\n\n",
            "exit status 1: RuntimeError: no room",
        ),
        (0, "", "exit status 0"),
        (-6, "", "exit by signal 6 (SIGABRT)"),
        (-9, "", "exit by signal 9 (SIGKILL), often the system's answer to too little memory"),
        (-11, "half a line", "exit by signal 11 (SIGSEGV): half a line"),
        (-45, "", "exit by signal 45 (unknown)"),
    ],
)
def test_an_end_is_one_line_with_the_last_words(status: int, output: str, words: str) -> None:
    """Status or signal by name, then the last line the worker wrote."""
    assert describe_exit(status, output) == words


def test_endless_last_words_are_cut() -> None:
    """A line without end doesn't become an error message without end."""
    assert len(describe_exit(1, "x" * 100_000)) < 600
