"""Finds out which nodes that were just asked are worth using together, and keeps the verdicts beside the runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.cluster import Node
from tokenmill.driver.ask_nodes import Found, Inquiry, Report, engine_of
from tokenmill.driver.measure_together import measure
from tokenmill.driver.options import SERVED
from tokenmill.driver.sharing import groups_of, titled
from tokenmill.driver.verdicts import Group, keep, stored_of
from tokenmill.engine import Engine
from tokenmill.errors import EngineError, TokenmillError
from tokenmill.plan.ramp import MOST
from tokenmill.record.folder import versions
from tokenmill.schedule.trial import Verdict


class Shared(Struct, frozen=True, kw_only=True):
    """What was found of nodes that may share a device: tokens a second, and an interval as part of `alone`.

    `use` are those to use, none if nothing was measured; `words` is all of it for people, or why there is nothing.
    """

    nodes: tuple[str, ...]
    words: str
    use: tuple[str, ...] = ()
    together: float | None = None
    alone: float | None = None
    low: float | None = None
    high: float | None = None


def check_together(
    nodes: Sequence[Node], report: Report, inquiry: Inquiry, runs: Path, watch: Callable[[str], None] = lambda _: None
) -> list[Shared]:
    """Measures each group of nodes that hold one model; `watch` is told of each beforehand."""
    found = {each.node: each for each in report.nodes if each.digest and not each.fault}
    shared = []
    for digest in dict.fromkeys(each.digest for each in found.values()):
        alike = [node for node in nodes if node.name in found and found[node.name].digest == digest]
        for group in groups_of(alike, digest):
            members = [alike[number] for number in group.nodes]
            watch(", ".join(node.name for node in members))
            shared.append(_check(group, members, [found[node.name] for node in members], inquiry, runs))
    return shared


def _check(group: Group, nodes: Sequence[Node], found: Sequence[Found], inquiry: Inquiry, runs: Path) -> Shared:
    names = tuple(node.name for node in nodes)
    title = titled(names)
    try:
        verdict = asyncio.run(_measured(nodes, found, inquiry))
    except TimeoutError:
        patience = inquiry.patience * len(nodes)
        return Shared(nodes=names, words=f"{title}: not measured in {patience:g} s; raise --timeout if they are slow")
    except (EngineError, TokenmillError) as error:
        return Shared(nodes=names, words=f"{title}: not measured: {error}")
    here = replace(group, nodes=tuple(range(len(nodes))), slots=_asked(found, inquiry))
    its = {each.node: each.version for each in found if each.version}
    words = f"{title}: {verdict}"
    try:
        keep(runs, [stored_of(here, verdict, versions() | its)])
    except OSError as error:  # what was measured is still worth telling
        words += f" (not kept: {error}; use --runs-dir)"
    return Shared(
        nodes=names,
        words=words,
        use=tuple(names[number] for number in verdict.nodes),
        together=verdict.together,
        alone=verdict.alone,
        low=verdict.low,
        high=verdict.high,
    )


def _asked(found: Sequence[Found], inquiry: Inquiry) -> int | None:
    """The number of requests that each node was held to, if the user held it to fewer than a check asks for by itself.

    A verdict with all the slots that were found holds for runs that find them out themselves.
    """
    is_held = inquiry.most < MOST and any(
        its.slots == inquiry.most and its.slots_in_words.endswith("+") for its in found
    )
    return inquiry.most if is_held else None


async def _measured(nodes: Iterable[Node], found: Sequence[Found], inquiry: Inquiry) -> Verdict:
    engines: list[Engine] = []
    try:
        async with asyncio.timeout(inquiry.patience * len(found)):
            for node, its in zip(nodes, found, strict=True):
                known = replace(node, engine=its.engine, target=its.address) if node.engine in SERVED else node
                engines.append(engine_of(known, inquiry))
                await engines[-1].open()
            return await measure(engines, [its.slots or 1 for its in found])
    finally:
        for engine in engines:
            await engine.close()
