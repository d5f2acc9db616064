"""Every command after `run`: what it prints, what it refuses, and what its JSON holds."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import click
import pytest

from cli.desk import SCRIPTED, Desk, Ended
from tokenmill.cli import COMMANDS

FLAKY = 'slots = 2\n[[rule]]\nmatch = "two"\nfail = "refused"\n'


@pytest.fixture
def run(desk: Desk) -> Desk:
    """A desk with one finished run `a`."""
    assert desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-q", "-o", "a.jsonl").code == 0
    return desk


def facts(ended: Ended) -> Any:
    assert ended.code in (0, 3), ended
    return json.loads(ended.out)


def refused(ended: Ended, *parts: str) -> None:
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1, ended.err
    for part in parts:
        assert part in ended.err


HELPED = [*COMMANDS, "runs list", "runs rm", "runs purge"]


@pytest.mark.parametrize("words", HELPED)
def test_help_shows_an_example(desk: Desk, words: str) -> None:
    """The help of every command has an example and fits 80 columns."""
    ended = desk.call(*words.split(), "--help")
    assert "Example" in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())


def test_a_misspelt_command_is_guessed(desk: Desk) -> None:
    """A command that doesn't exist is told with the nearest one, also among those of a group."""
    refused(desk.call("rnu"), "no command 'rnu'; did you mean 'run'? known: run, resume")
    refused(desk.call("runs", "lst"), "Did you mean 'list'?")
    refused(desk.call("run"), "missing argument 'SOURCE'; see 'tokenmill run --help'")


def test_no_command_shows_the_commands(desk: Desk) -> None:
    """`tokenmill` alone shows its help."""
    ended = desk.call()
    assert (ended.code, ended.out) == (2, "")
    assert "Answer every prompt of a file." in ended.err


def test_quiet_prints_nothing(desk: Desk) -> None:
    """`--quiet` leaves both streams empty when all is well, and tells failures alone."""
    ended = desk.call("run", "ok.txt", *SCRIPTED, "-q")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    desk.write("script.toml", FLAKY)
    ended = desk.call("run", "ok.txt", *SCRIPTED, "-q")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("tokenmill: failed: 1 refused; see ")


def test_a_run_says_where_its_answers_are(desk: Desk) -> None:
    """Certificate, answers and run are on stdout, nothing on stderr without a terminal."""
    ended = desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-o", "a.jsonl")
    assert ended.out.startswith("Certificate\n")
    assert ended.out.endswith(f"answers: {desk.folder}/a.jsonl\nrun: a\n")
    assert ended.err == ""


RUN_KEYS = {"run", "folder", "rows", "answered", "failed", "unfinished", "output", "stopped_by", "notes"}
RUN_KEYS |= {"certificate"}
STATUS_KEYS = {"run", "folder", "state", "model", "rows", "answered", "failed", "unfinished", "sessions"}
LIST_KEYS = {"run", "state", "rows", "answered", "failed", "model", "created"}
PROGRESS_KEYS = {
    "rows",
    "stories",
    "answered",
    "failed",
    "running",
    "requests_per_second",
    "output_tokens_per_second",
    "seconds_left",
    "stopping",
}
FORECAST_KEYS = {
    "rows",
    "refused",
    "prompt_tokens",
    "output_tokens",
    "model",
    "slots",
    "context",
    "memory",
    "seconds",
    "pace",
}


def test_json_keys_are_stable(desk: Desk) -> None:
    """Each command with `--json` prints the keys that docs/commands.md promises, and progress lines have theirs."""
    ended = desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "--json")
    assert set(facts(ended)) == RUN_KEYS
    assert set(json.loads(ended.err.splitlines()[0])) == PROGRESS_KEYS
    assert set(facts(desk.call("resume", "a", "--json"))) == RUN_KEYS
    status = facts(desk.call("status", "a", "--json"))
    assert set(status) == STATUS_KEYS
    assert status | {"folder": ""} == {
        "run": "a",
        "folder": "",
        "state": "finished",
        "model": "scripted",
        "rows": 3,
        "answered": 3,
        "failed": {},
        "unfinished": 0,
        "sessions": 1,
    }
    (listed,) = facts(desk.call("runs", "list", "--json"))
    assert set(listed) == LIST_KEYS
    assert {"scope", "metrics", "bound", "causes", "audit", "verdict"} <= set(facts(desk.call("report", "--json")))
    told = facts(desk.call("explain", "a", "row-2", "--json"))
    assert (told["result"]["text"], told["attempts"][0]["node"]) == ("You said: two", "scripted-0")
    assert set(facts(desk.call("run", "ok.txt", *SCRIPTED, "--dry-run", "--json"))) == FORECAST_KEYS


def test_a_dry_run_leaves_nothing(desk: Desk) -> None:
    """`--dry-run` counts rows and tokens, and makes neither run nor answers."""
    ended = desk.call("run", "ok.txt", *SCRIPTED, "--dry-run", "-o", "a.jsonl")
    assert ended.out.startswith("rows           3\n")
    assert ended.out.endswith("nothing was sent\n")
    assert desk.made_runs() == []
    assert not (desk.folder / "a.jsonl").exists()


def test_a_finished_run_resumes_to_the_same_file(run: Desk) -> None:
    """Resuming a finished run sends nothing and writes the same bytes."""
    before = run.read("a.jsonl")
    run.write("a.jsonl", "spoilt")
    assert run.call("resume", "a", "-q").code == 0
    assert run.read("a.jsonl") == before
    assert facts(run.call("status", "a", "--json"))["sessions"] == 1


def test_a_resume_names_what_changed(run: Desk) -> None:
    """Other options, another input or another model are refused on resume, each by name."""
    refused(run.call("resume", "a", "--temperature", "0.5"), "temperature: 0.0 -> 0.5", "leave them out")
    refused(run.call("resume", "a", "--node", "scripted:"), "the model changed", "model digest")
    refused(run.call("resume", "a", "--strategy", "best"), "unknown strategy 'best'")
    run.write("script.toml", "slots = 3\n")
    refused(run.call("resume", "a"), "the model changed", "put the old one back")
    refused(run.call("retry", "a"), "the model changed")
    run.write("script.toml", 'slots = 2\nanswer = "You said: {prompt}"\n')
    run.write("ok.txt", "one\ntwo\nthree\nfour\n")
    refused(run.call("resume", "a"), "ok.txt changed since the run began", "put the old file back")


def test_an_input_that_grew_is_extended(run: Desk) -> None:
    """`--extend` answers the new rows alone; the settings of the run stay."""
    before = run.read("a.jsonl")
    run.write("ok.txt", "one\ntwo\nthree\nfour\n")
    assert run.call("run", "ok.txt", *SCRIPTED, "--extend", "a", "-q").code == 0
    after = run.read("a.jsonl")
    assert after.startswith(before)
    assert [json.loads(line)["custom_id"] for line in after.splitlines()] == ["row-1", "row-2", "row-3", "row-4"]


def test_a_wrong_extension_is_refused(run: Desk) -> None:
    """A changed beginning, other options, another model or a broken row leave the run as it was."""
    run.write("ok.txt", "ONE\ntwo\nthree\nfour\n")
    extend = ("run", "ok.txt", *SCRIPTED, "--extend", "a")
    refused(run.call(*extend), "does not begin with the 14 bytes of the run", "only append")
    run.write("ok.txt", b"one\ntwo\nthree\n\xff\n")
    refused(run.call(*extend), "line 4", "not UTF-8")
    run.write("ok.txt", "one\ntwo\nthree\nfour\n")
    refused(run.call(*extend, "--seed", "3"), "seed: 0 -> 3")
    for option in (("--run-id", "b"), ("-o", "b.jsonl"), ("--dry-run",)):
        refused(run.call(*extend, *option), "leave --", "out")
    run.write("script.toml", "slots = 3\n")
    refused(run.call(*extend), "the model changed")
    status = facts(run.call("status", "a", "--json"))
    assert (status["state"], status["rows"], status["answered"]) == ("finished", 3, 3)


def test_retry_takes_failures_back(desk: Desk) -> None:
    """Failed requests are tried again by class; where none is, nothing is touched."""
    desk.write("script.toml", 'slots = 2\n[[rule]]\nmatch = "two"\nfail = "refused"\ntimes = 1\n')
    assert desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-q", "-o", "a.jsonl").code == 3
    assert '"row-2"' in desk.read("a.errors.jsonl")
    refused(desk.call("retry", "a", "--class", "crash"), "no failed requests of crash", "tokenmill status a")
    refused(desk.call("retry", "a", "--class", "odd"), "--class odd", "known: crash, transient")
    assert desk.call("retry", "a", "--class", "refused", "-q").code == 3  # a fresh engine fails it once more
    assert facts(desk.call("status", "a", "--json"))["failed"] == {"refused": 1}
    refused(desk.call("retry", "b"), "no run 'b'", "runs list")


def test_explain_tells_the_story(desk: Desk) -> None:
    """A request is told with its attempts, an unknown one is refused."""
    desk.write("script.toml", FLAKY.replace("refused", "transient") + 'message = "\\u001b[31m503"\ntimes = 1\n')
    desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-q")
    ended = desk.call("explain", "a", "row-2")
    headline, first, second = ended.out.splitlines()
    assert headline.startswith("row-2: row 1, line 2; answered with 1 tokens, ended by stop")
    assert "attempt 1 (session 0) on scripted-0: failed" in first
    assert first.endswith("transient: \\x1b[31m503")
    assert "attempt 2 (session 0) on scripted-0: answered" in second
    refused(desk.call("explain", "a", "row-9"), "no request 'row-9'", "its input")


def test_export_needs_a_file(run: Desk) -> None:
    """`export` without an output, or with one that can't be, is refused; else it says how much it wrote."""
    refused(run.call("export", "a"), "export needs -o FILE")
    refused(run.call("export", "a", "-o", "a.docx"), "'docx'", ".jsonl, .csv")
    refused(run.call("export", "a", "-o", "ok.txt"), "ok.txt is the input")
    refused(run.call("export", "b", "-o", "b.csv"), "no run 'b'", "tokenmill runs list")
    refused(run.call("export", "a", "-o", "a.txt", "--with-input"), "input columns are for CSV and Parquet")
    refused(run.call("export", "a", "-o", "a.txt", "--with-timings"), "timings are for JSONL")
    ended = run.call("export", "a", "-o", "a.txt")
    assert (ended.code, ended.out, ended.err) == (0, "", "3 of 3 rows written to a.txt\n")
    assert run.read("a.txt") == "row-1\tYou said: one\nrow-2\tYou said: two\nrow-3\tYou said: three\n"


def test_runs_are_listed_and_deleted(run: Desk) -> None:
    """`runs` lists what there is, deletes by name or all that is finished, and asks which."""
    assert run.call("runs", "list").out == "a  finished     3 of 3 answered, 0 failed  scripted\n"
    refused(run.call("runs", "rm", "b"), "no run 'b'")
    refused(run.call("runs", "purge"), "purge needs --finished or --all")
    assert run.made_runs() == ["a"]
    assert run.call("runs", "purge", "--finished").err == "deleted a\n"
    assert run.made_runs() == []
    ended = run.call("runs", "list")
    assert (ended.code, ended.out, ended.err) == (0, "", f"no runs in {run.runs}\n")
    refused(run.call("status"), "no runs in", "start one with 'tokenmill run'")


def test_a_damaged_run_hides_no_other(run: Desk) -> None:
    """A run whose record or manifest is broken is listed as that, told why by `status`, and deleted only by name."""
    for name, file in (("b", "record.db"), ("c", "manifest.json")):
        shutil.copytree(run.runs / "a", run.runs / name)
        (run.runs / name / file).write_text("{ broken")
        refused(run.call("status", name), f"{name}/{file}", "restore the run folder from a copy")
    listed = facts(run.call("runs", "list", "--json"))
    assert {each["run"]: each["state"] for each in listed} == {"a": "finished", "b": "unreadable", "c": "unreadable"}
    assert "b  unreadable   see 'tokenmill status b'" in run.call("runs", "list").out
    assert run.call("runs", "purge", "--all").err == "deleted a\n"
    assert run.call("runs", "rm", "b", "c").err == "deleted b\ndeleted c\n"
    assert run.made_runs() == []


def test_a_taken_name_is_refused(run: Desk) -> None:
    """A second run of a name is told how to go on with the first."""
    refused(run.call("run", "ok.txt", *SCRIPTED, "--run-id", "a"), "run 'a' exists", "tokenmill resume a")


def test_the_manual_is_complete() -> None:
    """docs/commands.md names every command, every option and every key of the JSON."""
    manual = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        command = importlib.import_module(f"tokenmill.cli.{name}").command
        assert f"`tokenmill {name}" in manual
        members = command.commands.values() if isinstance(command, click.Group) else [command]
        for option in [option for member in members for option in member.params if isinstance(option, click.Option)]:
            assert any(f"`{word}`" in manual or f"`{word} " in manual for word in option.opts), option.opts
    for key in RUN_KEYS | STATUS_KEYS | LIST_KEYS | PROGRESS_KEYS | FORECAST_KEYS:
        assert f"`{key}`" in manual, key
