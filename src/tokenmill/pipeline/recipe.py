"""What a data set is made from: stages, each with a prompt, a parser, checks and targets. Plain data, no behaviour.

A recipe is written as TOML or with these structs; `tokenmill.pipeline.read` says what is wrong with one.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

#: What a prompt may use besides the fields of its row.
VARIABLES = ("round", "rounds", "sample", "missing", "kept", "rejected", "reasons", "item")

Kind = Literal["text", "sections", "json", "lines", "verdict"]


class Parser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an answer becomes items.

    `text`: the whole answer is one item. `lines`: each line, or each entry of a list, is one. `sections`: text under
    labels, up to an empty line; `labels` names for each role the labels whose text is an item of it. `json`: one JSON
    object or list that fits `schema`; `labels` names for each role the keys that hold its text, as a string or a list
    of them. `verdict`: a number from `low` to `high`, with the reason for it.
    """

    kind: Kind = "text"
    labels: dict[str, tuple[str, ...]] = {}
    schema: dict[str, Any] | None = None
    low: float = 1.0
    high: float = 10.0


class Check(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One validator of a stage: which (`use`), what its score is called (`name`, by default the same), for which roles
    (none named: all), and its own options.

    An item must pass every check of its role. One that only measures passes always, and leaves it to a `rule`.
    """

    use: str
    name: str = ""
    roles: tuple[str, ...] = ()
    options: dict[str, Any] = {}

    @property
    def called(self) -> str:
        return self.name or self.use


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of prompt and what becomes of its answers.

    `of`: the stage whose accepted items this one is asked about, each by itself; None: it is asked about the input row.
    `judges`: its verdict, at least `at_least`, decides whether the item it is asked about is accepted. `refine` is the
    prompt of all rounds after the first. `n`: samples in each round. `rounds` None: as the recipe says.
    `reference`: a template of what validators compare items with; by default the text of the item asked about, or
    what the recipe says. `target`: how many items of each role are wanted; roles that aren't named want one. `keep`:
    whether more than that are kept.
    """

    name: str
    prompt: str
    refine: str | None = None
    of: str | None = None
    judges: bool = False
    at_least: float | None = None
    n: int = 1
    rounds: int | None = None
    system: str | None = None
    sampling: dict[str, Any] = {}
    parse: Parser = Parser()
    reference: str | None = None
    checks: tuple[Check, ...] = ()
    target: dict[str, int] = {}
    keep: Literal["target", "all"] = "target"

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that its items can have."""
        return tuple(self.parse.labels) or (self.name,)

    @property
    def targets(self) -> dict[str, int]:
        """How many items of each role are wanted."""
        return {role: self.target.get(role, 1) for role in self.roles}


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole pipeline. `sampling` holds the defaults of its stages; `rounds` is the most rounds that a stage has.

    `reference`: a template of what validators compare items with. `embedding`: the node that turns texts into vectors.
    `input`: the field in which templates find the text of a row that has no such field: a line of a plain list, the
    answer of a dialog, or what the user names.
    """

    name: str
    about: str = ""
    rounds: int = 3
    reference: str | None = None
    sampling: dict[str, Any] = {}
    embedding: str | None = None
    input: str | None = None
    stages: tuple[Stage, ...] = ()

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def about_rows(self) -> tuple[Stage, ...]:
        """The stages that are asked about the input row, in order."""
        return tuple(stage for stage in self.stages if stage.of is None)

    def follow(self, name: str, *, judges: bool) -> tuple[Stage, ...]:
        """The stages that are asked about items of this one."""
        return tuple(stage for stage in self.stages if stage.of == name and stage.judges == judges)

    def rounds_of(self, stage: Stage) -> int:
        return self.rounds if stage.rounds is None else stage.rounds
