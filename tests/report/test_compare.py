"""Runs side by side: equal work first, and no claim without pairs."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest

from report.dossiers import WORK, dossier, planted
from report.scripted import facts, node, waves
from tokenmill.report import as_csv, compare_html
from tokenmill.report.compare import NO_CLAIM, compare, lines
from tokenmill.report.dossier import Dossier


def run(seconds: float, name: str, **more: object) -> Dossier:
    return dossier(facts(12, node(4)), waves(12, 4, seconds=seconds), run=name, **more)


def test_equal_work_has_a_ratio_and_no_claim() -> None:
    """Two runs of the same work: how their times compare is told, that one is faster is not claimed."""
    found = compare([run(10.0, "one"), run(5.0, "two")])

    assert found.is_equal_work
    assert [each.against_first.value for each in found.runs] == [1.0, 2.0]
    assert found.claim == NO_CLAIM


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": "1"}, "bytes of the input"),
        ({"model": "e"}, "digest"),
        ({"options": "1"}, "options"),
        ({"rows": 9}, "rows"),
    ],
)
def test_unequal_work_is_named_and_not_compared(change: dict[str, object], said: str) -> None:
    """Another input, model or other options: the difference is named and there is no ratio."""
    found = compare([run(10.0, "one"), run(5.0, "two", work=msgspec.structs.replace(WORK, **change))])

    assert not found.is_equal_work
    assert said in found.differences[0]
    assert found.runs[1].against_first.value is None
    assert found.runs[1].against_first.reason == "not equal work"


def test_answers_of_other_length_are_other_work() -> None:
    """Token counts of each request must agree within 1 %, else rates are to be compared."""
    first = run(10.0, "one")
    near = run(5.0, "two", tokens=dict.fromkeys(first.tokens, 101))
    far = run(5.0, "two", tokens=first.tokens | {3: 98})

    assert compare([first, near]).is_equal_work
    assert compare([first, far]).differences == (
        "two: 1 answers differ from one by more than 1 % in tokens; compare tokens/s",
    )


@pytest.mark.parametrize("width", [132, 60])
def test_the_text_fits(width: int) -> None:
    """A table where there is room, blocks elsewhere; the claim stands below."""
    shown = lines(compare([run(10.0, "one"), run(5.0, "two")]), width)

    assert max(map(len, shown)) <= width
    assert shown[0].split()[0] == ("run" if width > 100 else "one")
    assert " ".join(part.strip() for part in shown).endswith(NO_CLAIM)


def test_the_page_shows_all_runs() -> None:
    """One page with a table, a chart, and the advice of every run."""
    page = compare_html.html(compare([run(10.0, "<one>"), run(5.0, "two")]))

    assert "&lt;one&gt;" in page
    assert "<one>" not in page
    assert page.count("What to do about") == 2


def test_every_figure_is_a_line_of_csv() -> None:
    """Value, unit and definition, or the reason why there is no value."""
    found = list(csv.DictReader(io.StringIO(as_csv.encode([planted()]).decode())))
    by_name = {line["figure"]: line for line in found}

    assert by_name["metrics.makespan"]["value"] == "43"
    assert by_name["metrics.latency.p99"]["value"] == ""
    assert "needs 300" in by_name["metrics.latency.p99"]["reason"]
    assert all(line["definition"] for line in found)
    assert by_name["scope.failed.timeout"]["value"] == "1"


def test_a_run_can_not_be_a_formula() -> None:
    """A name that a spreadsheet would run is text in every line."""
    found = list(csv.DictReader(io.StringIO(as_csv.encode([planted(run="=HYPERLINK(1)")]).decode())))

    assert {line["run"] for line in found} == {"'=HYPERLINK(1)"}
