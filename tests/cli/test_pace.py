"""Rates, time left, and the words around a bar."""

from __future__ import annotations

import pytest

from tokenmill.cli.pace import Pace, Stories, around_bar, duration, plain_line, short
from tokenmill.driver.progress import Progress
from tokenmill.record.store import Counts

FRESH = Counts(rows=100, answered=0, failed={})
RESUMED = Counts(rows=100, answered=50, failed={"refused": 10})


def test_rates_are_of_the_last_seconds() -> None:
    """A rate forgets what is more than 10 seconds ago, and the seconds of loading."""
    pace = Pace(FRESH)
    for second in range(5):
        assert pace.facts(Progress(rows=100), second).seconds_left is None
    pace.facts(Progress(rows=100, running=4), 5.0)
    facts = pace.facts(Progress(rows=100, answered=10, running=4, output_tokens=300), 6.0)
    assert (facts.requests_per_second, facts.output_tokens_per_second, facts.seconds_left) == (5.0, 150.0, 18.0)
    for second in range(8, 30):
        facts = pace.facts(Progress(rows=100, answered=10 + second, running=4, output_tokens=300), second)
    assert (facts.requests_per_second, facts.output_tokens_per_second) == (1.0, 0.0)


def test_a_stall_keeps_a_guess() -> None:
    """When nothing has ended for long, the time left is told from the whole session's rate."""
    pace = Pace(FRESH)
    for second in range(1, 30):
        facts = pace.facts(Progress(rows=100, answered=20, running=1), second)
    assert facts.requests_per_second == 0.0
    assert facts.seconds_left == pytest.approx(80 * 29 / 20, abs=0.1)


def test_earlier_sessions_count() -> None:
    """A resumed run shows all its rows, with the failures of before."""
    progress = Progress(rows=40, answered=4, running=2, failed={"refused": 1, "empty": 1})
    facts = Pace(RESUMED).facts(progress, 1.0)
    assert (facts.rows, facts.answered, facts.ended) == (100, 54, 66)
    assert facts.failed == {"empty": 1, "refused": 11}


@pytest.mark.parametrize("width", [200, 110, 90, 70, 50, 35, 25, 12, 3])
def test_words_fit_beside_a_bar(width: int) -> None:
    """The words leave room for a bar of 8 columns, or the count stands alone; failures are the last to go."""
    pace = Pace(RESUMED)
    pace.facts(Progress(rows=40, running=8), 1.0)
    facts = pace.facts(Progress(rows=40, answered=20, running=8, output_tokens=345_678), 11.0)
    before, after = around_bar(facts, width)
    assert len(before) + 8 + len(after) <= width or (before, after) == ("", "80/100")
    if width >= 110:
        assert before + "|" + after == (
            "answering |  80/100  80 %  8 running  10 failed  2 requests/s  34.6k tokens/s  0:10 left"
        )
    if width >= 35:
        assert "10 failed" in after


def test_a_plain_line_tells_all() -> None:
    """Without a terminal one line has every figure."""
    pace = Pace(RESUMED)
    pace.facts(Progress(rows=40, running=8), 1.0)
    line = plain_line(pace.facts(Progress(rows=40, answered=20, running=8, output_tokens=500), 11.0))
    assert line == "70 of 100 answered, 8 running, 10 failed, 2 requests/s, 50 output tokens/s, 0:10 left"


def test_a_recipe_is_as_far_as_its_rows() -> None:
    """Rows of the input come first, as prompts become more on the way; so the time left is the least."""
    pace = Pace(RESUMED, Stories(rows=80, ended=30))
    pace.facts(Progress(rows=40, running=8), 1.0)
    facts = pace.facts(Progress(rows=40, answered=20, running=8, output_tokens=500, ended=10), 11.0)
    assert plain_line(facts) == (
        "40 of 80 rows ended; prompts: 70 of 100 answered, 8 running, 10 failed, 2 requests/s, 50 output tokens/s, "
        "0:10 or more left"
    )
    assert facts.way == (40, 80)
    assert around_bar(facts, 130) == (
        "answering ",
        "  40/80 rows  80/100 prompts  50 %  8 running  10 failed  2 requests/s  50 tokens/s  0:10 or more left",
    )
    assert around_bar(facts, 40) == ("", "  40/80 rows  10 failed  0:10")


def test_numbers_are_short() -> None:
    """Rates take at most five letters and durations read as clocks."""
    assert [short(number) for number in (0, 0.254, 9.99, 87.66, 999.4, 999.6, 12_345, 999_499, 1.2e6)] == [
        "0",
        "0.254",
        "9.99",
        "87.7",
        "999",
        "1k",
        "12.3k",
        "999k",
        "1.2M",
    ]
    assert [duration(seconds) for seconds in (0, 59.7, 754, 10_800)] == ["0:00", "1:00", "12:34", "3:00:00"]
