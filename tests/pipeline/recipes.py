"""Recipes for the tests of pipelines, and a way to play their stories with answers that follow a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tokenmill.pipeline import Ask, Heard, Judged, Parser, Recipe, Stage, Told, tell

#: Says what was heard of a prompt.
World = Callable[[Ask], Heard]


def simple(rounds: int = 3, n: int = 1, target: int = 2, keep: str = "target") -> Recipe:
    """One stage that is asked about the row and wants `target` items of role `say`."""
    stage = Stage(name="say", prompt="{{ text }}", n=n, parse=Parser(kind="lines"), target={"say": target}, keep=keep)  # type: ignore[arg-type]
    return Recipe(name="simple", rounds=rounds, sampling={"temperature": 1.0}, stages=(stage,))


def chained() -> Recipe:
    """Questions about the row, a judge of each, and an answer to each that was accepted."""
    return Recipe(
        name="chained",
        rounds=2,
        stages=(
            Stage(name="ask", prompt="{{ text }}", parse=Parser(kind="lines"), target={"ask": 2}),
            Stage(name="judge", prompt="{{ item.text }}", of="ask", judges=True, at_least=5.0, parse=VERDICT),
            Stage(name="reply", prompt="{{ item.text }}", of="ask"),
        ),
    )


def beside(n: int = 2) -> Recipe:
    """Two stages that know nothing of each other, and one that is about the items of the second."""
    lines = Parser(kind="lines")
    return Recipe(
        name="beside",
        rounds=2,
        sampling={"temperature": 1.0},
        stages=(
            Stage(name="one", prompt="{{ text }}", parse=lines, n=n),
            Stage(name="two", prompt="{{ text }}", parse=lines, target={"two": 2}),
            Stage(name="more", prompt="{{ item.text }}", of="two", parse=lines),
        ),
    )


VERDICT = Parser(kind="verdict")


def said(*items: str, role: str = "say") -> Heard:
    """An answer with these items; one that begins with `bad` didn't pass."""
    return Heard(
        items=tuple(
            Judged(
                number=number,
                role=role,
                text=text,
                passed=not text.startswith("bad"),
                reasons=(f"{text} is bad.",) if text.startswith("bad") else (),
            )
            for number, text in enumerate(items, 1)
        )
    )


def verdict(value: float, why: str = "") -> Heard:
    return Heard(items=(Judged(number=1, role="judge", text=why, value=value),))


def play(recipe: Recipe, world: World, choose: Callable[[list[Ask]], Iterable[Ask]] = list) -> Told:
    """Answers what a story asks, in the order in which `choose` lets answers come, until it asks no more."""
    heard: dict[str, Heard] = {}
    told = tell(recipe, heard)
    while told.asks:
        for ask in choose(list(told.asks)):
            assert ask.key not in heard
            heard[ask.key] = world(ask)
        told = tell(recipe, heard)
    return told


def texts(told: Told, label: str = "accepted") -> list[str]:
    return [each.item.text for each in told.items if each.label == label]
