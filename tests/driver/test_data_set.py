"""Data sets in each form: lines, Parquet, and the structure of the input with a field more."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import tokenmill
from driver.runs import run, script
from tokenmill.driver.data_form import Parquet, form_of, whole
from tokenmill.driver.extend import extend_run
from tokenmill.driver.options import Options, Settings
from tokenmill.driver.prepare import RECORD, prepare
from tokenmill.errors import InputFaults, UsageError
from tokenmill.pipeline import Check, Parser, Recipe, Stage
from tokenmill.pipeline.read import recipe
from tokenmill.workload import Spec

GOOD = "Positive 1: At the red church, take a left turn.\nPositive 2: Make a left turn at the red church there.\n"
GOOD += "Negative: Turn right at the red church."
SCRIPT = f'slots = 3\nanswer = """{GOOD}"""\n[[rule]]\nmatch = "hopeless"\nanswer = "No."'
EPISODES = [
    {
        "episode_id": "e1",
        "map": "old town",
        "split": "train",
        "dialogs": [
            {"question": "Where?", "answer": "Turn left at the red church."},
            {"question": "Now?", "answer": "Yes."},
            {"question": "And?", "answer": "Turn left at the red church, hopeless.", "stop": True},
        ],
    },
    {"episode_id": 7, "split": "test", "dialogs": [{"answer": "Turn left at the red church!"}]},
    {"episode_id": "e3", "split": "train", "dialogs": [{"answer": "Ja."}]},
]
MADE = {
    "positive": ["At the red church, take a left turn.", "Make a left turn at the red church there."],
    "negative": ["Turn right at the red church."],
}


def made(folder: Path, rows: Any, name: str, **options: Any) -> tuple[tokenmill.Answers, Path]:
    """The contrastive data set of these rows, under this name."""
    path = folder / name
    shipped = recipe("contrastive", embedding="words")
    return run(folder, rows, script(folder, SCRIPT), pipeline=shipped, output=path, **options), path


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_episodes_come_back_with_paraphrases(tmp_path: Path) -> None:
    """Dialogs that were asked have paraphrases by role; short ones, and all that is beside, stand as they were."""
    source = tmp_path / "episodes.json"
    source.write_text(json.dumps(EPISODES, indent=2), encoding="utf-8")
    _, path = made(tmp_path, source, "data.json")
    expected = json.loads(json.dumps(EPISODES[:2]))
    expected[0]["dialogs"][0]["paraphrases"] = MADE
    expected[0]["dialogs"][2]["paraphrases"] = {"positive": [], "negative": []}
    expected[1]["dialogs"][0]["paraphrases"] = MADE

    assert read(path) == expected
    assert [row["id"] for row in lines(tmp_path / "data.missed.jsonl")] == ["e1/3"]
    assert (tmp_path / "data.card.json").exists()


def test_what_is_skipped_stands_on_the_card(tmp_path: Path) -> None:
    """The card counts the dialogs that were no rows."""
    made(tmp_path, EPISODES, "data.json")

    assert read(tmp_path / "data.card.json")["skipped"] == 2


def test_episodes_out_go_in_again(tmp_path: Path) -> None:
    """What is written can be read as an input; earlier paraphrases give way to new ones."""
    _, first = made(tmp_path, EPISODES, "data.json", split="train")
    _, second = made(tmp_path, first, "again.json")

    assert read(second) == read(first)
    assert [episode["episode_id"] for episode in read(first)] == ["e1"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.txt", "rows.csv", "rows.parquet"])
def test_rows_of_any_kind_come_back_with_paraphrases(tmp_path: Path, name: str) -> None:
    """A row of a list or a table is an object with all that it had and the new field."""
    source = tmp_path / name
    text, field = "Turn left at the red church.", "instruction"
    if name == "rows.txt":
        source.write_text(text, encoding="utf-8")
        field = "prompt"
    elif name == "rows.csv":
        source.write_text(f"instruction\n{text}\n", encoding="utf-8")
    elif name == "rows.parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"instruction": [text]}), source)
    else:
        source.write_text(json.dumps({"instruction": text}), encoding="utf-8")
    _, path = made(tmp_path, source, "data.json")

    assert read(path) == [{field: text, "paraphrases": MADE}]


def test_a_column_of_any_name_holds_the_instruction(tmp_path: Path) -> None:
    """A shipped recipe takes the text from the column that is named; without one to put it in, that is an error."""
    rows = [{"sentence": "Turn left at the red church.", "id": "a"}]
    _, path = made(tmp_path, rows, "data.json", prompt_column="sentence", id_column="id")

    assert read(path) == [{**rows[0], "paraphrases": MADE}]
    with pytest.raises(UsageError, match="doesn't say in which field it takes the text of a row"):
        run(tmp_path, rows, pipeline=Recipe(name="r", stages=(Stage(name="s", prompt="x"),)), prompt_column="sentence")


def test_parquet_holds_what_the_lines_hold(tmp_path: Path) -> None:
    """Each item is a row with the same values; scores are numbers by name, data and input JSON."""
    import pyarrow.parquet

    _, as_lines = made(tmp_path, EPISODES, "data.jsonl")
    _, as_table = made(tmp_path, EPISODES, "table.parquet")
    rows = pyarrow.parquet.read_table(as_table).to_pylist()
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("data", "input")}
        del row["about"], row["flags"]

    assert rows == lines(as_lines)
    for name in ("rest", "missed"):
        assert (tmp_path / f"table.{name}.jsonl").read_bytes() == (tmp_path / f"data.{name}.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet"])
def test_items_of_a_cut_answer_are_marked(tmp_path: Path, name: str) -> None:
    """What was cut at its limit is kept as the user wishes, and never looks like an answer that came to its end."""
    import pyarrow.parquet

    cut = 'answer = "one two three"\n[[rule]]\nmatch = "long"\nanswer = "one two thr"\nfinish_reason = "length"\n'
    recipe_ = Recipe(name="r", stages=(Stage(name="say", prompt="{{ text }}"),))
    rows = [{"text": "short", "id": "a"}, {"text": "long", "id": "b"}]
    run(tmp_path, rows, script(tmp_path, cut), pipeline=recipe_, output=tmp_path / name, id_column="id")

    is_table = name.endswith("parquet")
    items = pyarrow.parquet.read_table(tmp_path / name).to_pylist() if is_table else lines(tmp_path / name)
    assert [(each["id"], each.get("flags")) for each in items] == [("a", None), ("b", ["length"])]
    card = json.loads((tmp_path / "data.card.json").read_text(encoding="utf-8"))
    assert card["accepted_of_odd_answers"] == {"length": 1}
    assert "| length | 1 |" in (tmp_path / "data.card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet", "data.json"])
def test_equal_answers_give_equal_bytes(tmp_path: Path, name: str) -> None:
    """Run one by one or many at once, exported now or later: the files are the same."""
    answers, first = made(tmp_path, EPISODES, name)
    folder = tmp_path / "other"
    folder.mkdir()
    _, second = made(folder, EPISODES, name, slots=1, order="longest-first")
    third = tmp_path / "exported" / name
    third.parent.mkdir()
    words = [sys.executable, "-m", "tokenmill", "export", str(answers.folder), "-o", str(third)]
    subprocess.run(words, check=True, capture_output=True)

    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


@pytest.mark.parametrize("name", ["data.parquet", "data.json"])
def test_a_run_that_stopped_on_its_way_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Episodes that were answered and not judged when the run ended are judged on resume, not asked again."""
    _, calm = made(tmp_path, EPISODES, f"calm-{name}", sample=2, seed=4)
    answers, path = made(tmp_path, EPISODES, name, sample=2, seed=4, run_id="cut")
    with sqlite3.connect(answers.folder / RECORD) as connection:  # as if it had been killed before anything was judged
        connection.executescript(
            "DROP TRIGGER answer_stays; DELETE FROM item; DELETE FROM score; DELETE FROM story;"
            "DELETE FROM answer WHERE row >= 2; DELETE FROM attempt WHERE row >= 2; DELETE FROM request WHERE row >= 2;"
        )
    path.unlink()
    made(tmp_path, EPISODES, name, sample=2, seed=4, run_id="cut", resume=True)

    assert path.read_bytes() == calm.read_bytes()


def test_a_sample_does_not_grow(tmp_path: Path) -> None:
    """More rows would change which are in it, so a run that took one is not extended."""
    source = tmp_path / "prompts.txt"
    source.write_text("a\nb\nc\n", encoding="utf-8")
    spec = Spec(source=str(source), sample=2, seed=0)
    settings = Settings(nodes=("scripted:",))
    folder = prepare(Options(workload=spec), settings, runs=tmp_path / "runs", run_id="x")

    with pytest.raises(UsageError, match="took a sample, which more rows would change"):
        extend_run(folder, Options(workload=spec), settings)


TWO_JUDGES = Recipe(
    name="r",
    stages=(
        Stage(name="s", prompt="{{ text }}", checks=(Check(use="length"),)),
        *(
            Stage(
                name=name,
                of="s",
                judges=True,
                at_least=5.0,
                prompt=f"{name} rates {{{{ item.text }}}}",
                parse=Parser(kind="verdict"),
            )
            for name in ("j1", "j2")
        ),
    ),
)


def test_an_item_has_the_score_of_each_judge(tmp_path: Path) -> None:
    """Several stages may judge one, and none hides what another said."""
    import pyarrow.parquet

    rules = 'answer = "two words"\n[[rule]]\nmatch = "^j1"\nanswer = "Score: 7"\n'
    node = script(tmp_path, f'{rules}[[rule]]\nmatch = "^j2"\nanswer = "Score: 6"')
    for name in ("data.jsonl", "data.parquet"):
        run(tmp_path, [{"text": "a"}], node, pipeline=TWO_JUDGES, output=tmp_path / name)
    (item,) = lines(tmp_path / "data.jsonl")

    assert item["scores"] == {"length": 2.0, "j1": 7.0, "j2": 6.0}
    assert pyarrow.parquet.read_table(tmp_path / "data.parquet").to_pylist()[0]["scores"] == item["scores"]


def test_a_judge_is_not_called_like_a_check_of_what_it_judges(tmp_path: Path) -> None:
    """Their scores stand side by side under their names, so that is refused before anything is sent."""
    stages = (replace(TWO_JUDGES.stages[0], checks=(Check(use="length", name="j2"),)), *TWO_JUDGES.stages[1:])

    with pytest.raises(InputFaults, match="stage 'j2', name: stage 's', which it judges, has a check called 'j2'"):
        run(tmp_path, [{"text": "a"}], pipeline=replace(TWO_JUDGES, stages=stages))


def test_an_empty_data_set_is_a_whole_file(tmp_path: Path) -> None:
    """Where nothing was accepted, each form is still one that can be read."""
    import pyarrow.parquet

    rows = [{"instruction": "hopeless"}]
    for name in ("data.jsonl", "data.parquet", "data.json"):
        made(tmp_path, rows, name)

    assert (tmp_path / "data.jsonl").read_bytes() == b""
    assert pyarrow.parquet.read_table(tmp_path / "data.parquet").num_rows == 0
    assert read(tmp_path / "data.json")[0]["paraphrases"] == {"positive": [], "negative": []}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["d.jsonl", "d.parquet", "d.json"])
def test_a_kill_in_the_middle_leaves_nothing_half_written(tmp_path: Path, name: str) -> None:
    """A process that dies while it writes leaves the old file, and the next one clears up what it left."""
    chance = random.Random(1)
    rows = [{"text": f"{chance.randbytes(30_000).hex()} end"} for _ in range(7)]
    echo = Recipe(name="echo", stages=(Stage(name="say", prompt="{{ text }}"),))
    calm = tmp_path / f"calm{Path(name).suffix}"
    answers = run(tmp_path, rows, script(tmp_path, 'answer = "{prompt}"'), pipeline=echo, output=calm)
    path = tmp_path / name
    path.write_bytes(b"old")
    words = [sys.executable, "-m", "tokenmill", "export", str(answers.folder), "-o", str(path)]

    def hold() -> None:  # a pipe where the export writes, which takes no more than somebody reads
        os.mkfifo(tmp_path / f".{name}.{os.getpid()}.part")

    child = subprocess.Popen(words, preexec_fn=hold)
    with (tmp_path / f".{name}.{child.pid}.part").open("rb") as pipe:
        assert pipe.read(1)
        child.kill()
        child.wait()
    assert path.read_bytes() == b"old"
    subprocess.run(words, check=True, capture_output=True)

    assert path.read_bytes() == calm.read_bytes()
    assert calm.stat().st_size > 400_000
    assert not list(tmp_path.glob(".*.part"))


def test_hostile_text_is_written_as_it_is(tmp_path: Path) -> None:
    """Letters that steer, quotes, line ends and halves of characters come through each form."""
    import pyarrow.parquet

    hostile = 'a\u202e"}]\n\x1b[31m \u2028 \U0001f600 {{ 7 }} end'
    rows = [{"episode_id": "x", "dialogs": [{"answer": hostile, hostile: hostile}]}]
    stage = Stage(name="say", prompt="{{ answer }}", parse=Parser(kind="text"), checks=(Check(use="length"),))
    node = script(tmp_path, 'answer = "{prompt}"')
    kept = []
    for name in ("h.jsonl", "h.parquet", "h.json"):
        run(tmp_path, rows, node, pipeline=Recipe(name="r", stages=(stage,)), output=tmp_path / name)
    kept.append(lines(tmp_path / "h.jsonl")[0]["text"])
    kept.append(pyarrow.parquet.read_table(tmp_path / "h.parquet").to_pylist()[0]["text"])
    (dialog,) = read(tmp_path / "h.json")[0]["dialogs"]
    kept.append(dialog["paraphrases"]["say"][0])

    assert kept == [kept[0]] * 3
    assert kept[0].split() == hostile.split()
    assert dialog[hostile] == hostile
    assert whole("a\ud800b") == "a\ufffdb"


def test_many_items_are_written_in_groups(tmp_path: Path) -> None:
    """Parquet is written as it goes, group by group."""
    import pyarrow.parquet

    made_of = Recipe(name="r", stages=(Stage(name="s", prompt="x", checks=(Check(use="length"),)),))
    item = {"id": "a", "text": "x", "round": 1, "scores": {"length": 1.0}, "reasons": [], "input": {}}
    with (tmp_path / "t.parquet").open("wb") as file:
        form = Parquet(file, made_of)
        for number in range(25_000):
            form.add(number, [item])
        form.close()

    assert pyarrow.parquet.ParquetFile(tmp_path / "t.parquet").metadata.num_row_groups == 3


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("data.csv", "a data set is written as .jsonl or .parquet, an item a line or row, or as .json"),
        ("data", "end the name so"),
        ("data.json", r"recipe 'qa' asks about items \(stage 'answer'\)"),
    ],
)
def test_a_form_that_can_not_hold_the_items_is_refused(tmp_path: Path, name: str, told: str) -> None:
    """Before anything is sent, with the forms there are."""
    with pytest.raises(UsageError, match=told):
        form_of(tmp_path / name, recipe("qa"))
    with pytest.raises(UsageError, match=told):
        run(tmp_path, [{"text": "a"}], pipeline="qa", output=tmp_path / name)


@pytest.mark.parametrize("name", ["data.jsonl", "data.rest.jsonl", "data.missed.jsonl"])
def test_the_input_is_never_written_over(tmp_path: Path, name: str) -> None:
    """Neither by the items nor by what stands beside them."""
    source = tmp_path / name
    source.write_text(json.dumps({"instruction": "Turn left at the red church."}), encoding="utf-8")
    with pytest.raises(UsageError, match="is the input"):
        made(tmp_path, source, "data.jsonl")


def test_what_stands_beside_the_items_must_be_a_file(tmp_path: Path) -> None:
    """A folder in its place is named before anything is sent."""
    (tmp_path / "data.rest.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"data\.rest\.jsonl would hold the rest and is not a regular file"):
        made(tmp_path, [{"instruction": "Turn left at the red church."}], "data.jsonl")


def test_a_part_of_a_folder_is_never_written_over(tmp_path: Path) -> None:
    """A file of the split is part of the input; another one in its folder isn't."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"instruction": "Turn left at the red church."}), encoding="utf-8")
    with pytest.raises(UsageError, match="is the input"):
        made(tmp_path, folder, "set/train.jsonl", split="train")
    for _ in range(2):
        _, path = made(tmp_path, folder, "set/out.json", split="train")
    assert len(read(path)) == 1


def test_faults_of_episodes_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    """No run is left behind, and the fault names line, episode and dialog."""
    source = tmp_path / "episodes.json"
    source.write_text('[\n{"episode_id": "e1",\n "dialogs": [{"question": "a"}]}]', encoding="utf-8")
    with pytest.raises(InputFaults, match="line 2: episode 'e1', dialog 1: answer is missing") as caught:
        made(tmp_path, source, "data.json", format="episodes")

    assert str(source) in str(caught.value)
    assert not list((tmp_path / "runs").glob("*"))


def test_bad_dialogs_may_fail_alone(tmp_path: Path) -> None:
    """They stand in the output as they were, without paraphrases, and among the rows that were missed."""
    rows = [{"episode_id": "a", "dialogs": [{"question": "x"}, {"answer": "Turn left at the red church."}]}]
    _, path = made(tmp_path, rows, "data.json", bad_rows="fail", format="episodes")

    assert [list(dialog) for dialog in read(path)[0]["dialogs"]] == [["question"], ["answer", "paraphrases"]]
    assert [row["outcome"] for row in lines(tmp_path / "data.missed.jsonl")] == ["failed"]
