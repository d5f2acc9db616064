"""`tokenmill report` at a desk: files, several runs, and the ways in which it can be called wrongly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

from cli.desk import Desk
from tokenmill.report import schema

SCRIPT = """
slots = 3
tokens = 20
per_token = 0.001
first_token = 0.005
answer = "{prompt}"
[[rule]]
match = "bad"
fail = "refused"
message = "<b>no</b> \\u001b[2J"
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two runs of the same rows, one of which fails in both."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.write("script.toml", SCRIPT)
    desk.write("rows.txt", "".join(f"<i>row {row}</i>\n" for row in range(20)) + "bad\n")
    desk.write("other.txt", "one\ntwo\n")
    for name, rows in (("one", "rows.txt"), ("two", "rows.txt"), ("three", "other.txt")):
        ended = desk.call("run", rows, "--node", "scripted:script.toml", "-q", "--run-id", name)
        assert ended.code in (0, 3), ended.err
    return desk


def test_the_text_says_what_to_do(desk: Desk) -> None:
    """Advice with its evidence stands in the text and in the JSON."""
    text = desk.call("report", "one").out
    facts = msgspec.json.decode(desk.call("report", "one", "--json").out)

    assert "What to do" in text
    assert "because 1 of 21 requests failed: 1 refused" in text
    assert facts["advice"][0]["name"] == "failures"


def test_the_json_keeps_to_the_schema_that_is_printed(desk: Desk) -> None:
    """What --schema prints describes what --json prints, of one run and of several."""
    printed = msgspec.json.decode(desk.call("report", "--schema").out)
    check = jsonschema.Draft202012Validator(printed).validate

    assert printed == msgspec.json.decode(schema.encode())
    check(msgspec.json.decode(desk.call("report", "one", "--json").out))
    check(msgspec.json.decode(desk.call("report", "one", "two", "--compare", "--json").out))


def test_files_are_written_and_named(desk: Desk) -> None:
    """A page, a table and charts of a real run; what a row or an error said is text in them."""
    ended = desk.call("report", "one", "--html", "one.html", "--csv", "one.csv", "--plots", "plots")
    page = desk.read("one.html")

    assert ended.code == 0
    assert ended.out == ""
    assert "written: one.html" in ended.err
    assert "&lt;i&gt;row" in page
    assert "&lt;b&gt;no&lt;/b&gt; \\x1b[2J" in page
    assert desk.read("one.csv").startswith("run,figure,value,unit,reason,definition\n")
    names = {path.name for path in (desk.folder / "plots").iterdir()}
    assert {"waterfall.svg", "waterfall.png", "timeline.svg", "distribution.png"} <= names
    assert (desk.folder / "plots" / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_tells_nothing_of_the_machine_s_folders(desk: Desk) -> None:
    """A report can be handed on: neither the folder of the run nor that of its input is in it."""
    desk.call("report", "one", "--html", "one.html")

    assert str(desk.folder) not in desk.read("one.html")


def test_open_shows_the_page_in_the_run_s_folder(desk: Desk) -> None:
    """Without a name the page lies beside the record, and the user's browser is given its address."""
    browser = desk.write("browser.sh", '#!/bin/sh\necho "$1" > opened\n')
    browser.chmod(0o700)

    ended = desk.process("report", "two", "--open", BROWSER=f"{browser} %s")

    assert ended.code == 0, ended.err
    assert desk.read("opened").strip() == (desk.runs / "two" / "report.html").absolute().as_uri()


def test_equal_work_is_compared(desk: Desk) -> None:
    """Two runs of the same rows stand side by side, without a claim."""
    out = " ".join(desk.call("report", "one", "two", "--compare").out.split())

    assert "equal work: same input" in out
    assert "no claim" in out


def test_unequal_work_is_said_to_be(desk: Desk) -> None:
    """A run of other rows is shown, with what differs and no ratio."""
    facts = msgspec.json.decode(desk.call("report", "one", "three", "--compare", "--json").out)

    assert not facts["is_equal_work"]
    assert facts["runs"][1]["against_first"]["value"] is None


def test_a_comparison_is_a_page_too(desk: Desk) -> None:
    """Several runs make one page, one table and one chart."""
    ended = desk.call("report", "one", "two", "--compare", "--html", "c.html", "--csv", "c.csv", "--plots", "c")

    assert ended.code == 0, ended.err
    assert "runs side by side" in desk.read("c.html")
    assert {line.partition(",")[0] for line in desk.read("c.csv").splitlines()[1:]} == {"one", "two"}
    assert sorted(path.name for path in (desk.folder / "c").iterdir()) == ["makespans.png", "makespans.svg"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("one", "two"), "add --compare"),
        (("one", "--compare"), "two runs or more"),
        (("one", "--html", "no/such/folder/x.html"), "can't be written"),
        (("one", "--plots", "rows.txt"), "rows.txt"),
        (("nothing",), "no run 'nothing'"),
    ],
)
def test_wrong_calls_say_the_way_out(desk: Desk, words: tuple[str, ...], said: str) -> None:
    """One line, and exit code 2."""
    ended = desk.call("report", *words)

    assert ended.code == 2
    assert said in ended.err


def test_without_matplotlib_the_way_to_it_is_told(desk: Desk) -> None:
    """Text, JSON and CSV need no drawing library; a page says which extra brings it."""
    ended = desk.without("matplotlib", "report", "one", "--html", "x.html")

    assert ended.code == 2
    assert "pip install 'tokenmill[plots]'" in ended.err
    assert desk.without("matplotlib", "report", "one", "--csv", "x.csv").code == 0
    assert desk.without("matplotlib", "report", "one").code == 0


def test_a_plain_report_draws_nothing(desk: Desk) -> None:
    """Neither the text nor the JSON imports matplotlib, numpy or the page's templates."""
    code = (
        "import sys; from tokenmill.cli import command\n"
        "try: command(['report', 'one', *sys.argv[1:]], prog_name='tokenmill')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('matplotlib', 'numpy') if name in sys.modules], file=sys.stderr)"
    )
    for words in ((), ("--json",)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=desk.folder, env=desk.environment, capture_output=True, text=True
        )
        assert done.stderr.strip() == "[]"


def test_a_page_appears_whole(desk: Desk) -> None:
    """Nothing is left beside the files that were asked for."""
    desk.call("report", "one", "--html", "one.html")

    assert not [path for path in Path(desk.folder).iterdir() if path.name.endswith(".part")]
