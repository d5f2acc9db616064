"""Screens and pipes of every kind: terminals wide and narrow, none at all, readers that leave, words that attack."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from concurrent.futures import ThreadPoolExecutor as Pool
from contextlib import suppress
from pathlib import Path

import pytest

from cli.desk import PATIENCE, SCRIPTED, Desk
from requirements import require

SLOW = 'slots = 2\nper_token = 0.01\ntokens = 60\n[[rule]]\nmatch = "two"\nfail = "refused"\n'
#: What a bar writes to move and colour; anything else would come from elsewhere.
OWN_SEQUENCES = re.compile(r"\x1b\[(\?25[lh]|[0-9;]*[mAK]|2K)|\r")
HOSTILE = ("\x1b[2J\x1b]0;owned\x07", "\u202egnirts", "\x9b31m", "e\u0301\U0001f468\u200d\U0001f469", "\rover")


def on_terminal(desk: Desk, *words: str, columns: int, **more: str) -> tuple[int, str]:
    """Exit code and everything that a terminal of so many columns was sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in desk.environment.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", **more}
    with subprocess.Popen(
        desk.line(*words), cwd=desk.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = everything(ours)
        code = process.wait(PATIENCE)
    os.close(ours)
    return code, shown


def everything(terminal: int) -> str:
    """What a terminal is sent until the other side closes it."""
    shown = bytearray()
    while True:
        try:
            block = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when the other side is closed
            break
        if not block:
            break
        shown += block
    return shown.decode()


def frames(shown: str) -> str:
    """What was drawn before the certificate, without colours and moves."""
    return OWN_SEQUENCES.sub("", shown[: shown.index("Certificate")])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (110, ("starting", "0/3", "answering", "2 running", "1 failed", "requests/s", "tokens/s", "left")),
        (70, ("0/3", "2 running", "1 failed", "/s", "tok/s")),
        (20, ("0/3", "3/3")),
    ],
)
def test_a_bar_fits_its_terminal(desk: Desk, columns: int, words: tuple[str, ...]) -> None:
    """On a terminal a bar shows counts, rates and time left, fewer of them the narrower it is."""
    desk.write("script.toml", SLOW + 'message = "\\u001b]0;owned\\u0007"\n')
    code, shown = on_terminal(desk, "run", "ok.txt", *SCRIPTED, columns=columns)
    assert code == 3
    drawn = frames(shown)
    assert "\x1b" not in drawn
    for word in words:
        assert word in drawn, drawn
    assert "owned" not in drawn


def test_no_color_means_none(desk: Desk) -> None:
    """NO_COLOR leaves the bar and takes its colours."""
    _, shown = on_terminal(desk, "run", "ok.txt", *SCRIPTED, columns=80, NO_COLOR="1")
    assert "3 of 3 answered" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_a_dumb_terminal_gets_no_sequences(desk: Desk) -> None:
    """TERM=dumb gets plain lines alone."""
    code, shown = on_terminal(desk, "run", "ok.txt", *SCRIPTED, columns=80, TERM="dumb")
    assert code == 0
    assert "\x1b" not in shown
    assert shown.startswith("Certificate")


def test_hostile_words_stay_words(desk: Desk) -> None:
    """Prompts, answers, ids and messages that hold control or bidirectional characters never reach a terminal raw."""
    rows = [{"custom_id": f"\u202e{number}", "prompt": text} for number, text in enumerate(HOSTILE)]
    rows.append({"custom_id": "wide", "prompt": "x" * 10_000_000})
    desk.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    desk.write("script.toml", 'slots = 2\n[[rule]]\nmatch = "over"\nfail = "refused"\nmessage = "\\u009b31m\\u202e"\n')
    code, shown = on_terminal(desk, "run", "rows.jsonl", *SCRIPTED, "--run-id", "a", columns=80)
    assert code == 3
    told = "".join(desk.call("explain", "a", f"\u202e{number}").out for number in range(len(HOSTILE)))
    told += desk.call("explain", "a", "\u202e0", "--json").out + desk.call("explain", "a", "\u202e9").err
    assert "\\u202e0: row 0" in told
    for text in (OWN_SEQUENCES.sub("", shown.replace("\r\n", "")), told.replace("\n", "")):
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", text)
        assert len(text) < 20_000


def test_json_is_ascii(desk: Desk) -> None:
    """What `--json` prints is ASCII that parses back to the same text."""
    desk.write("ok.txt", "\U0001f600 \u202e \x7f\n")
    desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-q")
    out = desk.call("explain", "a", "row-1", "--json").out
    assert out.isascii()
    assert out.rstrip("\n").isprintable()
    assert json.loads(out)["result"]["text"] == "You said: \U0001f600 \u202e \x7f"


def test_a_narrow_locale_gets_ascii(desk: Desk) -> None:
    """Where stdout takes ASCII only, the certificate and all names are written in it."""
    desk.write("\u00e9.txt", "one\n")
    ended = desk.process("run", "\u00e9.txt", *SCRIPTED, "-o", "\u00e9.csv", PYTHONIOENCODING="ascii:strict")
    assert ended.code == 0
    assert ended.out.isascii()
    assert "\\xe9.csv" in ended.out


def test_a_reader_may_leave(desk: Desk) -> None:
    """A closed pipe is no error: the run keeps its answers and its exit code, and nothing is said about it."""
    desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-q")
    for words in (("runs", "list"), ("report", "a"), ("run", "ok.txt", *SCRIPTED, "-o", "b.jsonl")):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            desk.line(*words), cwd=desk.folder, env=desk.environment, stdout=write, stderr=subprocess.PIPE
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (0, b""), words
    assert len(desk.read("b.jsonl").splitlines()) == 3


def test_closed_streams_are_no_obstacle(desk: Desk) -> None:
    """A run without stdout or stderr answers all the same; a full disk behind stdout is told."""
    require("linux")

    def close_streams() -> None:
        os.close(1)
        os.close(2)

    closed = desk.process("run", "ok.txt", *SCRIPTED, "-o", "a.jsonl", start=close_streams)
    assert closed.code == 0
    assert len(desk.read("a.jsonl").splitlines()) == 3
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            desk.line("runs", "list"), cwd=desk.folder, env=desk.environment, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"tokenmill: can't write to standard output (No space left on device)")


def test_progress_nobody_reads_ends_no_run(desk: Desk) -> None:
    """Progress lines into a closed pipe are dropped."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        desk.line("run", "ok.txt", *SCRIPTED, "--json"),
        cwd=desk.folder,
        env=desk.environment,
        stdout=subprocess.PIPE,
        stderr=write,
    )
    os.close(write)
    assert done.returncode == 0
    assert json.loads(done.stdout)["answered"] == 3


def test_an_interrupt_before_the_start_leaves_nothing(desk: Desk) -> None:
    """Ctrl-C while the input is read says that nothing was sent, with exit code 2, and leaves no folder."""
    with subprocess.Popen(
        desk.line("run", "-", *SCRIPTED),
        cwd=desk.folder,
        env=desk.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"hello\n" * 200_000)  # far more than a pipe holds, so it is being read
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        assert process.stderr is not None
        told = process.stderr.read().decode()
    assert process.returncode == 2
    assert told == "tokenmill: interrupted while the input was read; nothing was sent, start again\n"
    assert not desk.runs.exists() or list(desk.runs.iterdir()) == []


def test_an_interrupt_keeps_what_came(desk: Desk) -> None:
    """Ctrl-C during a run ends with exit code 4 and the line that resumes, which then answers the rest."""
    desk.write("script.toml", "slots = 1\n" + '[[rule]]\nmatch = "two"\nfirst_token = 3600.0\n')
    words = desk.line("run", "ok.txt", *SCRIPTED, "--run-id", "a", "--json", "--grace", "0", "-o", "a.txt")
    with subprocess.Popen(
        words, cwd=desk.folder, env=desk.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while json.loads(process.stderr.readline())["answered"] < 1:
            pass
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 4
    told = json.loads(out)
    assert (told["answered"], told["unfinished"], told["stopped_by"]) == (1, 2, "interrupted by SIGINT")
    assert f"go on with: tokenmill resume {desk.runs}/a\n" in desk.call("status", "a").out
    assert not (desk.folder / "a.txt").exists()


@pytest.mark.parametrize("options", [(), ("-q",), ("--json",)])
def test_a_second_interrupt_leaves_at_once(desk: Desk, options: tuple[str, ...]) -> None:
    """Ctrl-C twice ends the run in the middle of answers, puts the terminal back and tells the way back."""
    desk.write("script.toml", 'slots = 3\nfirst_token = 3600.0\n[[rule]]\nmatch = "one"\nfirst_token = 0.0\n')
    ours, theirs = pty.openpty()
    environment = desk.environment | {"TERM": "xterm-256color"}
    words = desk.line("run", "ok.txt", *SCRIPTED, "--run-id", "a", *options)
    with subprocess.Popen(words, cwd=desk.folder, env=environment, stderr=theirs) as process, Pool(1) as readers:
        os.close(theirs)
        screen = readers.submit(everything, ours)  # a terminal that nobody reads would hold the process up
        while '"answered":1' not in desk.call("status", "a", "--json").out:
            pass
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        shown = screen.result(PATIENCE)
    os.close(ours)
    assert process.returncode == 4
    assert shown.rstrip().endswith(f"go on with: tokenmill resume {desk.runs}/a")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")


def test_an_interrupt_before_a_resume_tells_the_way_back(desk: Desk) -> None:
    """Ctrl-C while a resume gets ready ends with exit code 4: the run is there to go on with."""
    require("linux")
    assert desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-q").code == 0
    (desk.folder / "script.toml").unlink()
    os.mkfifo(desk.folder / "script.toml")
    with subprocess.Popen(
        desk.line("resume", "a"), cwd=desk.folder, env=desk.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        with (desk.folder / "script.toml").open("wb"):  # opens when the other side reads
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            told = process.stderr.read()
        process.wait(PATIENCE)
    assert process.returncode == 4
    assert told == f"tokenmill: interrupted; go on with: tokenmill resume {desk.runs}/a\n"


def test_standard_input_is_read_to_its_end(desk: Desk) -> None:
    """`-` takes rows from a pipe, and a resume needs the pipe no more."""
    ended = desk.process("run", "-", *SCRIPTED, "--run-id", "a", "-o", "a.txt", stdin=b"one\ntwo")
    assert ended.code == 0
    assert desk.read("a.txt") == "row-1\tYou said: one\nrow-2\tYou said: two\n"
    assert desk.call("resume", "a", "-q").code == 0


def test_a_named_pipe_is_told_to_be_piped(desk: Desk) -> None:
    """A FIFO can't be read twice, so it is refused with the way that works, without waiting for a writer."""
    require("linux")
    os.mkfifo(desk.folder / "fifo")
    ended = desk.call("run", "fifo", *SCRIPTED)
    assert ended.code == 2
    assert "fifo: is not a regular file; pipe it and use - as input" in ended.err
