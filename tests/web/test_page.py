"""The report in a real browser: quick, silent, accessible, and as wide as its window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.sweeps import shown
from report.dossiers import dossier, large, planted
from report.test_as_html import EVIL, MEBIBYTE
from requirements import axe_core, require
from tokenmill.bench import as_html as sweep_html
from tokenmill.bench.as_json import report_of
from tokenmill.report import as_html, compare_html
from tokenmill.report.compare import compare
from tokenmill.report.dossier import Failure, Slow

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (400, 1600)
SCHEMES = ("light", "dark")

#: Seconds within which a report of ten thousand requests must be there; it takes a tenth of them.
PATIENCE = 2.0

Opener = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    require("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports by name, as files on a disk."""
    folder = tmp_path_factory.mktemp("pages")
    evil = planted(
        run=EVIL[0],
        about=tuple((text, text) for text in EVIL[:-1]),
        failures=tuple(Failure(kind="timeout", count=1, custom_id=text, message=text) for text in EVIL),
        slowest=(
            *(Slow(custom_id=text, node=text, latency=1.0, output_tokens=1, text=text) for text in EVIL),
            Slow(custom_id="a", node="a", latency=1.0, output_tokens=1, text="x" * MEBIBYTE),
        ),
    )
    sweep = shown(tmp_path_factory.mktemp("sweeps"), faults=[text.replace("\ud800", "") for text in EVIL])
    written = {
        "sweep": sweep_html.html(report_of(sweep)),
        "large": as_html.html(dossier(*large())),
        "evil": as_html.html(evil),
        "compare": compare_html.html(compare([planted(), planted(run="two")])),
    }
    for name, page in written.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in written}


@pytest.fixture
def heard() -> list[str]:
    """Whatever a page said or asked for beyond itself."""
    return []


@pytest.fixture
def show(browser: Any, pages: dict[str, Path], heard: list[str]) -> Iterator[Opener]:
    """Opens a report in a window of a width, in a colour scheme."""
    opened = []

    def show(name: str, width: int = 1600, scheme: str = "light", *, bypass_csp: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bypass_csp
        )
        opened.append(context)
        page = context.new_page()
        address = pages[name].as_uri()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: heard.append(request.url) if request.url != address else None)
        page.goto(address)
        return page

    yield show
    for context in opened:
        context.close()


def test_a_large_report_is_there_at_once(show: Opener, heard: list[str]) -> None:
    """Ten thousand requests: open within two seconds, with no error and no word to anywhere."""
    page = show("large")
    took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")

    assert 0 < took < 1000 * PATIENCE
    assert heard == []


@pytest.mark.parametrize("name", ["large", "evil", "compare", "sweep"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(show: Opener, heard: list[str], name: str, width: int) -> None:
    """On a phone and on a wide screen one scrolls down and never sideways."""
    page = show(name, width)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert heard == []


@pytest.mark.parametrize("name", ["large", "evil", "compare", "sweep"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_report_is_accessible(show: Opener, name: str, width: int, scheme: str) -> None:
    """axe-core finds nothing to object to, contrast included."""
    require("axe-core")
    page = show(name, width, scheme, bypass_csp=True)
    page.evaluate(axe_core().read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")

    assert [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_each_chart_is_shown_once(show: Opener, width: int) -> None:
    """Of the two drawings of a chart the one that fits is shown, the other is not there for anybody."""
    shown = show("large", width).evaluate(
        "[...document.querySelectorAll('figure')].map(figure => [...figure.querySelectorAll('svg')]"
        ".filter(svg => svg.getBoundingClientRect().height > 0).length)"
    )

    assert shown
    assert set(shown) == {1}


def test_dark_paper_is_dark(show: Opener) -> None:
    """The page follows the reader's scheme."""
    paper = "getComputedStyle(document.body).backgroundColor"

    assert show("large").evaluate(paper) == "rgb(255, 255, 255)"
    assert show("large", scheme="dark").evaluate(paper) == "rgb(20, 23, 28)"


def test_hostile_words_do_nothing(show: Opener, heard: list[str]) -> None:
    """Scripts, handlers and templates from outside are read, not run."""
    page = show("evil")

    assert page.evaluate("document.querySelectorAll('script, img, iframe, [onerror]').length") == 0
    assert EVIL[0] in page.inner_text("body")
    assert heard == []


def test_the_policy_refuses_what_is_not_ours(show: Opener, heard: list[str]) -> None:
    """Even a script that got into the page would not run, and a style would not apply."""
    page = show("large")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p id=new style=\"color:red\">x</p>')")

    assert page.evaluate("getComputedStyle(document.querySelector('#new')).color") == "rgb(26, 29, 35)"
    assert "Content Security Policy" in heard[0]


def test_it_can_be_printed(show: Opener, tmp_path: Path) -> None:
    """A PDF of it comes out with several pages."""
    show("large").pdf(path=tmp_path / "report.pdf", format="A4")

    assert (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n") > 2
