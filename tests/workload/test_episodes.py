"""Episodes: each dialog is a row, and the episode can be written again with what was found of it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.errors import InputFaults, UsageError
from tokenmill.workload import ROWS, Entry, Input, Reader, Spec
from tokenmill.workload.episodes import Episodes
from workload.reading import faults, jsonl, scanned, write

EPISODES = [
    {
        "episode_id": "e1",
        "map": "old town",
        "dialogs": [
            {"question": "Where to?", "answer": "Turn left at the church."},
            {"question": "Now?", "answer": "Yes."},
            {"question": None, "answer": "Fly over the lake.", "stop": True, "seed": "x"},
        ],
    },
    {"episode_id": 7, "dialogs": [{"answer": "Land on the roof.", "dialog": "mine"}]},
]
TEMPLATE = "{{ question | default('-', true) }} {{ answer }}"


def fields_of(entries: list[Entry], found: Input, **options: Any) -> list[dict[str, Any]]:
    spec = Spec(source=found.source.path if found.source else ROWS, template=TEMPLATE, **options)
    with Reader(spec, found) as reader:
        return [reader.fields(e.offset, e.length, e.line) for e in entries]


def filled(entries: list[Entry], found: Input, value: object = "made") -> list[dict[str, Any]]:
    """The episodes with `paraphrases` in each dialog that is a row."""
    episodes = Episodes(Path(found.data.path), lambda row: (entries[row].offset, entries[row].length))
    try:
        made = [each for entry in entries for each in episodes.add(entry.row, "paraphrases", value)]
        return [*made, *episodes.rest()]
    finally:
        episodes.close()


@pytest.mark.parametrize("form", ["json", "jsonl", "rows", "parquet", "pipe"])
def test_each_dialog_is_a_row(tmp_path: Path, form: str) -> None:
    """Dialogs are called by episode and number; those with answers of fewer than 3 words are skipped and counted."""
    spec = Spec(source=ROWS, template=TEMPLATE)
    if form == "rows":
        entries, found = scanned(spec, tmp_path, rows=EPISODES)
    elif form == "pipe":
        spec = Spec(source="-", template=TEMPLATE, format="episodes")
        entries, found = scanned(spec, tmp_path, stdin=jsonl(*EPISODES).encode())
    else:
        path = tmp_path / f"in.{form}"
        if form == "parquet":
            import pyarrow
            import pyarrow.parquet

            text = [{**each, "episode_id": str(each["episode_id"])} for each in EPISODES]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(text), path)
        else:
            write(tmp_path, json.dumps(EPISODES, indent=2) if form == "json" else jsonl(*EPISODES), path.name)
        entries, found = scanned(Spec(source=str(path), template=TEMPLATE), tmp_path)

    assert [entry.custom_id for entry in entries] == ["e1/1", "e1/3", "7/1"]
    assert (found.kind, found.rows, found.skipped) == ("episodes", 3, 1)


def test_the_fields_of_a_dialog_are_those_of_its_row(tmp_path: Path) -> None:
    """Templates find question, answer, the number and the episode's own fields; no field is an option."""
    entries, found = scanned(Spec(source=ROWS, template=TEMPLATE), tmp_path, rows=EPISODES)
    first, second, third = fields_of(entries, found)

    assert first["question"], first["answer"] == ("Where to?", "Turn left at the church.")
    assert (second["dialog"], second["episode_id"], second["episode"]) == (3, "e1", {"map": "old town"})
    assert (second["stop"], second["seed"]) == (True, "x")
    assert (third["dialog"], third["episode_id"]) == (1, "7")


def test_a_recipe_finds_the_answer_under_its_own_name(tmp_path: Path) -> None:
    """The answer of a dialog, and the prompt of a plain line, are also what a recipe calls them."""
    entries, found = scanned(Spec(source=ROWS, template="{{ say }}", text_as="say"), tmp_path, rows=EPISODES)
    assert fields_of(entries, found, text_as="say")[0]["say"] == "Turn left at the church."

    path = write(tmp_path, "Turn left.\n", "in.txt")
    spec = Spec(source=str(path), template="{{ say }}", text_as="say")
    ((entry,), found) = scanned(spec, tmp_path)
    with Reader(spec, found) as reader:
        request = reader.request(0, entry.custom_id, entry.offset, entry.length, entry.line)
    assert request.prompt == "Turn left."


def test_lines_that_hold_episodes_can_be_rows_of_their_own(tmp_path: Path) -> None:
    """With the format jsonl or json an episode is one row."""
    path = write(tmp_path, jsonl(*EPISODES))
    entries, found = scanned(Spec(source=str(path), template="{{ dialogs[0].answer }}", format="jsonl"), tmp_path)

    assert (len(entries), found.kind, found.skipped) == (2, "jsonl", 0)


def test_a_first_episode_without_dialogs_is_one(tmp_path: Path) -> None:
    """What is missing of it is told, not a template's fields."""
    told = faults(jsonl({"episode_id": "a", "dialogs": None}, *EPISODES), tmp_path, template="{{ answer }}")

    assert told == ("line 1: episode 'a': dialogs is missing; give a list of objects with question and answer",)


def test_all_that_is_wrong_is_told_with_its_place(tmp_path: Path) -> None:
    """Each fault names the line, the episode and the dialog, and what to do."""
    rows = [
        {"episode_id": "a", "dialogs": []},
        {"dialogs": [{"answer": "one two three"}]},
        {"episode_id": "b"},
        {"episode_id": "", "dialogs": [{"answer": "one two three"}]},
        {"episode_id": 1.5, "dialogs": [{"answer": "one two three"}]},
        {
            "episode_id": "c",
            "dialogs": [{"question": "q"}, {"answer": None}, 5, {"answer": ["x"]}, {"answer": "1 2 3"}],
        },
        {"episode_id": "c", "dialogs": [{"answer": "short"}, {"answer": "a b c", "question": 4}]},
        {"episode_id": "c", "dialogs": [0, 0, 0, 0, {"answer": "one two three"}]},
    ]
    told = faults(jsonl(*rows), tmp_path, format="episodes", template="{{ answer }}")

    assert told[:9] == (
        "line 1: episode 'a': dialogs is empty; add one with question and answer, or remove it",
        "line 2: episode_id is missing; give each episode its own",
        "line 3: episode 'b': dialogs is missing; give a list of objects with question and answer",
        "line 4: episode_id is empty; give an id or leave the field out",
        "line 5: episode_id must be a string, not 1.5; put it in double quotes",
        "line 6: episode 'c', dialog 1: answer is missing; the dialog has 'question'; add a text, or ''",
        "line 6: episode 'c', dialog 2: answer is missing; the dialog has 'answer'; add a text, or ''",
        "line 6: episode 'c', dialog 3 must be an object with question and answer, not 5",
        "line 6: episode 'c', dialog 4: answer must be a string, not ['x']",
    )
    assert told[9] == "line 7: episode 'c', dialog 2: question must be a string, not 4"
    assert told[-1].endswith("custom_id 'c/5' is already used on line 6; give each episode an episode_id of its own")


def test_a_template_that_does_not_go_with_a_dialog_names_it(tmp_path: Path) -> None:
    """Several rows share a line, so the dialog is named too."""
    (told,) = faults(jsonl(EPISODES[1]), tmp_path, template="{{ question }}")

    assert told.startswith("line 1: episode '7', dialog 1: template: 'question' is undefined")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "episodes hold no prompts; give --pipeline"),
        ({"template": "{{ answer }}", "id_column": "x"}, "leave --id-column out"),
    ],
)
def test_options_that_do_not_go_with_episodes_are_refused(tmp_path: Path, options: dict[str, str], told: str) -> None:
    """What can't hold is said before anything is read."""
    with pytest.raises(UsageError, match=told):
        scanned(Spec(source=ROWS, **options), tmp_path, rows=EPISODES)  # type: ignore[arg-type]


def test_episodes_of_short_answers_alone_are_refused(tmp_path: Path) -> None:
    """A file of which every dialog is skipped says so, rather than that it is empty."""
    rows = [{"episode_id": "a", "dialogs": [{"answer": "Yes."}, {"answer": "..., - !"}]}]
    with pytest.raises(InputFaults, match="holds no rows; 2 dialogs are skipped, as their answers have fewer than 3"):
        scanned(Spec(source=ROWS, template=TEMPLATE), tmp_path, rows=rows)


def test_episodes_are_not_text_or_tables(tmp_path: Path) -> None:
    """The format episodes says how rows look, and a text file has none that look so."""
    path = write(tmp_path, "a\n", "in.txt")
    with pytest.raises(InputFaults, match="episodes are JSON, JSONL or Parquet"):
        scanned(Spec(source=str(path), format="episodes", template=TEMPLATE), tmp_path)


HOSTILE = st.text(max_size=12) | st.sampled_from(
    ["\u202e\x1b[31m", "\0", '"}]\n{"', "\ud800", "#", "{{ 7 * 7 }}", "\u2028"]
)
DIALOG = st.dictionaries(
    st.sampled_from(["question", "answer", "dialog", "custom_id", "n"]), HOSTILE | st.none() | st.integers(), max_size=5
)
EPISODE = st.fixed_dictionaries(
    {"dialogs": st.lists(DIALOG | st.just({"answer": "one two three"}), max_size=4)}, optional={"about": HOSTILE}
)


@settings(deadline=None)
@given(st.lists(EPISODE, max_size=4), st.booleans())
def test_episodes_come_back_as_they_were_with_what_was_found(episodes: list[dict[str, Any]], as_file: bool) -> None:
    """Whatever is in them, episodes are written again equal but for the new field, in the dialogs that were rows."""
    given_ = json.loads(json.dumps([{"episode_id": f"e{n}", **episode} for n, episode in enumerate(episodes)]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if as_file:
            source = str(write(folder, json.dumps(given_), "in.json"))
            spec = Spec(source=source, format="episodes", template="{{ dialog }}", bad_rows="fail")
        else:
            spec = Spec(source=ROWS, format="episodes", template="{{ dialog }}", bad_rows="fail")
        try:
            entries, found = scanned(spec, folder, rows=None if as_file else given_)
        except InputFaults:
            return
        made = filled(entries, found)
    asked = {entry.custom_id for entry in entries if entry.fault is None}
    for episode in given_:
        for number, dialog in enumerate(episode["dialogs"], 1):
            if f"{episode['episode_id']}/{number}" in asked:
                dialog["paraphrases"] = "made"
    assert made == [each for each in given_ if any("paraphrases" in dialog for dialog in each["dialogs"])]


def test_a_part_of_the_rows_gives_their_episodes_alone(tmp_path: Path) -> None:
    """With a limit only the episodes of rows that were asked are written, and the other dialogs stay as they are."""
    rows = [{"episode_id": n, "dialogs": [{"answer": "one two three"}, {"answer": "four five six"}]} for n in range(3)]
    entries, found = scanned(Spec(source=ROWS, template=TEMPLATE, limit=3), tmp_path, rows=rows)
    made = filled(entries, found, {"positive": ["x"]})

    assert [each["episode_id"] for each in made] == [0, 1]
    assert [list(dialog) for dialog in made[1]["dialogs"]] == [["answer", "paraphrases"], ["answer"]]
