"""The certificate as sentences, text and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.scripted import attempt, facts, node, runs, stored, waves
from tokenmill.event import Attempt
from tokenmill.report import as_json, as_text
from tokenmill.report.certificate import Certificate, certify
from tokenmill.report.facts import RunFacts
from tokenmill.report.numbers import figure, seconds

GOLDEN = Path(__file__).parent / "golden"


def planted() -> Certificate:
    """A run with a load, retries and a tail, one failed row among 14."""
    failed = [attempt(13, 33.0, 2.0, outcome="failed")]
    run = facts(14, node(4, load=3.0), answered=13, failed={"timeout": 1})
    return certify(run, waves(13, 4, start=3.0) + failed)


def test_the_verdict_names_ratio_and_largest_cause() -> None:
    """One sentence says how close the run came and what kept it most."""
    assert planted().verdict == (
        "ran at 0.76 of the bound; the largest avoidable cause is the tail, 7.00 s",
        "true batch: overlap 3.30, mean batch width 4.00",
    )


def test_a_near_perfect_run_names_no_cause() -> None:
    """Causes below 1 % of the run aren't worth a name."""
    assert certify(facts(12, node(4)), waves(12, 4)).verdict[0] == (
        "ran at 1.00 of the bound; no avoidable cause is worth 1 % of the run"
    )


def test_a_loop_is_told_what_it_missed() -> None:
    """A loop on a device that can batch scores low, and the idle slots are the reason."""
    known = stored(decode=40.0, single_stream=0.05, width=4.0)

    found = certify(facts(8, node(4), stored=known), waves(8, 1, width=1.0))

    assert found.verdict[0] == "ran at 0.25 of the bound; the largest avoidable cause is the client, 45.0 s"
    assert found.verdict[1].startswith("sequential in disguise: 4 at a time were asked for and work was waiting")


def test_every_figure_has_its_definition() -> None:
    """No number is in the JSON whose name isn't defined there."""
    certificate = msgspec.json.decode(as_json.encode(planted()))

    names = set(_names_of_numbers(certificate, ""))

    assert len(names) > 30
    assert names - set(certificate["definitions"]) == set()


def _names_of_numbers(node: object, name: str) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                is_detail = key == "value" or name == "failed"
                yield from _names_of_numbers(value, name if is_detail else key)
        case list():
            for value in node:
                yield from _names_of_numbers(value, name)
        case int() | float():
            yield name


def test_every_definition_shown_exists() -> None:
    """The text explains what it shows, and only what is defined."""
    certificate = planted()

    assert set(as_text.SHOWN.values()) <= set(certificate.definitions)
    assert any(line.startswith("ratio: bound / makespan") for line in as_text.lines(certificate, 120))
    assert not any(line.startswith("Definitions") for line in as_text.lines(certificate, 120, definitions=False))


@pytest.mark.parametrize("width", [100, 80, 40])
def test_the_text_is_as_it_was(width: int) -> None:
    """The terminal form of one planted run, at three widths."""
    golden = (GOLDEN / f"planted_{width}.txt").read_text(encoding="utf-8")

    assert "\n".join(as_text.lines(planted(), width)) + "\n" == golden


@settings(max_examples=60, deadline=None)
@given(runs(), st.sampled_from([40, 57, 80, 132]), st.booleans())
def test_no_line_is_wider_than_the_terminal(run: tuple[RunFacts, list[Attempt]], width: int, ascii: bool) -> None:
    """Any run fits any terminal of 40 columns or more, in ASCII if asked, and its JSON reads back."""
    certificate = certify(*run)
    lines = as_text.lines(certificate, width, ascii=ascii)

    assert max(map(len, lines)) <= width
    assert all(line.isascii() for line in lines) or not ascii
    assert as_json.decode(as_json.encode(certificate)) == certificate


def test_a_hostile_name_can_not_steer_the_terminal() -> None:
    """Control characters in a model's name are shown as question marks."""
    evil = node(4, model="\x1b[2Jm\u202e")

    text = "\n".join(as_text.lines(certify(facts(4, evil), waves(4, 4)), 80))

    assert "\x1b" not in text
    assert "model       ?[2Jm?" in text


def test_what_is_not_known_is_null_with_a_reason() -> None:
    """A missing figure is never a number."""
    ratio = msgspec.json.decode(as_json.encode(certify(facts(4, node(1)), waves(4, 1))))["bound"]["ratio"]

    assert ratio == {"value": None, "unit": "", "reason": "bound at width 1 only, hardware limit unknown"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 s"),
        (0.0004, "0.40 ms"),
        (0.25, "250 ms"),
        (0.9996, "1.00 s"),
        (12.345, "12.3 s"),
        (123.4, "123 s"),
        (599.6, "9.99 min"),
        (3599.0, "1.00 h"),
        (7260.0, "2.02 h"),
    ],
)
def test_durations_read_well(value: float, shown: str) -> None:
    """Three digits and the unit that fits."""
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.5, "0.50"), (9.996, "10.0"), (99.96, "100"), (999.6, "1.0 k"), (1234, "1.2 k"), (250e3, "250 k")],
)
def test_amounts_read_well(value: float, shown: str) -> None:
    """Thousands are k, and rounding never shows four digits."""
    assert figure(value) == shown
