"""The story of an input row: what it asks next, what it accepts, and how it ends."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.recipes import beside, chained, play, said, simple, texts, verdict
from tokenmill.pipeline import Ask, Heard, Judged, Parser, Recipe, Stage, Told, tell


def test_a_story_begins_with_every_sample_of_its_first_round() -> None:
    """Before anything was heard, all samples of the first round are asked for."""
    told = tell(simple(n=3), {})

    assert [ask.key for ask in told.asks] == ["say.1.1", "say.1.2", "say.1.3"]
    assert told.outcome is None


def test_a_round_is_decided_when_all_its_prompts_were_judged() -> None:
    """One of two answers isn't enough to go on, though it already holds all that is wanted."""
    told = tell(simple(n=2), {"say.1.2": said("a", "b")})

    assert [ask.key for ask in told.asks] == ["say.1.1"]
    assert told.items == ()


def test_items_accumulate_over_rounds() -> None:
    """What passed in an early round counts in a later one, and only what is missing is asked for."""
    first = tell(simple(), {"say.1.1": said("one", "bad two")})
    (ask,) = first.asks
    told = tell(simple(), {"say.1.1": said("one", "bad two"), "say.2.1": said("three")})

    assert ask.variables["missing"] == {"say": 1}
    assert ask.variables["kept"] == [{"role": "say", "text": "one"}]
    assert ask.variables["reasons"] == ["bad two is bad."]
    assert (told.outcome, told.rounds, texts(told)) == ("success", 2, ["one", "three"])
    assert told.reasons == ()


def test_a_row_that_cannot_succeed_ends_with_its_best_attempt_and_reasons() -> None:
    """After the last round the best of what was rejected is marked, and the reasons say what was missing."""
    poor = Heard(items=(Judged(number=1, role="say", text="poor", passed=False, merit=0.2, reasons=("Poor.",)),))
    near = Heard(items=(Judged(number=1, role="say", text="near", passed=False, merit=0.8, reasons=("Near.",)),))
    told = tell(simple(target=1, rounds=3), {"say.1.1": poor, "say.2.1": near, "say.3.1": poor})

    assert told.outcome == "short"
    assert texts(told, "best") == ["near"]
    assert told.reasons == ("say: 1 more say wanted after 3 rounds.", "Poor.")


def test_more_than_wanted_is_spare_unless_all_are_kept() -> None:
    """Items beyond the target are labelled spare; with keep = all they are accepted."""
    heard = {"say.1.1": said("a", "b", "c")}

    assert texts(tell(simple(), heard)) == ["a", "b"]
    assert texts(tell(simple(), heard), "spare") == ["c"]
    assert texts(tell(simple(keep="all"), heard)) == ["a", "b", "c"]


def test_success_means_that_every_target_is_met() -> None:
    """One role that is missing makes the story short, however many there are of the other."""
    stage = Stage(name="say", prompt="x", target={"yes": 1, "no": 1}, parse=_labels())
    recipe = Recipe(name="two", rounds=1, stages=(stage,))

    short = tell(recipe, {"say.1.1": said("a", "b", role="yes")})
    both = Heard(items=(*said("a", role="yes").items, Judged(number=2, role="no", text="c")))
    met = tell(recipe, {"say.1.1": both})

    assert (short.outcome, met.outcome) == ("short", "success")


def test_nothing_answered_is_a_failure() -> None:
    """A row whose prompts all failed has failed; it isn't merely short."""
    failed = Heard(is_answered=False, reason="crash: it died.")
    told = tell(simple(rounds=2), {"say.1.1": failed, "say.2.1": failed})

    assert told.outcome == "failed"
    assert "crash: it died." in told.reasons


def test_what_cannot_be_judged_fails_the_row() -> None:
    """A validator that raised ends its stage with its name, and nothing more is asked there."""
    told = tell(simple(), {"say.1.1": Heard(broken="validator 'x' raised ValueError: no")})

    assert (told.outcome, told.asks) == ("failed", ())
    assert told.reasons == ("validator 'x' raised ValueError: no",)


def test_a_stage_that_breaks_leaves_the_others_alone() -> None:
    """What is broken in one stage ends that stage; the row fails when the others have ended, and keeps their items."""
    recipe = Recipe(name="two", rounds=2, stages=(Stage(name="a", prompt="x"), Stage(name="b", prompt="y")))
    broken = Heard(broken="validator 'x' raised ValueError: no")

    waiting = tell(recipe, {"a.1.1": broken})
    told = tell(recipe, {"a.1.1": broken, "b.1.1": said("good", role="b")})

    assert ([ask.key for ask in waiting.asks], waiting.outcome) == (["b.1.1"], None)
    assert (told.outcome, told.rounds, texts(told)) == ("failed", 1, ["good"])
    assert told.reasons == (broken.broken,)
    assert tell(recipe, {"b.1.1": said("good", role="b"), "a.1.1": broken}) == told


def test_an_item_whose_judge_breaks_is_refused_and_not_refined() -> None:
    """Its stage goes on with the items that were judged, and asks for no more."""
    heard = {
        "ask.1.1": said("p", "q", role="ask"),
        "ask.1.1#1/judge.1.1": Heard(broken="validator 'x' raised."),
        "ask.1.1#2/judge.1.1": verdict(8),
    }
    told = tell(chained(), heard)

    assert [ask.key for ask in told.asks] == ["ask.1.1#2/reply.1.1"]
    assert [(each.label, each.reasons) for each in told.items if each.stage == "ask"] == [
        ("best", ("judge gave no verdict: validator 'x' raised.",)),
        ("accepted", ()),
    ]
    told = tell(chained(), heard | {"ask.1.1#2/reply.1.1": said("r", role="reply")})
    assert (told.outcome, texts(told), told.reasons) == ("failed", ["", "q", "r"], ("validator 'x' raised.",))


def test_a_judge_decides_before_an_item_is_accepted() -> None:
    """Items that passed wait for the judge; what it refuses is rejected with its reason, and refined."""
    heard = {"ask.1.1": said("p", "q", role="ask")}
    waiting = tell(chained(), heard)
    heard |= {"ask.1.1#1/judge.1.1": verdict(8), "ask.1.1#2/judge.1.1": verdict(3, "dull")}
    told = tell(chained(), heard)

    assert [ask.key for ask in waiting.asks] == ["ask.1.1#1/judge.1.1", "ask.1.1#2/judge.1.1"]
    assert [ask.key for ask in told.asks] == ["ask.1.1#1/reply.1.1", "ask.2.1"]
    assert told.asks[1].variables["reasons"] == ["judge gave 3, wanted 5: dull"]
    assert told.asks[0].variables["item"] == {"role": "ask", "text": "p"}


def test_a_stage_that_follows_is_part_of_success() -> None:
    """A story whose questions are all accepted is short if one of them gets no answer that passes."""

    def world(ask: Ask) -> Heard:
        if ask.stage == "judge":
            return verdict(9)
        if ask.stage == "ask":
            return said("p", "q", role="ask")
        return said("bad" if ask.about == "ask.1.1#2" else "good", role="reply")

    told = play(chained(), world)

    assert told.outcome == "short"
    assert told.reasons[0] == "reply for ask.1.1#2: 1 more reply wanted after 2 rounds."


SHARE = st.floats(0, 1)


def _world(seed: int, quality: float) -> object:
    """Answers that depend on the prompt alone: bad items, empty answers, prompts that failed, answers that broke."""

    def heard(ask: Ask) -> Heard:
        draw = random.Random(f"{seed}:{ask.key}")
        if draw.random() < 0.05:
            return Heard(is_answered=False, reason=f"{ask.key} failed.")
        if draw.random() < 0.05:
            return Heard(broken=f"{ask.key} broke.")
        if ask.stage == "judge":
            return verdict(10 * draw.random()) if draw.random() < 0.8 else Heard(reason="No score.")
        count = draw.randrange(4)
        return said(*(("" if draw.random() < quality else "bad ") + str(each) for each in range(count)), role=ask.stage)

    return heard


RECIPES = st.one_of(
    st.builds(simple, st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.sampled_from(["target", "all"])),
    st.builds(chained),
    st.builds(beside, st.integers(1, 3)),
)


@given(RECIPES, st.integers(0, 1 << 30), SHARE, st.integers(0, 1 << 30))
@settings(max_examples=150, deadline=None)
def test_the_order_of_answers_changes_nothing(recipe: Recipe, seed: int, quality: float, order: int) -> None:
    """However answers overtake each other, the story ends the same, with the same items."""
    shuffle = random.Random(order)

    def some(asks: list[Ask]) -> list[Ask]:
        return shuffle.sample(asks, shuffle.randint(1, len(asks)))

    world = _world(seed, quality)
    calm = play(recipe, world)  # type: ignore[arg-type]
    assert play(recipe, world, some) == calm  # type: ignore[arg-type]


@given(RECIPES, st.integers(0, 1 << 30), SHARE)
@settings(max_examples=150, deadline=None)
def test_a_story_keeps_its_word(recipe: Recipe, seed: int, quality: float) -> None:
    """What was accepted stays accepted, nothing is asked twice, targets aren't exceeded, success means all are met."""
    heard: dict[str, Heard] = {}
    asked: set[str] = set()
    world = _world(seed, quality)
    told = tell(recipe, heard)
    accepted: set[str] = set()
    while told.asks:
        keys = {ask.key for ask in told.asks}
        assert len(keys) == len(told.asks)
        asked |= keys
        ask = told.asks[0]
        heard[ask.key] = world(ask)  # type: ignore[operator]
        told = tell(recipe, heard)
        now = {each.key for each in told.items if each.label == "accepted"}
        assert accepted <= now
        accepted = now
    assert asked == set(heard)
    _check_end(recipe, told)


def _check_end(recipe: Recipe, told: Told) -> None:
    assert told.outcome is not None
    assert told.rounds <= max(recipe.rounds_of(stage) for stage in recipe.stages)
    for stage in recipe.about_rows():
        for role, wanted in stage.targets.items():
            count = sum(1 for each in told.items if each.label == "accepted" and each.item.role == role)
            assert count <= wanted or stage.keep == "all"
            assert count >= wanted or told.outcome != "success"
    assert (told.outcome == "success") == (not told.reasons)


def _labels() -> Parser:
    return Parser(kind="sections", labels={"yes": ("Yes",), "no": ("No",)})
