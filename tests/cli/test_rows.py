"""The options that choose rows, and what is told of dialogs that are none."""

from __future__ import annotations

import json

import pytest

from cli.desk import SCRIPTED, Desk

EPISODES = [
    {"episode_id": "a", "split": "train", "dialogs": [{"answer": "Turn left here."}, {"answer": "Yes."}]},
    {"episode_id": "b", "split": "test", "dialogs": [{"answer": "Turn right there."}]},
]
ASK = ("--prompt-column", "answer", *SCRIPTED)


def asked(desk: Desk, name: str = "out.jsonl") -> list[str]:
    return [json.loads(line)["custom_id"] for line in desk.read(name).splitlines()]


def test_skipped_dialogs_are_told_before_and_in_a_dry_run(desk: Desk) -> None:
    """How many and why, on stderr; --quiet leaves it out."""
    desk.write("in.json", json.dumps(EPISODES))
    told = "1 dialog is skipped, as its answer has fewer than 3 words"

    assert told in desk.call("run", "in.json", *ASK, "-o", "out.jsonl").err
    assert asked(desk) == ["a/1", "b/1"]
    assert told not in desk.call("run", "in.json", *ASK, "-q").err
    assert told in desk.call("run", "in.json", *ASK, "--dry-run").out
    assert json.loads(desk.call("run", "in.json", *ASK, "--dry-run", "--json").out)["skipped"] == 1


def test_a_split_of_a_file_a_folder_and_by_shares(desk: Desk) -> None:
    """The three ways to say which rows are a split."""
    desk.write("in.json", json.dumps(EPISODES))
    assert desk.call("run", "in.json", *ASK, "--split", "test", "-o", "out.jsonl").code == 0
    assert asked(desk) == ["b/1"]

    (desk.folder / "set").mkdir()
    desk.write("set/train_data.json", json.dumps(EPISODES[:1]))
    desk.write("set/val_data.json", json.dumps(EPISODES[1:]))
    assert desk.call("run", "set", *ASK, "--split", "validation", "-o", "out.jsonl").code == 0
    assert asked(desk) == ["b/1"]

    desk.write("many.jsonl", "".join(json.dumps({"custom_id": f"r{n}", "prompt": "x"}) + "\n" for n in range(40)))
    found = []
    for split in ("train", "test"):
        words = ("--shares", "train=3,test=1", "--split", split, "--seed", "5")
        assert desk.call("run", "many.jsonl", *SCRIPTED, *words, "-o", "out.jsonl").code == 0
        found += asked(desk)
    assert sorted(found) == sorted(f"r{n}" for n in range(40))


def test_a_sample_repeats_with_its_seed(desk: Desk) -> None:
    """The same seed takes the same rows."""
    desk.write("many.jsonl", "".join(json.dumps({"custom_id": f"r{n}", "prompt": "x"}) + "\n" for n in range(60)))
    taken = []
    for seed in ("1", "1", "2"):
        words = ("--sample", "6", "--seed", seed, "-o", "out.jsonl")
        assert desk.call("run", "many.jsonl", *SCRIPTED, *words).code == 0
        taken.append(asked(desk))

    assert taken[0] == taken[1] != taken[2]
    assert len(taken[0]) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--shares", "train"), "--shares train: 'train' is no share; write names and numbers, as train=80,test=20"),
        (("--shares", "a=1,a=2"), "'a' has two shares; keep one"),
        (("--shares", "a=1"), "shares need a split to take; add --split a"),
        (("--shares", "a=0", "--split", "a"), "share a=0 is no share"),
        (("--split", "test"), "has no field 'split' that says where it belongs"),
        (("--sample", "2", "--limit", "2"), "both a sample and a limit are given"),
        (("--format", "episodes"), "episodes are JSON, JSONL or Parquet"),
    ],
)
def test_a_choice_that_can_not_hold_is_refused(desk: Desk, words: tuple[str, ...], told: str) -> None:
    """One line with the way out, exit code 2, and no run."""
    ended = desk.call("run", "ok.txt", *SCRIPTED, *words)

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert told in ended.err
    assert desk.made_runs() == []


def test_a_data_set_is_exported_in_each_form(desk: Desk) -> None:
    """By the end of the name or by --format; columns of the input are in it anyway."""
    desk.write("in.json", json.dumps(EPISODES))
    assert desk.call("run", "in.json", "--pipeline", "paraphrase", *SCRIPTED, "-q").code == 0
    for name, words in (("a.jsonl", ()), ("a.parquet", ()), ("a.json", ()), ("a.out", ("--format", "json"))):
        assert desk.call("export", "last", "-o", name, *words).code == 0

    assert desk.read("a.json") == desk.read("a.out")
    assert [episode["episode_id"] for episode in json.loads(desk.read("a.json"))] == ["a", "b"]
    assert "leave --with-input out" in desk.call("export", "last", "-o", "b.parquet", "--with-input").err
