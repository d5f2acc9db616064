"""Whether a recipe goes with the model and the rows of a run: what can be known before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from msgspec.structs import replace

from tokenmill.cluster import EngineFacts
from tokenmill.driver.options import Options
from tokenmill.engine import Engine
from tokenmill.errors import InputFaults, TokenmillError
from tokenmill.pipeline.examine import fields_of
from tokenmill.pipeline.recipe import Recipe
from tokenmill.request import Message, Request
from tokenmill.workload import Reader, scan
from tokenmill.workload.faults import shown
from tokenmill.workload.spec import STDIN

COMPLETIONS = "completions"


def check_system(recipe: Recipe, endpoint: str, engine: Engine, facts: EngineFacts) -> None:
    """Raises `InputFaults` if a stage has a system message and its model takes none.

    A stage that comes later would else fail for every row, after the first ones were paid for.
    """
    faults = []
    for stage in recipe.stages:
        if stage.system is None:
            continue
        if endpoint == COMPLETIONS:
            faults.append(f"stage {stage.name!r}, system: completions have none; write it into the prompt")
        elif facts.counts_exactly and (why := refusal(engine, stage.name, stage.system)):
            faults.append(f"stage {stage.name!r}, system: {why}")
    if faults:
        raise InputFaults(f"recipe {recipe.name}", faults)


def refusal(engine: Engine, name: str, system: str | None = None) -> str:
    """Why a model takes no messages; empty if it does. Its own files must be at hand to say so: it counts exactly."""
    told = (Message("system", system),) if system is not None else ()
    try:
        engine.count(Request(row=0, custom_id=name, messages=(*told, Message("user", "Hello."))))
    except TokenmillError as error:
        return str(error)
    return ""


def refuse_unknown(options: Options, folder: Path, rows: Iterable[object] | None) -> None:
    """Reads an input at fault again, and raises `InputFaults` for variables of a recipe that none of its rows has.

    Each row of it was refused for them, and one line is clearer than a hundred thousand.
    """
    recipe = options.pipeline
    if recipe is None or options.workload.source == STDIN or not (rows is None or isinstance(rows, Sequence)):
        return
    again = folder / "again"
    again.mkdir(exist_ok=True)
    spec = replace(options.asked, template="-", bad_rows="fail")
    scanned = scan(spec, again, rows=rows)
    places = [(entry.offset, entry.length, entry.line) for entry in scanned if entry.fault is None]
    wanted, seen = fields_of(recipe), set[str]()
    assert scanned.input is not None
    with Reader(spec, scanned.input) as reader:
        for place in places:
            seen |= reader.fields(*place).keys()
            if wanted.keys() <= seen:
                return
    if places:
        raise unknown(recipe, {name: place for name, place in wanted.items() if name not in seen}, seen)


def unknown(recipe: Recipe, wanted: dict[str, str], seen: set[str]) -> InputFaults:
    """The error for variables, with the places that use them, of which the rows have none."""
    return InputFaults(f"recipe {recipe.name}", [_unknown(recipe, *each, seen) for each in sorted(wanted.items())])


def _unknown(recipe: Recipe, name: str, place: str, seen: set[str]) -> str:
    fault = f"{place}: uses {name!r}, which no row has; they have {shown(', '.join(sorted(seen)))}"
    if name == recipe.input:
        return f"{fault}; say which field holds it with --prompt-column"
    near = get_close_matches(name, sorted(seen), n=1)
    return f"{fault}; {f'did you mean {near[0]!r}? Correct' if near else 'correct'} the name, or add the field"
