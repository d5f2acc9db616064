"""Recipes are checked whole before anything is sent; every fault has its place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenmill.errors import InputFaults, UsageError
from tokenmill.pipeline import Recipe, Stage
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
        ("n = 2", "stage 'say', n: 2 samples at temperature 0 are all the same; set a temperature"),
        ("rounds = 0", "stage 'say', rounds: 0 rounds is out of range; give 1 to 100"),
        ('refine = "{{ item.text }}"', "stage 'say', refine: uses item, but the stage is about the input row"),
        ('refine = "{{ oops"', "stage 'say', refine: template, line 1:"),
        ("sampling = { heat = 1 }", "stage 'say', sampling: 'heat' is not known; known: max_tokens"),
        ("sampling = { top_p = 2 }", "stage 'say', sampling: top_p"),
        ("target = { yes = 1 }", "stage 'say', target: no item has role 'yes'; known: say"),
        ("judges = true", "stage 'say', judges: there is nothing to judge"),
        ("at_least = 3", "stage 'say', at_least: is for stages that judge"),
        ('[stage.parse]\nkind = "xml"', "stage 'say', parse: kind: Invalid enum value 'xml'"),
        ('[stage.parse]\nkind = "sections"', "stage 'say', parse, labels: sections need labels"),
        ('[stage.parse]\nkind = "json"\nschema = { type = "objekt" }', "schema isn't a JSON schema: 'objekt'"),
        ('[[stage.check]]\nuse = "lenght"', "there is no kind 'lenght'; did you mean 'length'?"),
        ('[[stage.check]]\nuse = "near_duplicate"\noptions = { threshold = 3.0 }', "3.0: Expected `float` <= 1"),
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
    checks = f'[[stage.check]]\nuse = "direction"\n[[stage.check]]\nuse = "rule"\n{rule}'
    (found,) = faults(f"{GOOD}{checks}\n")

    assert "threshold 1.7 for 'direction' is out of range; its scores go from 0 to 1" in found


def test_all_faults_are_told_together() -> None:
    """Faults of several stages, and of the top, come in one error."""
    found = faults(
        'name = "x"\nround = 3\n[[stage]]\nname = "a"\nprompt = 3\n[[stage]]\nname = "b"\n[[stage]]\nprompt = "c"\n'
    )

    assert found == [
        "stage 'a': prompt: Expected `str`, got `int`",
        "stage 'b': 'prompt' is missing; add it",
        "stage 3: 'name' is missing; add it",
        "at the top: 'round' is not known; did you mean 'rounds'? known: name, about, rounds, reference, sampling, "
        "embedding, stage",
    ]


def test_stages_that_wait_for_each_other_are_named() -> None:
    """A circle of stages is told once, with all of its names."""
    stages = [f'[[stage]]\nname = "{name}"\nof = "{of}"\nprompt = "x"' for name, of in ("ab", "bc", "ca")]
    (found,) = faults('name = "x"\n' + "\n".join(stages))

    assert found.startswith("stage 'a', of: the stages wait for each other: a of b of c of a; ")


@pytest.mark.parametrize("source", ["contrastiv", "missing.toml", "."])
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
