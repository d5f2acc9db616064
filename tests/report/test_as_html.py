"""The report as one page: what it answers first, and that nothing from outside gets out of its place."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.dossiers import dossier, large, planted
from report.scripted import attempt, facts, node, waves
from tokenmill.report import as_html
from tokenmill.report.charts import charts
from tokenmill.report.dossier import Failure, Slow
from tokenmill.report.plots import Line, lines_chart
from tokenmill.report.svg import Sheet, inline

GOLDEN = Path(__file__).parent / "golden"
MEBIBYTE = 1 << 20

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></svg></style><script>1</script>",
    "{{ 7 * 7 }}{% for x in y %}",
    "\x1b[2J\x1b]0;t\x07",
    "\u202egnp.exe\u2066",
    "$\\frac{1}{2}$ & <b>",
    "\ud800\x00",
)
evil = st.text(st.characters(codec=None, categories=None), max_size=40) | st.sampled_from(EVIL)


class Outline(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def check_harmless(page: str) -> Outline:
    """No script, no handler, no inline style, nothing that loads, no letter that can't be seen."""
    outline = Outline(page)
    for tag, attributes in outline.elements:
        assert tag not in ("script", "img", "iframe", "object", "embed", "link", "base", "form", "foreignobject")
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")]
        assert (attributes.get("href") or "#").startswith("#")
    assert all(letter.isprintable() or letter == "\n" for letter in page)
    return outline


@pytest.fixture(scope="module")
def page() -> str:
    """The page of the planted run, with its charts."""
    return as_html.html(planted())


def test_the_first_screen_answers_four_questions(page: str) -> None:
    """How long, how close to the bound, why not faster, what to do."""
    questions = re.findall(r"<h2>(?:<a[^>]*>)?([^<]*\?)", page)
    answers = re.findall(r'<p class="(?:answer|words)">([^<]*)</p>', page)

    assert questions == ["How long?", "How close to the bound?", "Why not faster?", "What to do?"]
    assert answers[:3] == ["43.0 s", "76 %", "the tail"]
    assert "--order longest-first" in answers[3]


def test_a_page_needs_nothing_else(page: str) -> None:
    """No script and nothing that loads; the policy allows the page's own style sheet and nothing else."""
    check_harmless(page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in page
    assert "http:" not in page
    assert "https:" not in page


def test_every_underlined_name_leads_to_its_definition(page: str) -> None:
    """Links inside the page have a target, ids are unique, and terms carry their definition for a hover."""
    elements = Outline(page).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    links = [attributes for tag, attributes in elements if tag == "a"]

    assert len(ids) == len(set(ids))
    assert len(links) > 40
    assert {(link["href"] or "")[1:] for link in links} <= set(ids)
    assert all(link["title"] for link in links)


def test_every_chart_is_told_in_words(page: str) -> None:
    """A chart is an image with a title and a description, and the description stands below it too."""
    outline = Outline(page)
    drawn = [attributes for tag, attributes in outline.elements if tag == "svg"]
    ids = {attributes.get("id") for _, attributes in outline.elements}

    assert len(drawn) == 2 * len(charts(planted().picture))
    for attributes in drawn:
        assert attributes["role"] == "img"
        assert set((attributes["aria-labelledby"] or "").split()) <= ids


def test_colours_follow_the_reader(page: str) -> None:
    """Charts name inks instead of colours, and every ink has a value for dark paper."""
    style = page.partition("<style>")[2].partition("</style>")[0]
    body = page.partition("</style>")[2]
    used = set(re.findall(r"var\(--([a-z]+)\)", style))
    dark = style.partition("prefers-color-scheme:dark")[2].partition("}}")[0]

    assert not re.findall(r"#[0-9a-f]{6}\b", body)
    assert used <= set(re.findall(r"--([a-z]+):", dark))


def test_the_page_is_as_it_was() -> None:
    """The page of the planted run without its charts, whose outlines are matplotlib's."""
    golden = (GOLDEN / "planted.html").read_text(encoding="utf-8")

    page = as_html.fill(planted(), {}, "").replace(metadata.version("tokenmill"), "VERSION")

    assert page == golden


@settings(max_examples=60, deadline=None)
@given(evil, evil, evil, evil)
def test_words_from_outside_stay_words(run: str, custom_id: str, message: str, text: str) -> None:
    """Names, messages and answers can't become part of the page."""
    found = planted(
        run=run,
        about=((custom_id, message),),
        failures=(Failure(kind=run, count=1, custom_id=custom_id, message=message),),
        slowest=(Slow(custom_id=custom_id, node=run, latency=1.0, output_tokens=1, text=text),),
    )

    check_harmless(as_html.fill(found, {}, ""))


@pytest.mark.parametrize("name", EVIL)
def test_names_in_charts_stay_names(name: str) -> None:
    """A node's name is text in a drawing too: no mark-up, no formula, nothing invisible."""
    drawn = charts(dossier(facts(8, node(4, name=name)), waves(8, 4)).picture)
    (timeline,) = [chart for chart in drawn if chart.name == "timeline"]

    outline = check_harmless(inline(timeline, Sheet()))

    assert "script" not in {tag for tag, _ in outline.elements}


def test_an_answer_of_a_mebibyte_is_cut() -> None:
    """A very long answer takes no more room than its beginning, and its length is told."""
    text = "<script>" + "x" * MEBIBYTE
    found = planted(slowest=(Slow(custom_id="a", node="a", latency=1.0, output_tokens=1, text=text),))

    page = as_html.fill(found, {}, "")

    assert len(page) < 100_000
    assert "1,048,344 more characters" in page


def test_a_large_report_is_small() -> None:
    """Ten thousand requests make a page far under three megabytes."""
    assert len(as_html.html(dossier(*large())).encode()) < 1_000_000


def test_a_run_without_an_answer_says_what_to_do() -> None:
    """All failed: the tile names the remedy, and no figure is made up."""
    tries = [attempt(row, float(row), 0.5, outcome="failed") for row in range(3)]
    run = facts(3, node(1), answered=0, failed={"misconfigured": 3})

    page = as_html.fill(dossier(run, tries, slowest=()), {}, "")

    assert "nodes check" in page
    assert '<p class="answer">n/a</p>' in page


def test_lines_have_intervals_and_an_ideal() -> None:
    """A speedup chart names its lines and the ideal, each with a stroke of its own."""
    line = Line(label="auto", x=(1, 2, 4), y=(1, 1.9, 3.5), low=(1, 1.8, 3.3), high=(1, 2.0, 3.7))
    other = Line(label="static", x=(1, 2, 4), y=(1, 1.7, 2.9))
    chart = lines_chart("speedup", "Speedup", "Up to 3.5.", (line, other), x="slots", y="speedup", ideal=True)

    outline = check_harmless(inline(chart, Sheet()))

    assert {"auto", "static", "ideal", "slots", "speedup"} <= set(re.findall(r"[a-z]+", outline.text))
