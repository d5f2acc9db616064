"""`tokenmill plan` for devices and fleets that are stated on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.desk import Desk, Ended

STUDY = ("mixtral-8x7b", "--dtype", "int8", "--gpus", "10x11GB", "--requests", "sentences")
PACED = ("--bandwidth", "616GB/s", "--link", "12GB/s")
FLEET = ("--hosts", "20", "--requests", "sentences", "--rows", "2000")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with an inventory of its own."""
    desk = Desk(tmp_path)
    desk.environment |= {"TOKENMILL_NODES": str(tmp_path / "nodes.toml")}
    return desk


def planned(desk: Desk, *words: str) -> Ended:
    ended = desk.call("plan", *words)
    assert (ended.code, ended.err) == (0, ""), ended
    return ended


def facts(desk: Desk, *words: str) -> Any:
    return json.loads(planned(desk, *words, "--json").out)


def test_the_study_of_ten_small_devices(desk: Desk) -> None:
    """The arithmetic, the refusal, the layouts that are left and the verdict stand on the screen."""
    said = " ".join(planned(desk, *STUDY, *PACED).out.split())

    for words in (
        "110 GB in all, less 47 GB of weights (4.7 GB a device",
        "leave 63 GB (6.3 GB a device)",
        "128 KiB",
        "10 copies of 47 GB are 470 of 110 GB",
        "one copy a device is impossible",
        "quickest: tp 8",
        "2 devices idle",
        "one of them is busy at a time",
        "nothing was measured and nothing was sent",
    ):
        assert words in said, words


def test_it_is_json_for_programs(desk: Desk) -> None:
    """Sizes are bytes and times seconds; what isn't known is null, with a note."""
    plan = facts(desk, *STUDY)

    assert plan["weights"] == 46_702_792_704
    assert plan["layouts"][0]["makespan"] is None
    assert all("--bandwidth" in each["note"] for each in plan["layouts"])


@pytest.mark.parametrize("columns", ["100", "60", "40"])
def test_it_fits_the_terminal(desk: Desk, columns: str) -> None:
    """No line is wider than the terminal, but for a word that has no end."""
    desk.environment["COLUMNS"] = columns
    lines = planned(desk, *STUDY, *PACED).out.splitlines()
    lines += planned(desk, *FLEET, "--pace", "40,60").out.splitlines()

    assert all(len(line) <= int(columns) or " " not in line.strip() for line in lines)


def test_one_row_gains_nothing_from_a_batch(desk: Desk) -> None:
    """What comes to the same is called that, and the pace is the one that was stated."""
    desk.write("one.txt", "hello\n")
    plan = facts(desk, "gpt2", "--gpus", "1x4GB", "--pace", "40", "--requests", "one.txt")

    assert plan["layouts"][0]["alone"] == pytest.approx(40)
    assert "write no more tokens per second than one request after the other" in plan["answers"][0]


def test_a_configuration_alone_is_enough(desk: Desk) -> None:
    """A config.json without weights is planned, and no input is needed for sizes."""
    config = {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "vocab_size": 50257,
        "n_positions": 1024,
    }
    desk.write("config.json", json.dumps(config))

    plan = facts(desk, "config.json", "--gpus", "2x24GB")

    assert plan["parameters"] == 124_439_808
    assert plan["rows"] is None


def test_a_fleet_is_simulated(desk: Desk) -> None:
    """Rows are taken over and over, unequal hosts take turns, and the losses are told."""
    fleet = facts(desk, *FLEET, "--pace", "40,60", "--slots", "2", "--lose", "10%", "--back", "30s")

    assert (fleet["nodes"], fleet["slots"], fleet["rows"]) == (20, 40, 2000)
    assert (fleet["lost"], fleet["unfinished"]) == (2, 0)
    assert fleet["attempts"] == 2000 + fleet["vain"]
    assert 1 <= fleet["ratio"] < 1.2


def test_a_fleet_of_devices(desk: Desk) -> None:
    """Hosts may be made of the copies of a model on stated devices."""
    fleet = facts(desk, "gpt2", "--gpus", "4x24GB", "--tp", "1", "--pace", "200", "--link", "12GB/s", *FLEET)

    assert fleet["nodes"] == 80
    assert fleet["unfinished"] == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("gpt2", "--gpus", "8x11GB", "--tp", "8"), "gpt2 has 12 heads, which 8 doesn't divide"),
        (("gpt2", "--gpus", "2x11GB", "--tp", "4"), "there are 2 equal devices at most"),
        (("gpt2", "--gpus", "ten"), "write COUNTxSIZE, such as 10x11GB"),
        (("gpt2", "--gpus", "10x11"), "write a number and its unit"),
        (("gpt2", "--gpus", "0x11GB"), "is no device"),
        (("gpt2", "--gpus", "2x0GB"), "must be above 0"),
        (("gpt2", "--gpus", "2x11GB", "--node", "ollama:http://127.0.0.1:1"), "plan with one of them"),
        (("gpt2",), "state the devices with --gpus"),
        (("--gpus", "2x11GB"), "which model?"),
        (("nosuch", "--gpus", "2x11GB"), "no such folder or file, and no known shape"),
        (("gpt2", "--gpus", "2x11GB", "--dtype", "int3"), "--dtype 'int3' isn't known"),
        (("gpt2", "--gpus", "2x11GB", "--bandwidth", "616"), "such as 616GB/s"),
        (("gpt2", "--gpus", "2x11GB", "--bandwidth", "1GB/s,2GB/s"), "2 values for 1 kinds of devices"),
        (("gpt2", "--gpus", "2x11GB", "--bandwidth", "1GB/s", "--pace", "3"), "give one of them"),
        (("gpt2", "--gpus", "2x11GB", "--pace", "3,4"), "several are for --hosts alone"),
        (("gpt2", "--gpus", "2x11GB", "--strategy", "pul"), "unknown strategy 'pul'; did you mean 'pull'?"),
        (("gpt2", "--gpus", "2x11GB", "--order", "lng"), "unknown order 'lng'"),
        (("gpt2", "--gpus", "2x11GB", "--hosts", "3"), "--hosts needs times"),
        (("--hosts", "10001", "--pace", "5"), "from 1 to 10000 can be simulated"),
        (("--hosts", "0", "--pace", "5"), "from 1 to 10000 can be simulated"),
        (("--hosts", "5", "--pace", "5", "--rows", "20000000"), "from 1 to 10000000 can be simulated"),
        (("--hosts", "5", "--pace", "0"), "write tokens per second above 0"),
        (("--hosts", "5", "--pace", "nan"), "write tokens per second above 0"),
        (("--hosts", "5"), "like which?"),
        (("--hosts", "5", "--pace", "5", "--node", "ollama:http://127.0.0.1:1"), "simulate hosts with one of them"),
        (("--hosts", "5", "--pace", "5", "--lose", "2"), "in percent, such as 2%"),
        (("--hosts", "5", "--pace", "5", "--lose", "100%"), "from 0 % to below 100 %"),
        (("--hosts", "5", "--pace", "5", "--lose", "2%", "--back", "3"), "such as 10us or 60s"),
        (("--hosts", "5", "--pace", "5", "--back", "3s"), "--back 3s means nothing without --lose"),
        (("--hosts", "5", "--pace", "5", "--requests", "ok.txt", "--lose", "2%"), "that is none of 5 nodes"),
        (("--pace", "5"), "means nothing without --gpus or --hosts"),
        (("--rows", "5"), "means nothing without --hosts"),
        (("--tp", "5"), "--tp 5 means nothing without --gpus"),
    ],
)
def test_bad_input_is_one_line(desk: Desk, words: tuple[str, ...], text: str) -> None:
    """The line names the option, what was given and the way out; nothing else is printed."""
    ended = desk.call("plan", *words, "--requests", "sentences")

    assert (ended.code, ended.out) == (2, ""), ended
    assert text in ended.err
    assert ended.err.count("\n") == 1


def test_a_fleet_needs_prompts(desk: Desk) -> None:
    """Without --requests nobody knows what the rows take."""
    ended = desk.call("plan", "--hosts", "5", "--pace", "5")

    assert ended.code == 2
    assert "name a file with --requests" in ended.err
