"""What is wrong with a recipe, each fault with its place and the way out. Nothing is sent before all of it is right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from msgspec import ValidationError, convert
from msgspec.structs import asdict

from tokenmill.errors import InputFaults, UsageError
from tokenmill.pipeline.json_value import SCHEMA
from tokenmill.pipeline.lexical import LEXICAL
from tokenmill.pipeline.mentions import mentioned
from tokenmill.pipeline.panel import panel
from tokenmill.pipeline.recipe import VARIABLES, Check, Parser, Recipe, Stage
from tokenmill.request import Sampling
from tokenmill.validate import kinds, validator
from tokenmill.validate.registry import kind_of
from tokenmill.validate.rule import RuleOptions
from tokenmill.workload.faults import RowFault
from tokenmill.workload.options import read_options
from tokenmill.workload.template import PromptTemplate

MOST_STAGES = 50
MOST_ROUNDS = 100
MOST_SAMPLES = 1000
#: How a template begins to speak of a row; a system message is none.
_BRACES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def examine(recipe: Recipe) -> Iterator[str]:
    """Every fault of a recipe."""
    if not recipe.stages:
        yield "it has no stages; add one"
    if len(recipe.stages) > MOST_STAGES:
        yield f"it has {len(recipe.stages)} stages, more than {MOST_STAGES}; make several recipes of it"
        return
    if not recipe.name.strip():
        yield "at the top, name: is empty; give it one, as the data card shows it"
    yield from _embedding(recipe)
    yield from _limits("at the top", recipe.rounds, "rounds", MOST_ROUNDS)
    yield from _sampling(recipe.sampling, "at the top, sampling")
    yield from _template(recipe.reference, "at the top, reference", is_about_item=False, is_prompt=False)
    yield from _order(recipe)
    for stage in recipe.stages:
        for fault in _stage(recipe, stage):
            yield f"stage {stage.name!r}, {fault}"


def _embedding(recipe: Recipe) -> Iterator[str]:
    """What can be said of the name of an embedding model without asking it."""
    named = recipe.embedding
    if named is None or named == LEXICAL or named.partition(":")[2]:
        return
    near = get_close_matches(named, [LEXICAL], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    yield f'embedding {named!r}: names no model; {hint}write local:FOLDER, http://HOST:PORT, or "{LEXICAL}"'


def fields_of(recipe: Recipe) -> dict[str, str]:
    """Every field of a row that some template uses, with the place where it does."""
    places: dict[str, str] = {}
    for place, text in _templates(recipe):
        for name in PromptTemplate(text).fields - {*VARIABLES, "row"}:
            places.setdefault(name, place)
    return places


def _templates(recipe: Recipe) -> Iterator[tuple[str, str]]:
    if recipe.reference is not None:
        yield "reference", recipe.reference
    for stage in recipe.stages:
        for name in ("prompt", "refine", "reference"):
            if (text := getattr(stage, name)) is not None:
                yield f"stage {stage.name!r}, {name}", text


def _order(recipe: Recipe) -> Iterator[str]:
    """Names that are taken or unfit, stages that aren't there, and stages that wait for themselves."""
    names = [stage.name for stage in recipe.stages]
    for stage in recipe.stages:
        if not _NAME.fullmatch(stage.name):
            yield f"stage {stage.name!r}: a name has letters, digits, '_' and '-', and begins with a letter; rename it"
        if stage.of is not None and stage.of not in names:
            near = get_close_matches(stage.of, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            yield f"stage {stage.name!r}, of: there is no stage {stage.of!r}; {hint}known: {', '.join(names)}"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"stage {name!r}: {names.count(name)} stages have this name; give each its own"
    before = {stage.name: stage.of for stage in recipe.stages}
    for circle in _circles(before):
        yield f"stage {circle[0]!r}, of: the stages wait for each other: {' of '.join((*circle, circle[0]))}; " + (
            "let one of them be about the input row, without of"
        )


def _circles(before: dict[str, str | None]) -> Iterator[list[str]]:
    told: set[str] = set()
    for start in before:
        path: list[str] = []
        name: str | None = start
        while name is not None and name in before and name not in path:
            path.append(name)
            name = before[name]
        if name in path and not told & set(path):
            circle = path[path.index(name) :]
            told |= set(circle)
            yield circle


def _stage(recipe: Recipe, stage: Stage) -> Iterator[str]:
    """The faults of one stage, each beginning with the name of the field."""
    is_about_item = stage.of is not None
    yield from _mentions(recipe, stage)
    yield from _system(stage)
    yield from _template(stage.prompt, "prompt", is_about_item=is_about_item)
    yield from _template(stage.refine, "refine", is_about_item=is_about_item)
    yield from _template(stage.reference, "reference", is_about_item=is_about_item, is_prompt=False)
    yield from _limits("n", stage.n, "samples", MOST_SAMPLES)
    if stage.rounds is not None:
        yield from _limits("rounds", stage.rounds, "rounds", MOST_ROUNDS)
    yield from _sampling(recipe.sampling | stage.sampling, "sampling")
    if stage.n > 1 and not (recipe.sampling | stage.sampling).get("temperature"):
        yield f"n: {stage.n} samples at temperature 0 are all the same; set a temperature in sampling"
    if stage.n > 1 and (recipe.sampling | stage.sampling).get("seed") is not None and "sample" not in stage.prompt:
        yield f"sampling: {stage.n} samples with one seed are all the same; leave the seed to --seed"
    yield from _parser(stage.parse)
    yield from _judge(recipe, stage)
    yield from _checks(recipe, stage)
    for role, count in stage.target.items():
        if role not in stage.roles:
            yield f"target: no item has role {role!r}; known: {', '.join(stage.roles)}"
        elif not 0 <= count <= 1000:
            yield f"target, {role}: {count} is out of range; give 0 to 1000"
    if stage.keep == "target" and not any(stage.targets.values()):
        yield 'target: nothing is wanted, so nothing would be kept; want one of some role, or set keep = "all"'


def _limits(place: str, value: int, what: str, most: int) -> Iterator[str]:
    if not 1 <= value <= most:
        yield f"{place}: {value} {what} is out of range; give 1 to {most}"


def _template(text: str | None, place: str, *, is_about_item: bool, is_prompt: bool = True) -> Iterator[str]:
    if text is None:
        return
    if not text.strip():
        yield f"{place}: is empty; write what is to be said"
        return
    try:
        fields = PromptTemplate(text).fields
    except UsageError as error:
        yield f"{place}: {error}"
        return
    if "item" in fields and not is_about_item:
        yield f"{place}: uses item, but the stage is about the input row; name a stage with of, or leave item out"
    for name in sorted((fields & {*VARIABLES}) - {"item"}) if not is_prompt else ():
        yield f"{place}: uses {name}, which only prompts have; use fields of the row"


def _mentions(recipe: Recipe, stage: Stage) -> Iterator[str]:
    """Parts of `item` and `missing` that are never there."""
    of = next((other for other in recipe.stages if other.name == stage.of), None)
    known = {"missing": set(stage.roles)}
    if of is not None and of.parse.kind != "json":
        known["item"] = {"role", "text", "label"} if of.parse.kind == "sections" else {"role", "text"}
    for place in ("prompt", "refine", "reference"):
        for variable, parts in known.items():
            for part in sorted(mentioned(getattr(stage, place) or "", variable) - parts):
                near = get_close_matches(part, parts, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                yield f"{place}: uses {variable}.{part}, which isn't there; {hint}known: {', '.join(sorted(parts))}"


def _system(stage: Stage) -> Iterator[str]:
    if stage.system is None:
        return
    if not stage.system.strip():
        yield "system: is empty; write what the model is to be told, or leave it out"
    elif _BRACES.search(stage.system):
        yield "system: is sent as it stands, with its braces; put what differs from row to row into the prompt"


def _sampling(given: dict[str, object], place: str) -> Iterator[str]:
    known = asdict(Sampling())
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            yield f"{place}: {name!r} is not known; {hint}known: {', '.join(known)}"
            continue
        try:
            read_options({name: value}, Sampling(), lenient=False)
        except RowFault as fault:
            yield f"{place}: {fault}"


def _parser(parser: Parser) -> Iterator[str]:
    if parser.kind == "sections" and not parser.labels:
        yield 'parse, labels: sections need labels; write labels = {role = ["Label"]}'
    if parser.kind not in ("sections", "json") and parser.labels:
        yield f"parse, labels: kind {parser.kind!r} has none; use sections or json, or leave them out"
    if parser.kind != "json" and parser.schema is not None:
        yield f"parse, schema: kind {parser.kind!r} has none; use json, or leave it out"
    if parser.schema is not None:
        try:
            validator(SCHEMA, {"schema": parser.schema})
        except InputFaults as error:
            yield from (f"parse: {fault}" for fault in error.faults)
        except UsageError as error:
            yield f"parse, schema: {error}"
        else:
            allowed = parser.schema.get("type", "object")
            if not {"object", "array"} & set([allowed] if isinstance(allowed, str) else allowed):
                yield "parse, schema: allows neither object nor array, and nothing else is read; ask for an object"
    if not parser.low < parser.high:
        yield f"parse, low: {parser.low:g} must be below high, {parser.high:g}"
    folded: dict[str, str] = {}
    for role, labels in parser.labels.items():
        if not labels:
            yield f"parse, labels, {role}: is empty; name at least one label"
        for label in labels:
            same = " ".join(re.findall(r"\w+", label.casefold().replace("_", " ")))
            if not same:
                yield f"parse, labels, {role}: {label!r} has no letters; use words"
            elif folded.setdefault(same, f"{role}/{label}") != f"{role}/{label}" or labels.count(label) > 1:
                yield f"parse, labels, {role}: {label!r} is there twice; give each its own"


def _judge(recipe: Recipe, stage: Stage) -> Iterator[str]:
    if not stage.judges:
        if stage.at_least is not None:
            yield "at_least: is for stages that judge; set judges = true, or leave it out"
        return
    if stage.of is None:
        yield "judges: there is nothing to judge; name the stage whose items it judges with of"
    if stage.parse.kind != "verdict":
        yield f'parse: a stage that judges reads verdicts, not {stage.parse.kind!r}; set kind = "verdict"'
    if stage.at_least is None:
        yield "at_least: is missing; say what verdict is good enough"
    elif not stage.parse.low <= stage.at_least <= stage.parse.high:
        yield (
            f"at_least: {stage.at_least:g} is out of range; verdicts are from {stage.parse.low:g} to "
            f"{stage.parse.high:g}"
        )
    if stage.n > 1:
        yield "n: a stage that judges is asked once; leave n out"
    for other in recipe.stages:
        if other.name == stage.of and stage.name in [check.called for check in other.checks]:
            yield (
                f"name: stage {other.name!r}, which it judges, has a check called {stage.name!r}, and an item has "
                "one score of each name; rename one of them"
            )
    if any(other.of == stage.name for other in recipe.stages):
        yield "judges: other stages are about its verdicts, which aren't items; let them be about what it judges"


def _checks(recipe: Recipe, stage: Stage) -> Iterator[str]:
    reference = stage.reference or stage.of or recipe.reference
    for check in stage.checks:
        if check.use in kinds() and kind_of(check.use).compares and not reference:
            yield (
                f"check {check.called!r}: it compares items with a reference, and the stage has none; write one, such "
                'as reference = "{{ text }}"'
            )
        for role in check.roles:
            if role not in stage.roles:
                yield f"check {check.called!r}, roles: no item has role {role!r}; known: {', '.join(stage.roles)}"
        if check.use in kinds() and kind_of(check.use).embeds and recipe.embedding is None:
            yield (
                f"check {check.called!r}: it compares vectors; name what makes them with --embedding, or at the top as "
                'embedding = "local:FOLDER"; "words" compares wording alone, without a model'
            )
        if check.use == "rule":
            yield from (f"check {check.called!r}: {fault}" for fault in _rules(stage, check))
    told: set[str] = set()
    for role in stage.roles:
        try:
            panel(stage, role, None)
        except InputFaults as error:
            told |= dict.fromkeys(error.faults).keys()
        except UsageError as error:
            told.add(str(error))
    yield from sorted(told)


def _rules(stage: Stage, check: Check) -> Iterator[str]:
    """Roles without a rule, whose items could never pass, and rules without a role."""
    try:
        options = convert(check.options, RuleOptions)
    except ValidationError:
        return  # said of the option itself
    for role in check.roles or stage.roles:
        if options.texts and role in stage.roles and role not in options.texts:
            known = ", ".join(options.texts)
            yield f"it has no rule for {role!r}, only for {known}; add one under rules, or name its roles with roles"
    for role in options.rules:
        if role not in stage.roles:
            yield f"rules: no item has role {role!r}; known: {', '.join(stage.roles)}"
