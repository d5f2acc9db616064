"""A campaign counts every broken promise, and one that was interrupted doesn't play again what it has played.

The campaigns themselves are `benchmarks/crash.py` and `benchmarks/pipeline_kills.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

KINDS = ("lost", "changed")
LAST = 5


@dataclass
class Ended:
    """What a story came to."""

    faults: list[str] = field(default_factory=list)
    resent: int = 1


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which lies beside the campaigns."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import trials

    return trials


def steps(trials: Any, name: str, play: Callable[[int], None]) -> Iterator[Any]:
    """A line without an end, of which the first steps exist; the second breaks a promise."""

    def step(number: int) -> list[tuple[str, Ended]]:
        play(number)
        if number > LAST:
            return []
        return [(f"step {number}", Ended(["lost: a row"] if number == 2 else []))]

    return (trials.Trial(f"{name} {number}", lambda number=number: step(number)) for number in count(1))


def test_lines_end_where_nothing_is_left_and_faults_are_counted(trials: Any, tmp_path: Path) -> None:
    """Two lines side by side, each to its last step; a broken promise makes the campaign fail."""
    with trials.Campaign(tmp_path / "kept", KINDS, jobs=2) as campaign:
        campaign.play("kill", [steps(trials, name, lambda _: None) for name in ("write", "sync")])

        assert (campaign.stories, campaign.broken) == (2 * LAST, 2)
        assert campaign.verdict() == 1


def test_what_was_played_before_an_interruption_counts_and_is_not_played_again(trials: Any, tmp_path: Path) -> None:
    """Interrupted at the fourth step, and the last line of the file cut off as by a power loss."""
    played: list[int] = []

    def interrupted(number: int) -> None:
        if number == 4:
            raise KeyboardInterrupt
        played.append(number)

    kept = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt), trials.Campaign(kept, KINDS, jobs=1) as campaign:
        campaign.play("kill", [steps(trials, "write", interrupted)])
    kept.write_bytes(kept.read_bytes()[:-3])
    with trials.Campaign(kept, KINDS, jobs=1) as campaign:
        campaign.play("kill", [steps(trials, "write", played.append)])

    assert played == [1, 2, 3, 3, 4, 5, 6]
    assert (campaign.stories, campaign.broken) == (LAST, 1)


def test_a_worker_that_breaks_ends_the_campaign(trials: Any, tmp_path: Path) -> None:
    """An error of a scene is not a trial that found nothing."""

    def broken(number: int) -> None:
        raise AssertionError(f"the scene broke at {number}")

    with pytest.raises(AssertionError, match="broke at 1"), trials.Campaign(tmp_path / "kept", KINDS, 1) as campaign:
        campaign.play("kill", [steps(trials, "write", broken)])

    assert not (tmp_path / "kept").exists()
