"""Prompts of a story become rows as the workload knows them, so the row's own options hold for every one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict, replace

from tokenmill.errors import UsageError
from tokenmill.pipeline.recipe import Recipe, Stage
from tokenmill.pipeline.story import Ask, Judged, tell
from tokenmill.request import Sampling
from tokenmill.workload.layout import Layout, Row
from tokenmill.workload.spec import Spec
from tokenmill.workload.template import PromptTemplate


def opening_spec(recipe: Recipe, spec: Spec) -> Spec:
    """The spec by which an input row is its story's first prompt.

    Raises `UsageError` for options that say what to ask: a recipe does that itself.
    """
    for name in ("template", "system"):
        if getattr(spec, name) is not None:
            raise UsageError(f"recipe {recipe.name!r} has its own prompts; leave --{name} out")
    if spec.prompt_column is not None and recipe.input is None:
        raise UsageError(
            f"recipe {recipe.name!r} doesn't say in which field it takes the text of a row; leave --prompt-column out, "
            'or write input = "NAME" at its top'
        )
    ask = opening(recipe)
    asked = _spec(recipe, spec, recipe.stage(ask.stage), ask)
    return replace(asked, text_as=recipe.input, text_from=spec.prompt_column)


def opening(recipe: Recipe) -> Ask:
    """The prompt that an input row itself stands for: the first of its story."""
    return tell(recipe, {}).asks[0]


class Asking:
    """Writes the prompts of one recipe for rows of one input."""

    def __init__(self, recipe: Recipe, spec: Spec, kind: str) -> None:
        self._recipe = recipe
        self._spec = spec
        self._kind = kind if kind in ("table", "episodes") else "jsonl"
        self._layouts: dict[tuple[str, bool], Layout] = {}
        self._references: dict[str, PromptTemplate] = {}

    def row(self, ask: Ask, fields: Mapping[str, object]) -> Row:
        """The row that asks this; raises `RowFault` if the template doesn't go with the row."""
        stage = self._recipe.stage(ask.stage)
        return self._layout(stage, is_refined=ask.round > 1).row({**fields, **_sendable(ask.variables)}, None)

    def reference(self, stage: Stage, fields: Mapping[str, object], of: Judged | None) -> str:
        """What items of a stage are compared with; raises `RowFault`."""
        text = stage.reference or (None if of is not None else self._recipe.reference)
        if text is None:
            return of.text if of is not None else ""
        if text not in self._references:
            self._references[text] = PromptTemplate(text)
        about = {"item": of.data | {"role": of.role, "text": of.text}} if of is not None else {}
        return self._references[text].render({**fields, **about})

    def _layout(self, stage: Stage, *, is_refined: bool) -> Layout:
        key = (stage.name, is_refined and stage.refine is not None)
        if key not in self._layouts:
            spec = _spec(self._recipe, self._spec, stage)
            text = stage.refine if key[1] else stage.prompt
            self._layouts[key] = Layout(replace(spec, template=text, format=None), self._kind)
        return self._layouts[key]


def _spec(recipe: Recipe, spec: Spec, stage: Stage, ask: Ask | None = None) -> Spec:
    """The spec of a stage's prompts: with its own sampling and system message.

    With `ask`, what a template may use besides the row's fields is set inside the template, for an input row is read
    without knowing of stories.
    """
    given = asdict(spec.sampling) | recipe.sampling | stage.sampling
    if isinstance(given.get("stop"), list):
        given["stop"] = tuple(given["stop"])
    set_there = "".join(f"{{% set {name} = {value!r} %}}" for name, value in (ask.variables if ask else {}).items())
    return replace(
        spec,
        template=f"{set_there}{stage.prompt}",
        prompt_column=None,
        system=stage.system,
        sampling=Sampling(**given),
    )


def _sendable(value: Any) -> Any:
    """What answers said, as prompts may hold it: a NUL in one would be a fault of the row that isn't its own."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if isinstance(value, dict):
        return {name: _sendable(each) for name, each in value.items()}
    return [_sendable(each) for each in value] if isinstance(value, list) else value


def texts_of(fields: Mapping[str, object]) -> dict[str, str]:
    """The fields of a row that are texts, as validators take them."""
    return {name: value for name, value in fields.items() if isinstance(value, str)}
