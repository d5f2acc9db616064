"""Shows a plan: the sets of nodes as a table that folds where the terminal is narrow, then what it says and assumes."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from tokenmill.cli.screen import is_plain, printable, say
from tokenmill.driver.plan_run import NodeFigures, Plan
from tokenmill.plan.choices import Choice
from tokenmill.report.numbers import figure, seconds

#: Below this width each set is a paragraph.
NARROW = 60
#: Sets of more nodes are told by their number and the last one.
LISTED = 3


def show_plan(plan: Plan) -> None:
    """On stdout, as wide as the terminal."""
    width = shutil.get_terminal_size((80, 24)).columns
    for line in _lines(plan, width):
        say(line)


def _lines(plan: Plan, width: int) -> Iterable[str]:
    yield from wrapped(
        f"{plan.rows} rows, about {figure(plan.prompt_tokens)} prompt tokens and {figure(plan.output_tokens)} output "
        f"tokens, model {plan.model}, strategy {plan.strategy}",
        width,
    )
    rows = [_cells(choice) for choice in (*plan.alone, *plan.together)]
    yield from as_paragraphs(rows) if width < NARROW else as_table(rows, width)
    noted = [f"{each.node}: {each.note}" for each in plan.nodes if each.note]
    for sentence in (*plan.answers, *noted, *_alone(plan)):
        yield from wrapped(sentence, width)
    for title, said in (("figures", list(map(_figures, plan.nodes))), ("taken for granted", list(plan.assumes))):
        said = [each for each in said if each]
        if said:
            yield f"{title}:"
        for each in said:
            yield from wrapped(each, width, "  ")
    yield "nothing was sent"


def _alone(plan: Plan) -> Iterable[str]:
    """What is said where there is nothing to compare."""
    if not plan.answers:
        (best,) = sorted(plan.alone, key=lambda choice: choice.makespan)[:1]
        yield f"{best.nodes[0]} would take {seconds(best.makespan)}; there is no other node to add"


def _cells(choice: Choice) -> dict[str, str]:
    return {
        "nodes": _names(choice.nodes),
        "slots": str(choice.slots),
        "makespan": seconds(choice.makespan),
        "bound": seconds(choice.bound),
        "tokens/s": figure(choice.rate),
        "gain": "" if choice.gain is None else f"{100 * choice.gain:.0f} %",
    }


def _names(nodes: Sequence[str]) -> str:
    return " + ".join(nodes) if len(nodes) <= LISTED else f"these + {nodes[-1]} ({len(nodes)} nodes)"


def as_table(rows: Sequence[dict[str, str]], width: int) -> Iterable[str]:
    """A table whose first column folds where the terminal is narrow."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ASCII2 if is_plain() else box.SIMPLE, padding=(0, 1), pad_edge=False)
    for place, name in enumerate(rows[0]):
        is_name = place == 0
        table.add_column(name, overflow="fold", no_wrap=not is_name, justify="left" if is_name else "right")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row.values()))
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None, legacy_windows=False).print(table)
    yield from (line.rstrip() for line in screen.getvalue().splitlines() if line.strip())


def as_paragraphs(rows: Sequence[dict[str, str]]) -> Iterable[str]:
    """One for each row, headed by its first cell."""
    for row in rows:
        for place, (name, value) in enumerate(row.items()):
            if place == 0:
                yield printable(value)
            elif value:
                yield printable(f"  {name:10} {value}")


def _figures(node: NodeFigures) -> str:
    """What is known of a node, and since when; empty for one of which nothing is."""
    if node.alone is None or node.together is None:
        return ""
    parts = [
        f"{node.slots_in_words} slots",
        f"{figure(node.alone)} tok/s alone",
        f"{figure(node.together)} tok/s with all",
        f"first token {seconds(node.first_token)}" if node.first_token is not None else "first token n/a",
        f"reads {figure(node.reading)} tok/s" if node.reading is not None else "reading rate n/a",
    ]
    return f"{node.node}: {', '.join(parts)} ({node.source})"


def wrapped(text: str, width: int, indent: str = "") -> Iterable[str]:
    """A sentence, folded between words."""
    text = printable(text)
    yield from textwrap.wrap(
        text, max(20, width), initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False
    ) or [""]
