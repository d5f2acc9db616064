"""Runs with a recipe at the desk: what is refused, foretold, shown, interrupted and explained."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from cli.desk import PATIENCE, SCRIPTED, Desk
from cli.test_bad_input import refuse
from cli.test_terminal import OWN_SEQUENCES, on_terminal
from cli.tiny_model import write_tiny_model
from requirements import require

#: Wants two lines of at least two words from each row; `short` never gets them, `boom` makes the check raise.
RECIPE = """
name = "lines"
rounds = 2
[[stage]]
name = "say"
prompt = "{{ text }}"
refine = "{{ text }}: {{ reasons | join(' ') }}"
target = { say = 2 }
parse = { kind = "lines" }
reference = "{{ text }}"
[[stage.check]]
use = "length"
options = { min_words = 2 }
"""
SCRIPT = """
slots = 2
answer = "1. two words\\n2. three words here"
[[rule]]
match = "short"
answer = "word"
[[rule]]
match = "refused"
fail = "refused"
"""
ROWS = [{"custom_id": name, "text": name} for name in ("good", "short", "refused")]


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def table(desk: Desk) -> Desk:
    """A desk with rows, a recipe and a script that go together."""
    desk.write("rows.jsonl", jsonl(ROWS))
    desk.write("recipe.toml", RECIPE)
    desk.write("script.toml", SCRIPT)
    return desk


WORDS = ("rows.jsonl", "--pipeline", "recipe.toml", *SCRIPTED)

BAD = {
    "an unknown stage": ('of = "sya"', ("stage 'say', of: there is no stage 'sya'; did you mean 'say'?",)),
    "a circle": ('of = "say"', ("wait for each other: say of say", "without of")),
    "a threshold out of range": ("at_least = 3", ("at_least: is for stages that judge",)),
    "a check's threshold": (
        '[[stage.check]]\nuse = "direction"\noptions = { at_least = 7 }',
        ("stage 'say', check 'direction': at_least: 7 is out of range; give 0 to 1",),
    ),
    "a schema that is none": (
        '[[stage.check]]\nuse = "json_schema"\noptions = { schema = { type = "objekt" } }',
        ("stage 'say', check 'json_schema': schema isn't a JSON schema: 'objekt'",),
    ),
    "an unknown field": ('promtp = "x"', ("stage 'say': 'promtp' is not known; did you mean 'prompt'?",)),
    "vectors of nothing": ('[[stage.check]]\nuse = "embedding"', ("compares vectors", "--embedding", "local:FOLDER")),
    "an unknown check": ('[[stage.check]]\nuse = "lenght"', ("no kind 'lenght'; did you mean 'length'?",)),
}


@pytest.mark.parametrize("what", BAD)
def test_a_faulty_recipe_is_refused(table: Desk, what: str) -> None:
    """Each fault is one line with its place, the value and what to do; nothing is sent."""
    added, parts = BAD[what]
    head, check = RECIPE.split("[[stage.check]]")
    before = "" if added.startswith("[[") else f"{added}\n"
    table.write("recipe.toml", f"{head}{before}[[stage.check]]{check}{'' if before else added}\n")
    refuse(table, WORDS, "recipe.toml: ", *parts)


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        (
            "prompt",
            (
                "stage 'say', prompt: uses 'txet', which no row has; they have 'custom_id, text'; did you mean 'text'?",
                "add the field",
            ),
        ),
        (
            "refine",
            (
                "stage 'say', refine: uses 'txet', which no row has; they have 'custom_id, text'; did you mean 'text'?",
                "add the field",
            ),
        ),
    ],
)
def test_a_variable_that_no_row_has_is_told_once(table: Desk, field: str, parts: tuple[str, ...]) -> None:
    """However many rows lack it, and also if only a later prompt uses it."""
    line = next(line for line in RECIPE.splitlines() if line.startswith(field))
    table.write("recipe.toml", RECIPE.replace(line, line.replace("{{ text }}", "{{ txet }}")))
    refuse(table, WORDS, "recipe lines: ", *parts)


def test_rows_for_another_recipe_are_told_the_option(table: Desk) -> None:
    """A shipped recipe can't be corrected, but where it finds its text can be said."""
    words = ("rows.jsonl", "--pipeline", "contrastive", "--embedding", "words", *SCRIPTED)
    refuse(
        table, words, "uses 'instruction', which no row has; they have 'custom_id, text'; say which", "--prompt-column"
    )
    assert table.call("run", *words, "--prompt-column", "text", "--dry-run").code == 0


def test_a_variable_that_one_row_has_is_told_by_row(table: Desk) -> None:
    """The rows that lack it are named, for they may be what is wrong."""
    table.write("rows.jsonl", '{"text": "a"}\n{"txt": "b"}\n')
    refuse(table, WORDS, "line 2: template: 'text' is undefined; the row has 'txt'")


@pytest.mark.parametrize("name", ["contrastve", "nosuch", "nosuch.toml"])
def test_an_unknown_recipe_is_refused(table: Desk, name: str) -> None:
    """The recipes that there are come with it, and the nearest name if one is near."""
    near = ("did you mean 'contrastive'?",) if name == "contrastve" else ()
    refuse(table, ("rows.jsonl", "--pipeline", name, *SCRIPTED), name, "shipped: contrastive, paraphrase, qa", *near)


def test_an_embedding_that_can_not_be_is_refused(table: Desk) -> None:
    """Before anything is sent, and with the name that was given."""
    words = ("rows.jsonl", "--pipeline", "contrastive", *SCRIPTED, "--embedding")
    table.write("rows.jsonl", '{"instruction": "Turn left."}\n')
    refuse(table, (*words, "wrds"), "embedding 'wrds': names no model; did you mean 'words'?")
    refuse(table, (*words, "local:./nowhere"), "embedding 'local:./nowhere'", "no such folder")
    refuse(table, (*words, "loca:x"), "embedding 'loca:x'", "did you mean 'local'?")


def test_an_empty_input_is_refused(table: Desk) -> None:
    """Without a row there is no data set."""
    table.write("rows.jsonl", "")
    refuse(table, WORDS, "rows.jsonl", "holds no rows", "add at least one")


def test_a_system_message_needs_a_model_that_takes_one(table: Desk) -> None:
    """A model without a chat template is refused before anything is sent, though only a later stage has the message."""
    write_tiny_model(table.folder / "model")
    after = '[[stage]]\nname = "after"\nof = "say"\nprompt = "{{ item.text }}"\nsystem = "Be brief."\n'
    table.write("recipe.toml", RECIPE + after)
    words = ("rows.jsonl", "--pipeline", "recipe.toml", "--model", "./model")
    refuse(table, words, "stage 'after', system: ", "has no chat template", "take a model made for chats")
    refuse(table, (*WORDS, "--endpoint", "completions"), "stage 'after', system: completions have none; write it into")


def test_a_model_without_chats_continues_prompts(table: Desk) -> None:
    """Without system messages such a model is fine; a dry run says what becomes of prompts."""
    write_tiny_model(table.folder / "model")
    ended = table.call("run", "rows.jsonl", "--pipeline", "recipe.toml", "--model", "./model", "--dry-run")

    assert ended.code == 0
    assert "chat           none: this model has no chat template, so it continues each prompt as it stands" in ended.out


def test_a_dry_run_says_what_would_be_asked(table: Desk) -> None:
    """Rows, stages, the least and the most prompts, and the first prompt as it would be sent; nothing is kept."""
    after = '[[stage]]\nname = "after"\nof = "say"\nprompt = "{{ item.text }}"\nrounds = 1\n'
    table.write("recipe.toml", RECIPE.replace('prompt = "', 'system = "Be \\u202ebrief."\nprompt = "List:\\n') + after)
    ended = table.call("run", *WORDS, "--dry-run")
    lines = ended.out.splitlines()

    assert (ended.code, table.made_runs()) == (0, [])
    assert lines[:7] == [
        "recipe         lines",
        "stages         say: up to 2 rounds of 1 prompt, wants 2 say",
        "               after: 1 round of 1 prompt about each item of 'say', wants 1 after",
        "prompts        at least 3 and at most 12, retries aside",
        "embedding      none",
        "rows           3",
        "prompt tokens  12, of the first prompts alone",
    ]
    assert lines[-6:] == [
        "system message:",
        "    Be \\u202ebrief.",
        "first prompt, of good:",
        "    List:",
        "    good",
        "nothing was sent",
    ]
    told = json.loads(table.call("run", *WORDS, "--dry-run", "--json").out)["pipeline"]
    assert (told["least"], told["most"], told["sample"]) == (3, 12, "List:\ngood")


def test_recipes_are_listed_and_printed(table: Desk) -> None:
    """What is printed is a recipe file, which does what its name does; an unknown name is told the known ones."""
    listed = table.call("recipes").out.splitlines()
    names = [each["name"] for each in json.loads(table.call("recipes", "--json").out)]
    assert [line.split()[0] for line in listed] == names
    for name in names:
        text = table.call("recipes", name).out
        assert json.loads(table.call("recipes", name, "--json").out) == {"name": name, "text": text}
        table.write("mine.toml", text)
        table.write("rows.jsonl", jsonl([{"text": "a", "instruction": "b", "prompt": "c"}]))
        words = ("run", "rows.jsonl", "--embedding", "words", *SCRIPTED, "--dry-run", "--json", "--pipeline")
        mine, shipped = (json.loads(table.call(*words, source).out) for source in ("./mine.toml", name))
        assert mine == shipped
    ended = table.call("recipes", "paraphrse")
    assert ended.code == 2
    assert "did you mean 'paraphrase'?" in ended.err


def test_a_dry_run_of_each_shipped_recipe(table: Desk) -> None:
    """What comes with the package says what it would ask; a judge of any number of items has no fixed most."""
    table.write("rows.jsonl", jsonl([{"text": "a", "instruction": "b", "prompt": "c"}]))
    most = {
        "contrastive": "at least 1 and at most 3",
        "paraphrase": "at least 1 and at most 3",
        "qa": "at least 1 and at most 39",
        "judge": "at least 1 and at most 12",
    }
    for name, said in most.items():
        ended = table.call("run", "rows.jsonl", "--pipeline", name, "--embedding", "words", *SCRIPTED, "--dry-run")
        assert said in ended.out, ended
    table.write("recipe.toml", RECIPE + JUDGE)
    assert "at least 1 and no fixed most: an answer may hold any number" in table.call("run", *WORDS, "--dry-run").out


JUDGE = """
[[stage]]
name = "rate"
of = "say"
judges = true
at_least = 5
prompt = "{{ item.text }}"
parse = { kind = "verdict" }
"""


def test_status_and_list_tell_of_rows_and_prompts(table: Desk) -> None:
    """Rows are those of the input, by how they ended and in how many rounds; prompts stand beside them."""
    ended = table.call("run", *WORDS, "--run-id", "a", "-q", "-o", "data.jsonl")
    assert ended.code == 3
    assert "rows by outcome: 1 failed, 1 short, 1 success; why, is in " in ended.err
    assert ended.err.endswith("data.missed.jsonl\n")
    status = dict(line.split(None, 1) for line in table.call("status", "a").out.splitlines())
    assert status["rows"] == "3: 1 success, 1 short, 1 failed"
    assert status["rounds"] == "1 in 1, 2 in 2"
    assert (status["prompts"], status["answered"], status["state"]) == ("5", "3", "finished")
    line = "a  finished     3 rows: 1 success, 1 short, 1 failed; prompts: 3 of 5 answered, 2 failed  scripted\n"
    assert table.call("runs", "list").out == line
    for words in (("status", "a", "--json"), ("runs", "list", "--json")):
        told = json.loads(table.call(*words).out)
        stories = (told[0] if isinstance(told, list) else told)["stories"]
        counts = {"rows": 3, "success": 1, "short": 1, "failed": 1, "unfinished": 0}
        assert stories == counts | {"rounds": {"1": 1, "2": 2}}


def test_a_row_under_way_is_told_as_far_as_it_is(table: Desk) -> None:
    """Ctrl-C in a second round: the run says how to go on, its row is told as open, and a resume ends it."""
    table.write("rows.jsonl", jsonl(ROWS[:2]))
    table.write("script.toml", SCRIPT.replace('match = "short"', 'match = "short:"\nfirst_token = 3600.0', 1) + SHORT)
    words = table.line("run", *WORDS, "--run-id", "a", "--json", "--grace", "0")
    with subprocess.Popen(
        words, cwd=table.folder, env=table.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "say.2.1: stage say, round 2" not in table.call("explain", "a", "short").out:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 4
    assert json.loads(out)["stories"] == {"success": 1}
    assert "rows         2: 1 success, 1 to go" in table.call("status", "a").out
    told = table.call("explain", "a", "short").out
    assert "short: goes on after 2 rounds" in told
    assert "say.2.1: stage say, round 2, sample 1; not answered yet" in told
    table.write("script.toml", SCRIPT)
    assert table.call("resume", "a", "-q").code == 2  # the script is the model, and it changed


SHORT = '[[rule]]\nmatch = "short"\nanswer = "word"\n'


def test_an_unknown_row_is_refused_with_an_id_that_there_is(table: Desk) -> None:
    """`explain` says what ids look like."""
    table.call("run", *WORDS, "--run-id", "a", "-q")
    ended = table.call("explain", "a", "row-1")

    assert (ended.code, ended.out) == (2, "")
    assert (
        ended.err == "tokenmill: run a has no request 'row-1'; ids, such as 'good', are in its input and its answers\n"
    )


def test_a_prompt_of_a_story_is_explained_with_its_row(table: Desk) -> None:
    """The id of a later prompt tells of that prompt first, and of the whole row after it."""
    table.call("run", *WORDS, "--run-id", "a", "-q")
    told = table.call("explain", "a", "short/say.2.1").out.splitlines()

    assert told[0].startswith("short/say.2.1: row ")
    assert "born during the run; answered with" in told[0]
    assert "short: short after 2 rounds" in told


def test_hostile_text_in_stories_stays_text(table: Desk) -> None:
    """Ids, rows, answers and reasons that would steer a terminal are escaped in all that shows a story."""
    evil = "\x1b[2J\u202e evil"
    table.write(
        "rows.jsonl", jsonl([{"custom_id": "\u202eid", "text": f"short {evil}"}, {"text": f"{{{{ {evil} }}}}"}])
    )
    table.write("script.toml", SCRIPT.replace('"word"', '"\\u001b[31m\\u202e"'))
    code, shown = on_terminal(table, "run", *WORDS, "--run-id", "a", "--dry-run", columns=80)
    assert code == 0
    table.call("run", *WORDS, "--run-id", "a", "-q")
    for words in (("explain", "a", "\u202eid"), ("explain", "a", "row-2"), ("status", "a"), ("runs", "list")):
        shown += table.call(*words).out
    text = OWN_SEQUENCES.sub("", shown).replace("\n", "")
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_twenty_columns_are_enough(table: Desk) -> None:
    """On the narrowest terminal a run with a recipe ends as on any other."""
    require("linux")
    code, shown = on_terminal(table, "run", *WORDS, "--run-id", "a", columns=20)

    assert code == 3
    assert "Certificate" in shown
    assert "rows by outcome: 1 failed, 1 short, 1 success" in shown
