"""The story of an input row: a function of what was heard so far, and of nothing else.

`tell` is handed every answer that was judged and says what is to be asked next, what is accepted, and whether it has
ended. There is no other state: a run that goes on after a crash tells the same story from the same record.

A *unit* is one stage asked about one thing, the input row or an accepted item. It goes in rounds of `n` prompts. A
round is decided once all its prompts were judged, in the order of their samples, so it doesn't matter which answer came
first. Accepted items accumulate over the rounds; a unit ends when every target is met, or after its last round. An item
is known by the key of its prompt and its number there, as `say.2.1#3`, and a prompt about it by `say.2.1#3/check.1.1`.

A unit ends where something of it can't be judged or asked. Its row has failed then, but only once the other units have
ended as well: if they ended with it, what they made would depend on which answer came first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.pipeline.recipe import Recipe, Stage

Outcome = Literal["success", "short", "failed"]
#: `spare`: it passed, but no more of its role were wanted. `best`: it was rejected, and nothing better came.
Label = Literal["accepted", "spare", "rejected", "best"]

#: Reasons of one round that go into the next prompt.
MOST_REASONS = 12


class Judged(Struct, frozen=True, kw_only=True):
    """An item of an answer. `passed`: by its own checks; a stage that judges may still refuse it.

    `value` is the number of a verdict, `merit` the share of its checks that it passed. `reasons` say why it didn't
    pass, in sentences for the next prompt.
    """

    number: int
    role: str
    text: str
    data: dict[str, Any] = {}
    passed: bool = True
    value: float | None = None
    merit: float = 1.0
    reasons: tuple[str, ...] = ()


class Heard(Struct, frozen=True, kw_only=True):
    """A prompt that was answered and judged, or failed for good (`is_answered` false).

    `reason`: what is wrong with the answer as a whole; `broken`: what made it impossible to judge it at all, or to ask.
    """

    items: tuple[Judged, ...] = ()
    reason: str = ""
    is_answered: bool = True
    broken: str = ""


class Ask(Struct, frozen=True, kw_only=True):
    """A prompt that wants an answer; `variables` are what its template may use besides the row's fields.

    `about` is the key of the item it is asked about, empty for the input row, and `of` that item.
    """

    key: str
    stage: str
    about: str
    round: int
    sample: int
    variables: dict[str, Any]
    of: Judged | None = None


class Kept(Struct, frozen=True, kw_only=True):
    """An item with its place in the story and what became of it; `reasons` say why it was rejected."""

    key: str
    stage: str
    about: str
    round: int
    label: Label
    item: Judged
    reasons: tuple[str, ...] = ()


class Told(Struct, frozen=True, kw_only=True):
    """A story so far. `asks`: prompts without a judgement, in order. `outcome` is None while there are any.

    `success`: every target is met. `short`: some aren't. `failed`: nothing was answered, or something couldn't be
    judged or asked. `rounds`: the most that a stage took. `reasons`: why targets were missed, those of the last rounds.
    """

    asks: tuple[Ask, ...]
    items: tuple[Kept, ...]
    outcome: Outcome | None
    rounds: int
    reasons: tuple[str, ...]


def tell(recipe: Recipe, heard: Mapping[str, Heard]) -> Told:
    """The story of one input row, from what was heard of its prompts."""
    told = _Telling(recipe, heard)
    ended = [told.unit(stage, "", None) for stage in recipe.about_rows()]
    outcome: Outcome | None = None
    why = list(told.broken)
    if not told.asks:
        is_answered = any(each.is_answered for each in heard.values())
        is_met = all(each.is_met for each in ended)
        outcome = "failed" if told.broken or not is_answered else "success" if is_met else "short"
        why += [] if outcome == "success" else told.reasons
        why += [] if is_answered else told.failures
    return Told(
        asks=tuple(told.asks),
        items=tuple(told.items),
        outcome=outcome,
        rounds=told.rounds,
        reasons=tuple(dict.fromkeys(why)),
    )


def split(key: str) -> tuple[str, str, int, int]:
    """What a prompt is asked about, its stage, round and sample, by its key."""
    about, _, own = key.rpartition("/")
    stage, turn, sample = own.rsplit(".", 2)
    return about, stage, int(turn), int(sample)


def prompt_of(item: str) -> str:
    """The key of the prompt in whose answer an item was found, by the item's key."""
    return item.rpartition("#")[0]


def round_keys(recipe: Recipe, key: str) -> list[str]:
    """The keys of all prompts of the round that this prompt belongs to."""
    about, stage, turn, _ = split(key)
    return [key_of(about, stage, turn, sample) for sample in range(1, recipe.stage(stage).n + 1)]


def key_of(about: str, stage: str, turn: int, sample: int) -> str:
    return f"{about}{'/' if about else ''}{stage}.{turn}.{sample}"


class _Unit(Struct):
    """How one stage fared with one thing: whether it has ended, whether its targets are met, and what it said last."""

    has_ended: bool = False
    is_broken: bool = False
    is_met: bool = False
    last: Kept | None = None
    reasons: tuple[str, ...] = ()


class _Candidate(Struct):
    """An item of the round being decided, and the verdicts on it."""

    key: str
    item: Judged
    refusals: tuple[str, ...] = ()
    is_broken: bool = False

    @property
    def is_accepted(self) -> bool:
        return self.item.passed and not self.refusals

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.item.reasons if not self.item.passed else self.refusals


class _Telling:
    """Collects asks and items of one story while its units are told, each after what it depends on."""

    def __init__(self, recipe: Recipe, heard: Mapping[str, Heard]) -> None:
        self.recipe = recipe
        self.heard = heard
        self.asks: list[Ask] = []
        self.items: list[Kept] = []
        self.reasons: list[str] = []
        self.failures: list[str] = []
        self.broken: list[str] = []
        self.rounds = 0

    def unit(self, stage: Stage, about: str, of: Judged | None) -> _Unit:
        """Tells one unit, and those of the stages that follow its accepted items."""
        unit = _Unit()
        kept: list[Kept] = []
        rejected: tuple[Kept, ...] = ()
        followers: list[_Unit] = []
        rounds = self.recipe.rounds_of(stage)
        for turn in range(1, rounds + 1):
            self.rounds = max(self.rounds, turn)
            keys = [key_of(about, stage.name, turn, sample) for sample in range(1, stage.n + 1)]
            unheard = [key for key in keys if key not in self.heard]
            if unheard:
                variables = self._variables(stage, turn, kept, rejected, unit.reasons, of)
                self.asks += [self._ask(key, stage, variables, of) for key in unheard]
                return unit
            candidates = self._judged(stage, keys)
            if candidates is None:
                return unit
            decided = list(self._decide(stage, about, turn, candidates, kept))
            self.items += decided
            unit.last = next((each for each in decided if each.label == "accepted"), unit.last)
            fresh = [each for each in decided if each.label == "accepted"]
            kept += fresh
            followers += [
                self.unit(after, each.key, each.item)
                for each in fresh
                for after in self.recipe.follow(stage.name, judges=False)
            ]
            rejected = tuple(each for each in decided if each.label == "rejected")
            said = tuple(self.heard[key] for key in keys)
            self.failures += [each.reason for each in said if each.reason]
            broken = tuple(each.broken for each in said if each.broken)
            self.broken += broken
            unit.is_broken = bool(broken) or any(each.is_broken for each in candidates)
            unit.reasons = broken or _reasons(said, rejected)
            if unit.is_broken or not _missing(stage, kept):
                break
        unit.has_ended = True
        unit.is_met = not _missing(stage, kept) and all(each.is_met for each in followers)
        if not stage.judges and (missing := _missing(stage, kept)):
            if not unit.is_broken:
                self._miss(stage, about, rounds, missing, unit.reasons)
            self._mark_best(stage, about, missing)
        return unit

    def _miss(self, stage: Stage, about: str, rounds: int, missing: dict[str, int], reasons: tuple[str, ...]) -> None:
        """Says which targets a unit missed."""
        wanted = ", ".join(f"{count} more {role}" for role, count in missing.items())
        place = f"{stage.name} for {about}" if about else stage.name
        self.reasons += [f"{place}: {wanted} wanted after {rounds} rounds.", *reasons]

    def _mark_best(self, stage: Stage, about: str, missing: dict[str, int]) -> None:
        """Marks the best of what a unit had where it missed a target."""
        for role, count in missing.items():
            had = [
                (-each.item.merit, -each.round, index)
                for index, each in enumerate(self.items)
                if (each.stage, each.about, each.item.role, each.label) == (stage.name, about, role, "rejected")
            ]
            for *_, index in sorted(had)[:count]:
                self.items[index] = replace(self.items[index], label="best")

    def _judged(self, stage: Stage, keys: list[str]) -> list[_Candidate] | None:
        """The items of a round with the verdicts on them; None while a verdict is to come."""
        candidates = [_Candidate(f"{key}#{item.number}", item) for key in keys for item in self.heard[key].items]
        waits = False
        for judge in self.recipe.follow(stage.name, judges=True):
            for candidate in candidates:
                if candidate.item.passed:
                    verdict = self.unit(judge, candidate.key, candidate.item)
                    waits = waits or not verdict.has_ended
                    candidate.is_broken = candidate.is_broken or verdict.is_broken
                    candidate.refusals += _refusals(judge, verdict)
        return None if waits else candidates

    def _decide(
        self, stage: Stage, about: str, turn: int, candidates: list[_Candidate], kept: list[Kept]
    ) -> Iterator[Kept]:
        """What becomes of each item of a round, in order: the first that are wanted are accepted."""
        left = _missing(stage, kept)
        for each in candidates:
            label: Label = "rejected"
            if each.is_accepted:
                wanted = left.get(each.item.role, 0)
                label = "accepted" if wanted > 0 or stage.keep == "all" else "spare"
                left[each.item.role] = wanted - 1
            reasons = each.reasons if label == "rejected" else ()
            yield Kept(
                key=each.key, stage=stage.name, about=about, round=turn, label=label, item=each.item, reasons=reasons
            )

    def _ask(self, key: str, stage: Stage, variables: dict[str, Any], of: Judged | None) -> Ask:
        about, _, turn, sample = split(key)
        return Ask(
            key=key,
            stage=stage.name,
            about=about,
            round=turn,
            sample=sample,
            variables=variables | {"sample": sample},
            of=of,
        )

    def _variables(
        self,
        stage: Stage,
        turn: int,
        kept: list[Kept],
        rejected: tuple[Kept, ...],
        reasons: tuple[str, ...],
        of: Judged | None,
    ) -> dict[str, Any]:
        named: dict[str, Any] = {
            "round": turn,
            "rounds": self.recipe.rounds_of(stage),
            "missing": dict.fromkeys(stage.roles, 0) | _missing(stage, kept),
            "kept": [{"role": each.item.role, "text": each.item.text} for each in kept],
            "rejected": [
                {"role": each.item.role, "text": each.item.text, "reasons": list(each.reasons)} for each in rejected
            ],
            "reasons": list(reasons),
        }
        return named | ({"item": of.data | {"role": of.role, "text": of.text}} if of is not None else {})


def _missing(stage: Stage, kept: list[Kept]) -> dict[str, int]:
    """How many items of each role are still wanted; roles that want none are left out."""
    have: dict[str, int] = {}
    for each in kept:
        have[each.item.role] = have.get(each.item.role, 0) + 1
    counted = {role: wanted - have.get(role, 0) for role, wanted in stage.targets.items()}
    return {role: wanted for role, wanted in counted.items() if wanted > 0}


def _reasons(heard: tuple[Heard, ...], rejected: tuple[Kept, ...]) -> tuple[str, ...]:
    """What a round taught: of answers as a whole, then of their items, each once."""
    whole = [each.reason for each in heard if each.reason]
    single = [reason for each in rejected for reason in each.reasons]
    return tuple(dict.fromkeys((*whole, *single)))[:MOST_REASONS]


def _refusals(judge: Stage, verdict: _Unit) -> tuple[str, ...]:
    if not verdict.has_ended:
        return ()
    if verdict.last is None:
        return tuple(f"{judge.name} gave no verdict: {reason}" for reason in verdict.reasons[:1] or ("no answer",))
    item = verdict.last.item
    if judge.at_least is None or (item.value is not None and item.value >= judge.at_least):
        return ()
    said = f": {item.text}" if item.text else ""
    return (f"{judge.name} gave {item.value if item.value is not None else 0:g}, wanted {judge.at_least:g}{said}",)
