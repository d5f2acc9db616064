"""Flight instructions that ask for a paraphrase, of unequal lengths, each with its own longest answer.

Lengths decide what a batch is worth: a padded batch waits for its longest member, so requests of one length would make
it look as good as a continuous one. As in real work, short answers are somewhat more frequent than long ones.
"""

from __future__ import annotations

from random import Random

from tokenmill.request import Request, Sampling

SEED = 20
#: The shortest answer is about this part of the longest.
SHORTEST = 1 / 6
_MOST_CLAUSES = 4

_ASK = "Paraphrase this flight instruction and keep its meaning :"
_ACTS = ("fly to", "turn left at", "turn right at", "go around", "land behind", "climb over")
_MARKS = ("the red tower", "the bridge", "the old mill", "the parking lot", "the church", "the river bank")
_HOURS = ("one", "two", "three", "nine", "ten", "eleven")


def instructions(count: int, longest: int) -> list[Request]:
    """`count` greedy requests whose answers have at most `longest` tokens; the same ones every time."""
    source = Random(SEED)
    shortest = max(1, round(longest * SHORTEST))
    limits = [shortest + round((longest - shortest) * ((place + 1) / count) ** 1.5) for place in range(count)]
    source.shuffle(limits)
    return [
        Request(row=row, custom_id=f"flight-{row + 1}", prompt=_prompt(source), sampling=Sampling(max_tokens=limit))
        for row, limit in enumerate(limits)
    ]


def input_rows(count: int, field: str) -> list[dict[str, str]]:
    """The same instructions without the request to paraphrase them, as input rows of a recipe."""
    return [
        {"custom_id": each.custom_id, field: (each.prompt or "").removeprefix(_ASK).strip()}
        for each in instructions(count, 1)
    ]


def words() -> set[str]:
    """Every word that a prompt may have."""
    clauses = [_clause(act, mark, hour) for act in _ACTS for mark in _MARKS for hour in _HOURS]
    return set(" ".join([_ASK, *clauses, "then"]).split())


def _prompt(source: Random) -> str:
    clauses = [
        _clause(source.choice(_ACTS), source.choice(_MARKS), source.choice(_HOURS))
        for _ in range(source.randint(1, _MOST_CLAUSES))
    ]
    return f"{_ASK} {' then '.join(clauses)}"


def _clause(act: str, mark: str, hour: str) -> str:
    return f"{act} {mark} at your {hour} o clock"
