"""Recipes are checked whole before anything is sent; every fault has its place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenmill.errors import InputFaults, TokenmillError, UsageError
from tokenmill.pipeline import Check, Recipe, Stage
from tokenmill.pipeline.read import SHIPPED, check, load, read, recipe

GOOD = """
name = "mine"
[[stage]]
name = "say"
prompt = "Say {{ text }}"
"""


def faults(text: str) -> list[str]:
    with pytest.raises(InputFaults) as caught:
        read(text, "mine.toml")
    return list(caught.value.faults)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_hold(name: str) -> None:
    """Every shipped recipe is found by its name and has no fault."""
    assert recipe(name, embedding="words").name == name


def test_a_recipe_that_compares_vectors_wants_to_know_who_makes_them() -> None:
    """Without an embedding model the contrastive recipe is refused, with what can be named."""
    with pytest.raises(InputFaults, match="--embedding"):
        recipe("contrastive")


def test_toml_and_python_say_the_same() -> None:
    """A recipe written in TOML equals the one made of structs."""
    made = Recipe(name="mine", stages=(Stage(name="say", prompt="Say {{ text }}"),))

    assert read(GOOD, "mine.toml") == made == check(made)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('of = "sya"', "stage 'say', of: there is no stage 'sya'; did you mean 'say'? known: say"),
        ('of = "say"', "stage 'say', of: the stages wait for each other: say of say; let one of them be about"),
        ('promt = "x"', "stage 'say': 'promt' is not known; did you mean 'prompt'? known: name"),
        ("n = 0", "stage 'say', n: 0 samples is out of range; give 1 to 1000"),
        ("n = 2\nsampling = { temperature = 1, seed = 3 }", "sampling: 2 samples with one seed are all the same"),
        ('[[stage.check]]\nuse = "landmark"', "check 'landmark': it compares items with a reference, and the"),
        ("n = 2", "stage 'say', n: 2 samples at temperature 0 are all the same; set a temperature"),
        ("rounds = 0", "stage 'say', rounds: 0 rounds is out of range; give 1 to 100"),
        ('refine = "{{ item.text }}"', "stage 'say', refine: uses item, but the stage is about the input row"),
        ('refine = "{{ oops"', "stage 'say', refine: template, line 1:"),
        ("keep = 'al'", "stage 'say': keep: \"al\" is not known; did you mean 'all'? known: all, target"),
        ("rounds = '3'", "stage 'say': rounds: must be a whole number, not \"3\""),
        ("judges = 1", "stage 'say': judges: must be true or false, not 1"),
        ("target = { say = 1.5 }", "stage 'say': target: an entry must be a whole number, not a number"),
        ("target = { say = 0 }", "stage 'say', target: nothing is wanted, so nothing would be kept; want one"),
        ("system = ' '", "stage 'say', system: is empty; write what the model is to be told, or leave it out"),
        ("system = 'of {{ text }}'", "stage 'say', system: is sent as it stands, with its braces; put what differs"),
        ("refine = '{{ missing.sy }}'", "refine: uses missing.sy, which isn't there; did you mean 'say'? known: say"),
        ("sampling = { max_tokns = 1 }", "stage 'say', sampling: 'max_tokns' is not known; did you mean 'max_tokens'?"),
        ("sampling = { heat = 1 }", "stage 'say', sampling: 'heat' is not known; known: max_tokens"),
        ("sampling = { top_p = 2 }", "stage 'say', sampling: top_p"),
        ("target = { yes = 1 }", "stage 'say', target: no item has role 'yes'; known: say"),
        ("judges = true", "stage 'say', judges: there is nothing to judge"),
        ("at_least = 3", "stage 'say', at_least: is for stages that judge"),
        ('[stage.parse]\nkind = "xml"', "stage 'say', parse: kind: \"xml\" is not known; known: json"),
        ('[stage.parse]\nkind = "sections"', "stage 'say', parse, labels: sections need labels"),
        ('[stage.parse]\nkind = "json"\nschema = { type = "objekt" }', "schema isn't a JSON schema: 'objekt'"),
        ('[stage.parse]\nkind = "json"\nschema = { type = "string" }', "schema: allows neither object nor array"),
        ('[stage.parse]\nkind = "verdict"\nhigh = inf', "stage, 1, parse, high: inf is no finite number; give one"),
        (f"refine = '{{{{ 1{'0' * 5000} }}}}'", "stage 'say', refine: template, line 1:"),
        (f"refine = '{'{% if a %}' * 200 + '{% endif %}' * 200}'", "stage 'say', refine: template, line"),
        (f"refine = '{{{{ {'1+' * 20_000}1 }}}}'", "stage 'say', refine: template, line 1:"),
        ("check = 3", "stage 'say', check: is no list; write each under [[stage.check]], in two brackets"),
        ("check = [3]", "stage 'say', check 1: must be a table, not 3"),
        ('[stage.check]\nuse = "length"', "stage 'say', check: is no list; write each under [[stage.check]]"),
        ('[[stage.check]]\nus = "length"', "stage 'say', check 1: 'us' is not known; did you mean 'use'? known: use,"),
        ('[[stage.check]]\nuse = "length"\nopts = {}', "check 'length': 'opts' is not known; did you mean 'options'?"),
        ('[[stage.check]]\nuse = "length"\nroles = "say"', "check 'length': roles: must be a list, not \"say\""),
        ('[[stage.check]]\nuse = "direction"\noptions = { at_least = 1.5 }', "at_least: 1.5 is out of range; give 0"),
        ('[[stage.check]]\nuse = "direction"\noptions = { at_least = nan }', "at_least: nan is out of range; give 0"),
        ('[[stage.check]]\nuse = "function"\noptions = { function = "no_such:f" }', "'no_such:f' can't be used: No"),
        ('[[stage.check]]\nuse = "function"\noptions = { function = "f" }', "no name of a function; give module:name"),
        ('[[stage.check]]\nuse = "rule"\noptions = { profile = "standart" }', "'standart'; did you mean 'standard'?"),
        ('[[stage.check]]\nuse = "lenght"', "there is no kind 'lenght'; did you mean 'length'?"),
        ('[[stage.check]]\nuse = "near_duplicate"\noptions = { threshold = 3.0 }', "3.0 is out of range; give more"),
        ('[[stage.check]]\nuse = "rule"\noptions = { rules = { say = "length > 1" } }', "the score 'length', which no"),
        ('[[stage.check]]\nuse = "length"\nroles = ["yes"]', "check 'length', roles: no item has role 'yes'"),
    ],
)  # fmt: skip
def test_each_fault_has_its_place_and_a_way_out(line: str, fault: str) -> None:
    """What is misspelt, out of range or contradicts itself is named with the stage and field where it stands."""
    found = faults(f"{GOOD}{line}\n")

    assert any(fault in each for each in found), found


def test_a_threshold_that_no_score_reaches_is_a_fault() -> None:
    """A rule compares a score with a number beyond its scale."""
    rule = 'options = { rules = { say = "direction > 1.7" } }'
    checks = f'reference = "{{{{ text }}}}"\n[[stage.check]]\nuse = "direction"\n[[stage.check]]\nuse = "rule"\n{rule}'
    (found,) = faults(f"{GOOD}{checks}\n")

    assert "threshold 1.7 for 'direction' is out of range; its scores go from 0 to 1" in found


def test_all_faults_are_told_together() -> None:
    """Faults of several stages, and of the top, come in one error."""
    found = faults(
        'name = "x"\nround = 3\n[[stage]]\nname = "a"\nprompt = 3\n[[stage]]\nname = "b"\n[[stage]]\nprompt = "c"\n'
    )

    assert found[3].startswith("at the top: 'round' is not known; did you mean 'rounds'? known: name, about, rounds,")
    assert found[:3] == [
        "stage 'a': prompt: must be a text in quotes, not 3",
        "stage 'b': 'prompt' is missing; add it",
        "stage 3: 'name' is missing; add it",
    ]


def test_stages_that_wait_for_each_other_are_named() -> None:
    """A circle of stages is told once, with all of its names."""
    stages = [f'[[stage]]\nname = "{name}"\nof = "{of}"\nprompt = "x"' for name, of in ("ab", "bc", "ca")]
    (found,) = faults('name = "x"\n' + "\n".join(stages))

    assert found.startswith("stage 'a', of: the stages wait for each other: a of b of c of a; ")


@pytest.mark.parametrize(
    "source", ["contrastiv", "missing.toml", ".", "x" * 5000, f"{'x' * 5000}.toml", "a\0.toml", ""]
)
def test_a_recipe_that_is_not_there_is_refused(source: str) -> None:
    """A name that is none and a file that can't be read are told apart from a bad recipe."""
    with pytest.raises(UsageError, match=r"shipped|can't be read"):
        load(source)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    """The parser's own words say where."""
    path = tmp_path / "x.toml"
    path.write_text("name = ", encoding="utf-8")

    with pytest.raises(InputFaults, match=r"not TOML: Invalid value \(at end of document\)"):
        load(str(path))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Editors of Windows put one before the text, and end lines in two characters."""
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())

    assert load(str(path)) == read(GOOD, "x")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty; write a name and a [[stage]]"),
        (b"# nothing yet\n", "is empty; write a name and a [[stage]]"),
        (b"name = 'x'\n[stage]\nname = 'say'\n", "write each under [[stage]], in two brackets"),
        (b"name = 'na\xefve'\n", "byte 11 (0xef) is not UTF-8; save it as UTF-8"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deep; make it flatter"),
        (b"rounds = " + b"9" * 5000, "not TOML that can be read: Exceeds the limit"),
        (b"#" * (1 << 20) + b"\n", "has more than 1,048,576 bytes, so it is none"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    """Empty, in another encoding, nested without end, or too large: one line says which, and what to do."""
    path = tmp_path / "x.toml"
    path.write_bytes(content)

    with pytest.raises(TokenmillError) as caught:
        load(str(path))

    assert str(path) in str(caught.value)
    assert fault in str(caught.value)


def test_faults_of_every_check_are_told() -> None:
    """A fault in one check doesn't hide those of the next."""
    found = faults(f'{GOOD}[[stage.check]]\nuse = 3\n[[stage.check]]\nuse = "length"\noption = 1\n')

    assert [each.partition(":")[0] for each in found] == ["stage 'say', check 1", "stage 'say', check 'length'"]


def test_more_stages_than_anyone_needs_are_refused() -> None:
    """A recipe that some program wrote without end is told by its number of stages alone."""
    stages = "".join(f'[[stage]]\nname = "s{number}"\nprompt = "{{{{ text }}}}"\n' for number in range(2000))

    assert faults(f'name = "x"\n{stages}') == ["it has 2000 stages, more than 50; make several recipes of it"]


@pytest.mark.parametrize(
    ("embedding", "fault"),
    [
        ("wrds", "embedding 'wrds': names no model; did you mean 'words'? write local:FOLDER"),
        ("local:", "embedding 'local:': names no model; write local:FOLDER"),
        ("", "embedding '': names no model; write local:FOLDER"),
    ],
)
def test_an_embedding_that_names_no_model_is_refused(embedding: str, fault: str) -> None:
    """What can't be the name of a model is a fault of the recipe, before anything is opened."""
    with pytest.raises(InputFaults) as caught:
        recipe("contrastive", embedding=embedding)

    assert fault in str(caught.value)


RULE = 'reference = "x"\n[[stage.check]]\nuse = "direction"\n[[stage.check]]\nuse = "rule"\noptions = {{ {} }}\n'


def test_a_role_without_a_rule_is_a_fault() -> None:
    """None of its items could ever pass, and that would show only after all rounds."""
    found = faults(GOOD + RULE.format('rules = { other = "direction > 0.5" }'))

    assert found == [
        "stage 'say', check 'rule': it has no rule for 'say', only for other; add one under rules, or name its roles "
        "with roles",
        "stage 'say', check 'rule': rules: no item has role 'other'; known: say",
    ]


def test_a_part_that_no_item_has_is_a_fault() -> None:
    """Items of texts and lines have a role and a text; those of JSON have whatever the answer gave them."""
    after = '[[stage]]\nname = "b"\nof = "say"\nprompt = "{{ item.txt }} {{ item[\'role\'] }}"\n'

    assert faults(GOOD + after) == [
        "stage 'b', prompt: uses item.txt, which isn't there; did you mean 'text'? known: role, text"
    ]
    assert read(f'{GOOD}[stage.parse]\nkind = "json"\n{after}', "x").stages[1].of == "say"


def test_a_name_that_a_template_gives_itself_is_its_own() -> None:
    """A loop may call what it goes through `item`, which is then no item asked about."""
    loop = "{% for item in rejected %}{{ item.reasons | join }}{% endfor %}"

    assert read(f"{GOOD}refine = '{loop}'\n", "x").stages[0].refine == loop


def test_a_recipe_made_in_python_is_read_like_one_in_toml() -> None:
    """Types are checked too: a struct of Python takes anything."""
    made = Recipe(name="mine", rounds="3", stages=(Stage(name="say", prompt=5, keep="al"),))  # type: ignore[arg-type]

    with pytest.raises(InputFaults) as caught:
        check(made)

    assert caught.value.faults == (
        "stage 'say': prompt: must be a text in quotes, not 5",
        "stage 'say': keep: \"al\" is not known; did you mean 'all'? known: all, target",
        'at the top: rounds: must be a whole number, not "3"',
    )


STAGE = {"name": "say", "prompt": "say", "checks": [{"use": "length", "options": {"max_words": 9}}]}


@pytest.mark.parametrize(
    ("stages", "fault"),
    [
        (None, "it has no stages; write each under [[stage]]"),
        (("say",), "stage 1: is no table; write [[stage]]"),
        ((STAGE | {"checks": [{"use": len}]},), "it holds what no recipe can: Encoding objects of type"),
        ((STAGE | {"check": 4, "checks": 4},), "stage 'say', check: is no list"),
    ],
)
def test_what_python_puts_where_stages_belong_is_told(stages: object, fault: str) -> None:
    """None is a traceback, and a function says how it is named."""
    with pytest.raises(InputFaults) as caught:
        check(Recipe(name="mine", stages=stages))  # type: ignore[arg-type]

    assert fault in caught.value.faults[0]


def test_dictionaries_do_for_structs() -> None:
    """They hold the same."""
    made = check(Recipe(name="mine", stages=[STAGE]))  # type: ignore[arg-type, list-item]

    assert made.stages[0].checks == (Check(use="length", options={"max_words": 9}),)
