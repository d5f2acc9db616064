"""A sweep as page, tables and JSON: complete, harmless, and saying first what it shows."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

from bench.sweeps import planted, shown
from report.test_as_html import EVIL, check_harmless
from tokenmill.bench import as_csv, as_html, as_json
from tokenmill.bench.as_json import report_of
from tokenmill.bench.cell import Cell
from tokenmill.bench.charts import charts
from tokenmill.bench.folder import READINGS
from tokenmill.bench.sentences import ends_of, value_of
from tokenmill.bench.sweep import Step, results_of
from tokenmill.cli.bench_progress import line_of
from tokenmill.stats.interval import geometric_mean
from tokenmill.stats.measure import Measure

PUBLISHED = Path(__file__).parents[2] / "docs" / "bench.schema.json"


def test_the_published_schema_is_up_to_date() -> None:
    """If this fails: tokenmill bench show --schema > docs/bench.schema.json."""
    assert PUBLISHED.read_bytes() == as_json.encode_schema()


def test_a_sweep_keeps_to_the_schema(tmp_path: Path) -> None:
    """What is printed as JSON is valid, targets and faults included, and something else is not."""
    results = shown(tmp_path, targets=("speedup@8>=2", "ttft<=1ms"), faults=["it broke"])
    printed = msgspec.json.decode(as_json.encode(report_of(results)))
    schema = jsonschema.Draft202012Validator(msgspec.json.decode(as_json.encode_schema()))

    schema.validate(printed)
    assert [each["outcome"] for each in printed["targets"]] == ["pass", "fail"]
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(printed | {"results": 3})


def test_the_first_screen_says_what_is_fastest(tmp_path: Path) -> None:
    """Each group has its answer with its interval, and where nothing helps that is the answer."""
    tiles = as_html.tiles(shown(tmp_path))

    assert [(tile.question, tile.answer) for tile in tiles] == [
        ("1 slot: fastest?", "sequential, 1 in flight"),
        ("4 slots: fastest?", "pull, 4 in flight"),
    ]
    assert "no way was shown to be faster" in tiles[0].detail
    assert re.match(r"faster by a factor of 4\.0\d+, 95 % interval", tiles[1].detail)


def test_groups_of_one_way_come_last(tmp_path: Path) -> None:
    """A way that stands alone, as a process that does nothing does, has no answer that is worth the first place."""
    results = shown(tmp_path)
    rows = tuple(row for row in results.rows if row.cell.group != "1 slot" or row.cell.is_baseline)

    tiles = as_html.tiles(msgspec.structs.replace(results, rows=rows))

    assert [tile.question for tile in tiles] == ["4 slots: fastest?", "1 slot: fastest?"]


def test_every_column_leads_to_its_definition(tmp_path: Path) -> None:
    """Names of figures are links to their definitions, which are there."""
    page = as_html.fill(report_of(shown(tmp_path)), [], "")
    linked, there = set(re.findall(r'href="#(def-[^"]+)"', page)), set(re.findall(r'id="(def-[^"]+)"', page))

    assert linked
    assert linked <= there
    assert "no counter is there" in page


def test_charts_answer_the_questions_of_a_sweep(tmp_path: Path) -> None:
    """Speedup and efficiency by workers, every reading, memory; each says in words what it shows."""
    found = {chart.name: chart for chart in charts(shown(tmp_path))}

    assert list(found) == [
        *("speedup-0", "efficiency-0", "readings-0", "memory-0"),
        *("speedup-1", "efficiency-1", "readings-1", "memory-1"),
    ]
    assert "Most is 4.0" in found["speedup-1"].text
    assert found["readings-1"].text.startswith("55 readings of 11 cells, from 2.00 s (pull, 4 in flight)")
    assert "takes 0.1 MiB more at most" in found["memory-1"].text


def test_hostile_words_stay_text(tmp_path: Path) -> None:
    """Whatever a fault says, the page holds no script and the tables hold no formula."""
    results = shown(tmp_path, faults=[*(text.replace("\ud800", "") for text in EVIL), "=1+1"])
    outline = check_harmless(as_html.html(report_of(results)))

    assert EVIL[0] in outline.text
    for table in (as_csv.cells(results), as_csv.readings(results)):
        assert all(letter.isprintable() or letter == "\n" for letter in table.decode())
        assert not [cell for row in csv.reader(io.StringIO(table.decode())) for cell in row if cell.startswith("=")]


def test_a_table_has_a_line_for_each_cell_and_each_reading(tmp_path: Path) -> None:
    """Figures stand with the ends of their intervals; what isn't available is empty."""
    results = shown(tmp_path, faults=["it broke"])
    cells = list(csv.DictReader(io.StringIO(as_csv.cells(results).decode())))
    readings = list(csv.DictReader(io.StringIO(as_csv.readings(results).decode())))

    assert len(cells) == 22
    assert len(readings) == 110
    best = next(row for row in cells if (row["group"], row["strategy"], row["in flight"]) == ("4 slots", "pull", "4"))
    assert float(best["speedup_low"]) < float(best["speedup"]) < float(best["speedup_high"])
    assert best["joules_per_token"] == ""
    assert [row["fault"] for row in readings if row["fault"]] == ["it broke"]


def test_a_sweep_that_failed_altogether_says_why(tmp_path: Path) -> None:
    """Without a single whole reading there is still a page, and it names the fault."""
    folder = planted(tmp_path)
    lines = [msgspec.json.decode(line) for line in (folder.path / READINGS).read_bytes().splitlines()]
    broken = [{"cell": each["cell"], "repeat": each["repeat"], "fault": "node away"} for each in lines]
    (folder.path / READINGS).write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in broken))
    page = as_html.html(report_of(results_of(folder)))

    assert "no cell was answered whole" in page
    assert "node away" in page


def test_half_a_sweep_has_a_report(tmp_path: Path) -> None:
    """A single reading is enough for a page, which says that it isn't complete."""
    folder = planted(tmp_path)
    lines = (folder.path / READINGS).read_bytes().splitlines(keepends=True)
    (folder.path / READINGS).write_bytes(lines[0])

    assert "Not complete" in as_html.html(report_of(results_of(folder)))
    (folder.path / READINGS).write_bytes(b"")
    assert "Not complete" in as_html.html(report_of(results_of(folder)))


def test_intervals_are_told_in_the_unit_of_their_figure() -> None:
    """Milliseconds go with milliseconds, shares with percent."""
    assert ends_of(geometric_mean([0.010, 0.011, 0.012], "s")) == "8.75 to 13.8 ms"
    assert ends_of(geometric_mean([2.0], "s")) == ""
    assert value_of("efficiency", Measure(0.5, "per slot")) == "50 %"
    assert value_of("memory", Measure(2.0**20, "B")) == "1 MiB"


@pytest.mark.parametrize("width", [20, 60, 200])
def test_progress_fits_its_line(width: int) -> None:
    """How far and how long still come first, as they are kept where there is little room."""
    cell = Cell(group="4 slots", factors={"strategy": "pull", "in flight": 8})
    line = line_of(Step(done=4, total=50, cell=cell, repeat=1, eta=90.0, spread=0.12), width)

    assert len(line) <= width
    assert line.startswith("5/50, 90.0 s left"[: width - 3])


def bench(*arguments: str, blocked: str = "") -> subprocess.CompletedProcess[str]:
    """The command; a module that is blocked is as if it weren't installed."""
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked.split()!r})); from tokenmill.cli import main; main()"
    command = [sys.executable, "-c", code, "bench", *arguments]
    environment = os.environ | {"COLUMNS": "60"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    """Page, tables and charts from one command, beside the text."""
    folder = planted(tmp_path)
    page, table, plots = tmp_path / "a.html", tmp_path / "a.csv", tmp_path / "plots"
    done = bench("show", str(folder.path), "--html", str(page), "--csv", str(table), "--plots", str(plots))

    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert {each.name for each in tmp_path.glob("*.csv")} == {"a.csv", "a-readings.csv"}
    assert {"speedup-1.png", "speedup-1.svg"} <= {each.name for each in plots.iterdir()}
    assert max(map(len, done.stdout.split("\n\n")[1].splitlines())) <= 60


@pytest.mark.parametrize(("blocked", "extra"), [("scipy", "bench"), ("matplotlib", "plots")])
def test_what_is_not_installed_is_said_before_anything_is_measured(tmp_path: Path, blocked: str, extra: str) -> None:
    """Without a library the first thing told is how to install it, and no folder is made."""
    options = ("--engine", "scripted", "--bench-dir", str(tmp_path / "b"), "--html", str(tmp_path / "a.html"))
    done = bench("strategies", *options, blocked=blocked)

    assert done.returncode == 2
    assert f"pip install 'tokenmill[{extra}]'" in done.stderr
    assert not (tmp_path / "b").exists()


def test_a_wrong_name_is_told_with_the_right_ones(tmp_path: Path) -> None:
    """Whoever mistypes a sweep sees the last ones."""
    folder = planted(tmp_path)
    done = bench("show", "nothing", "--bench-dir", str(tmp_path))

    assert done.returncode == 2
    assert folder.path.name in done.stderr
