"""Bad input of a run: one line with cause and remedy, exit code 2, nothing sent, nothing left behind."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.desk import SCRIPTED, Desk, Ended
from cli.tiny_model import CONTEXT, write_tiny_model
from requirements import require

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def check_refused(desk: Desk, ended: Ended, *parts: str, lines: int = 1) -> None:
    """Exit code 2 and a message of so many lines that holds all parts; no traceback, no run, no answers."""
    assert ended.code == 2, ended
    assert ended.out == ""
    assert ended.err.startswith("tokenmill")
    assert ended.err.count("\n") == lines, ended.err
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.err
    assert desk.made_runs() == []
    assert not (desk.folder / "out.jsonl").exists()


def refuse(desk: Desk, words: tuple[str, ...], *parts: str, lines: int = 1) -> None:
    check_refused(desk, desk.call("run", *words, "-o", "out.jsonl"), *parts, lines=lines)


INPUTS = {
    "missing.txt": (None, ("missing.txt: no such file", "check the path")),
    "empty.txt": (b"", ("holds no rows", "add at least one")),
    "blank.jsonl": (b"\n\n", ("holds no rows", "add at least one")),
    "latin.txt": (b"fine\nna\xefve\n", ("line 2: byte 7 (0xef) is not UTF-8", "iconv")),
    "broken.jsonl": (b'{"prompt": "a"}\n{"prompt": "b"\n', ("line 2: broken JSON at column", "is it cut off?")),
    "nan.jsonl": (b'{"prompt": "a", "temperature": NaN}\n', ("line 1: NaN is not a JSON number", "finite number")),
    "twice.jsonl": (
        b'{"custom_id": "a", "prompt": "x"}\n{"prompt": "y"}\n{"custom_id": "a", "prompt": "z"}\n',
        ("line 3: custom_id 'a' is already used on line 1", "give each row its own"),
    ),
    "field.jsonl": (b'{"text": "x"}\n', ("line 1: prompt is missing", "'text'", "--prompt-column")),
    "type.jsonl": (b'{"prompt": 5}\n', ("line 1: prompt must be a string, not 5",)),
    "tokens.jsonl": (b'{"prompt": "x", "max_tokens": "many"}\n', ("line 1: max_tokens", "'many'")),
    "list.jsonl": (b'["x"]\n', ("line 1:", "object")),
    "head.csv": (b"id,text\n1,x\n", ("prompt", "--prompt-column")),
}


@pytest.mark.parametrize("name", INPUTS)
def test_a_faulty_input_is_refused(desk: Desk, name: str) -> None:
    """A fault of the input is told with its place and what to do."""
    content, parts = INPUTS[name]
    if content is not None:
        desk.write(name, content)
    refuse(desk, (name, *SCRIPTED), name, *parts)


def test_faults_come_together(desk: Desk) -> None:
    """All faults of a file are told at once, one a line."""
    desk.write("bad.jsonl", '{"prompt": 1}\n{"prompt": "fine"}\n{"prompt": NaN}\n{}\n')
    refuse(desk, ("bad.jsonl", *SCRIPTED), "3 faults, nothing was sent", "\n  line 1:", "\n  line 3:", lines=4)


def test_a_folder_is_no_input(desk: Desk) -> None:
    """A folder is refused, and so is a device, with the way to pipe it."""
    (desk.folder / "prompts").mkdir()
    refuse(desk, ("prompts", *SCRIPTED), "is a folder", "name one file")
    refuse(desk, ("/dev/null", *SCRIPTED), "/dev/null", "pipe it and use -")


def test_an_empty_standard_input_is_refused(desk: Desk) -> None:
    """Nothing on standard input is no workload."""
    ended = desk.process("run", "-", *SCRIPTED)
    check_refused(desk, ended, "standard input", "holds no rows")


CHOICES = {
    "endless grace": (("--grace", "inf"), ("inf is no finite number", "leave the option out")),
    "no price": (("--price-in", "nan"), ("nan is no finite number",)),
    "strategy": (("--strategy", "pul"), ("unknown strategy 'pul'", "did you mean 'pull'?")),
    "order": (("--order", "random"), ("unknown order 'random'", "file, longest-first")),
    "blocks": (("--blocks",), ("strategy 'pull' deals no blocks", "use strategy 'static'")),
    "option": (("--stratgy", "pull"), ("'--stratgy'", "--strategy", "see 'tokenmill run --help'")),
    "limit": (("--limit", "0"), ("'--limit'", "0 is not in the range", "see 'tokenmill run --help'")),
    "memory": (("--kv-memory", "lots"), ("'lots' is no size", "512M")),
    "oddity": (("--odd", "empty=maybe"), ("--odd empty=maybe", "=flag, =fail or =ignore")),
    "engine": (("--node", "olama:x"), ("no engine 'olama'", "did you mean 'ollama'")),
    "node": (("--node", "scripted"), ("node 'scripted'", "KIND:TARGET")),
    "script": (("--node", "scripted:none.toml"), ("none.toml", "give a TOML file")),
    "format": (("--format", "xml"), ("'xml'", "known: txt, jsonl")),
    "run id": (("--run-id", "../x"), ("run id '../x'", "use letters")),
    "template": (("--template", "{{ prompt"), ("template, line 1", "Jinja2")),
    "both": (("--template", "{{ a }}", "--prompt-column", "a"), ("both a template and a prompt column",)),
    "suffix": (("-o", "out.docx"), ("'docx'", ".jsonl, .csv, .parquet, .txt")),
    "timings": (("-o", "a.csv", "--with-timings"), ("timings are for JSONL", ".jsonl")),
    "no folder": (("-o", "nowhere/out.jsonl"), ("nowhere/out.jsonl", "name a file in a writable folder")),
    "runs": (("--runs-dir", "ok.txt/runs"), ("ok.txt/runs", "use --runs-dir")),
    "model": (("--model", "no-such-model"), ("'no-such-model'", "no such folder", "'demo'")),
    "file": (("--model", "ok.txt"), ("ok.txt' is a file", "name the folder")),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_wrong_choice_is_refused(desk: Desk, name: str) -> None:
    """An option that can't work is named with what would."""
    words, parts = CHOICES[name]
    nodes = () if {"--model", "--node"} & set(words) else SCRIPTED
    check_refused(desk, desk.call("run", "ok.txt", *nodes, *words), *parts)


def test_a_template_names_what_a_row_has(desk: Desk) -> None:
    """A field that a row lacks is told with those it has; so is a missing prompt column."""
    desk.write("rows.jsonl", '{"topic": "rivers"}\n')
    refuse(desk, ("rows.jsonl", *SCRIPTED, "--template", "{{ topik }}"), "line 1", "'topik' is undefined", "'topic'")
    refuse(desk, ("rows.jsonl", *SCRIPTED, "--prompt-column", "topik"), "line 1", "'topik' is missing", "'topic'")


def test_the_output_is_not_the_input(desk: Desk) -> None:
    """An output that would overwrite the input is refused, whatever the file is called."""
    (desk.folder / "alias.txt").symlink_to("ok.txt")
    for name in ("ok.txt", "alias.txt"):
        ended = desk.call("run", "ok.txt", *SCRIPTED, "-o", name)
        check_refused(desk, ended, f"{name} is the input", "name another file")
    assert desk.read("ok.txt") == "one\ntwo\nthree\n"


def test_a_refused_run_leaves_an_older_output(desk: Desk) -> None:
    """Answers of an earlier run stay when a later one is refused."""
    desk.write("older.jsonl", "kept")
    check_refused(desk, desk.call("run", "gone.txt", *SCRIPTED, "-o", "older.jsonl"), "gone.txt")
    assert desk.read("older.jsonl") == "kept"


def bound_by_permissions() -> None:
    """Gives up root's right to write where the permissions say no."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def test_a_read_only_output_folder_is_refused(desk: Desk) -> None:
    """A folder that can't be written is found before anything is sent, for answers and for runs."""
    require("linux")
    shut = desk.folder / "shut"
    shut.mkdir(mode=0o555)
    ended = desk.process("run", "ok.txt", *SCRIPTED, "-o", "shut/out.jsonl", start=bound_by_permissions)
    check_refused(desk, ended, "shut/out.jsonl", "Permission denied", "writable folder")
    ended = desk.process("run", "ok.txt", *SCRIPTED, "--runs-dir", "shut/runs", start=bound_by_permissions)
    check_refused(desk, ended, "shut/runs", "Permission denied", "--runs-dir")


def test_a_folder_that_is_gone_is_told(desk: Desk) -> None:
    """A working folder that was deleted under the shell is an error with a way out."""
    require("linux")
    gone = desk.folder / "gone"
    gone.mkdir()

    def enter_and_delete() -> None:
        os.chdir(gone)
        gone.rmdir()

    ended = desk.process("run", "ok.txt", *SCRIPTED, start=enter_and_delete)
    check_refused(desk, ended, "working folder", "cd")


def test_a_name_that_is_not_utf8_is_told(desk: Desk) -> None:
    """A file name that no record could hold is refused by name."""
    require("linux")
    Path(os.fsdecode(os.fsencode(desk.folder) + b"/\xff.txt")).write_text("x")
    check_refused(desk, desk.call("run", os.fsdecode(b"\xff.txt"), *SCRIPTED), "'\\udcff.txt' is not UTF-8", "rename")


def spoil(folder: Path, how: str) -> None:
    """Breaks a whole model folder in one way."""
    weights = folder / "model.safetensors"
    if how == "no weights":
        weights.unlink()
    elif how == "no configuration":
        (folder / "config.json").unlink()
    elif how == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "lying":
        weights.write_bytes((1 << 40).to_bytes(8, "little") + weights.read_bytes()[8:])
    elif how == "other shape":
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"vocab_size": 256', '"vocab_size": 300'))
    else:
        weights.rename(folder / "pytorch_model.bin")


MODELS = {
    "no weights": ("has no weights", "download the whole model"),
    "no configuration": ("has no config.json", "download the whole model"),
    "no tokenizer": ("tokenizer.json",),
    "truncated": ("model.safetensors", "cut short", "download it again"),
    "lying": ("model.safetensors", "a header of 1099511627776 bytes", "download it again"),
    "other shape": ("embed_tokens.weight", "[256, 16]", "[300, 16]", "download"),
    "pickle": ("pytorch_model.bin", "pickle", "safetensors"),
}


@pytest.mark.parametrize("how", MODELS)
def test_a_faulty_model_is_refused(desk: Desk, how: str) -> None:
    """A model that can't be loaded is found before a run is made."""
    spoil(write_tiny_model(desk.folder / "model"), how)
    refuse(desk, ("ok.txt", "--model", "./model"), "model", *MODELS[how])


def test_models_are_checked_without_torch(desk: Desk) -> None:
    """Finding a faulty model doesn't cost the seconds that loading torch takes."""
    spoil(write_tiny_model(desk.folder / "model"), "truncated")
    code = (
        "import sys; from tokenmill.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    words = ["run", "ok.txt", "--model", "./model"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=desk.folder, env=desk.environment, capture_output=True, text=True
    )
    assert done.stdout == "2 False\n", done.stderr


def test_a_prompt_beyond_the_context_is_refused(desk: Desk) -> None:
    """A prompt that leaves no room for an answer is found by the model's own tokenizer, with line and lengths."""
    write_tiny_model(desk.folder / "model")
    desk.write("long.txt", "short\n" + "x" * CONTEXT + "\n")
    refuse(desk, ("long.txt", "--model", "./model"), "line 2", f"{CONTEXT} prompt tokens", f"context of {CONTEXT}")


def test_a_second_process_is_refused(desk: Desk) -> None:
    """A run in use is left alone, and its owner named."""
    desk.write("script.toml", "slots = 1\nper_token = 0.2\ntokens = 1000\n")
    words = desk.line("run", "ok.txt", *SCRIPTED, "--run-id", "busy", "--json", "--grace", "0")
    first = subprocess.Popen(words, cwd=desk.folder, env=desk.environment, stderr=subprocess.PIPE)
    try:
        assert first.stderr is not None
        assert b"running" in first.stderr.readline()  # it has the lock by then
        ended = desk.call("resume", "busy")
        assert ended.code == 2
        assert f"in use by process {first.pid}" in ended.err
        assert ended.err.count("\n") == 1
        ended = desk.call("runs", "rm", "busy")
        assert (ended.code, desk.made_runs()) == (2, ["busy"])
    finally:
        first.terminate()
        first.communicate()
    assert first.returncode == 4


def test_a_missing_extra_is_named(desk: Desk) -> None:
    """What the core can't do alone is refused before anything is sent, with the line that installs it."""
    parts = ("Parquet", "pip install 'tokenmill[parquet]'")
    check_refused(desk, desk.without("pyarrow", "run", "ok.txt", *SCRIPTED, "-o", "a.parquet"), *parts)
    desk.write("rows.parquet", b"PAR1 and so on PAR1")
    check_refused(desk, desk.without("pyarrow", "run", "rows.parquet", *SCRIPTED), *parts)
    ended = desk.without("tokenizers", "run", "ok.txt", "--model", "demo")
    check_refused(desk, ended, "needs tokenizers", "pip install 'tokenmill[local]'")
    assert desk.without("pyarrow", "run", "ok.txt", *SCRIPTED, "-q").code == 0


def test_an_output_that_goes_away_is_not_the_end(desk: Desk) -> None:
    """Answers whose file can't be written at the end are kept: exit code 4, and a resume writes them."""
    desk.write("script.toml", "slots = 1\nper_token = 0.01\ntokens = 30\n")
    place = desk.folder / "place"
    place.mkdir()
    words = desk.line("run", "ok.txt", *SCRIPTED, "--run-id", "a", "--json", "-o", "place/a.txt")
    with subprocess.Popen(words, cwd=desk.folder, env=desk.environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "running" in process.stderr.readline()
        place.rmdir()
        told = process.stderr.read().splitlines()[-1]
    assert process.returncode == 4
    assert "place/a.txt" in told
    assert f"go on with: tokenmill resume {desk.runs}/a" in told
    place.mkdir()
    assert desk.call("resume", "a", "-q").code == 0
    assert len((place / "a.txt").read_text().splitlines()) == 3
