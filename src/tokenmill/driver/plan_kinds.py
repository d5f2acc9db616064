"""What a simulated fleet is made of: nodes of which figures are stored, that are stated, or that a layout makes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from math import ceil
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.driver.options import Settings
from tokenmill.driver.plan_gpus import MOST_PLAYED, Asked, longest_of, nodes_of_layout, place, with_pace
from tokenmill.driver.plan_run import Player, Work, find_known
from tokenmill.errors import UsageError
from tokenmill.plan.layout import layouts
from tokenmill.schedule.simulate import SimNode, SimRow


class Kinds(Struct, frozen=True, kw_only=True):
    """These nodes in turn, `a_host` of them on each host. `source` says where they are from."""

    nodes: tuple[SimNode, ...]
    source: str
    a_host: int = 1


def kinds_of_paces(paces: Sequence[float], settings: Settings) -> Kinds:
    """Nodes whose requests don't slow each other, up to their slots."""
    slots = settings.slots or 1
    each = f"{slots} requests at a time" if slots > 1 else "one request at a time"
    listed = ", ".join(f"{pace:g}" for pace in paces)
    return Kinds(
        nodes=tuple(SimNode(slots=slots, speed=pace) for pace in paces),
        source=f"{each} at {listed} tokens/s each, stated",
    )


def kinds_of_nodes(settings: Settings, runs: Path, work: Work) -> Kinds:
    """Nodes as the stored figures say of the named ones."""
    settings = replace(settings, strategy=settings.routing)
    usable = {each.node.name: each for each in find_known(settings, runs) if each.speed is not None}
    player = Player(work, usable, settings, seed=0)
    sources = "; ".join(f"{name}: {each.source}" for name, each in usable.items())
    return Kinds(nodes=tuple(player.node(name) for name in usable), source=f"like {sources}")


def kinds_of_gpus(asked: Asked, work: Work, rows_a_host: float, settings: Settings) -> Kinds:
    """The copies of the quickest layout on the devices of one host, which answers so many rows."""
    work = _repeated(work, ceil(rows_a_host))
    asked = with_pace(asked, work)
    tokens = longest_of(asked.shape, work)
    found, refused = layouts(asked.shape, asked.dtype, asked.groups, tokens, asked.tp)
    if not found:
        raise UsageError(f"{asked.shape.name} doesn't fit the devices of a host; {'; '.join(refused)}")
    placed = [(place(asked, layout, tokens, work, settings, seed=0), layout) for layout in found]
    timed = [(each.makespan, layout) for each, layout in placed if each.makespan is not None]
    if not timed:
        raise UsageError(f"--hosts needs times, and they are {placed[0][0].note}")
    _, best = min(timed, key=lambda each: each[0])
    nodes = nodes_of_layout(asked, best, work, ceil(rows_a_host), settings)
    return Kinds(
        nodes=tuple(nodes),
        source=f"{asked.shape.name} as {best.name} on each host; {asked.paced_by}",
        a_host=len(nodes),
    )


def _repeated(work: Work, rows: int) -> Work:
    """The rows over and over, until there are as many as a host answers, or enough to tell layouts apart."""
    count = min(rows, MOST_PLAYED)
    found = tuple(
        SimRow(row=number, tokens=row.tokens, length=row.length, group=row.group)
        for number, row in enumerate(islice(cycle(work.rows), count))
    )
    return Work(found, round(work.prompt_tokens * count / len(work.rows)), work.longest)
