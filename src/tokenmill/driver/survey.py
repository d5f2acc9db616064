"""The nodes of a run before anything is sent: what each says of itself, and whether they can work together."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from tokenmill.cluster import EngineFacts, Node
from tokenmill.driver.launching import check_divider, crew_of, seats_of
from tokenmill.driver.node_file import nodes_of
from tokenmill.driver.options import Options, Settings, make_engine, make_strategy
from tokenmill.engine import Engine
from tokenmill.errors import NodeUnreachable, UsageError
from tokenmill.launch.crew import Crew

#: Servers that are asked at the same time.
AT_ONCE = 32


class Surveyed(Struct, frozen=True):
    """A node with its engine; `facts` is None for a server that doesn't answer now and may later."""

    node: Node
    engine: Engine
    facts: EngineFacts | None


class Survey(Struct, frozen=True):
    """All nodes of a run, of which at least one has answered."""

    nodes: tuple[Surveyed, ...]

    @property
    def known(self) -> list[tuple[Engine, EngineFacts]]:
        return [(each.engine, each.facts) for each in self.nodes if each.facts is not None]

    @property
    def first(self) -> tuple[Engine, EngineFacts]:
        """The node that speaks for all: they hold one model."""
        return self.known[0]


def survey(options: Options, settings: Settings) -> Survey:
    """Asks every node. Raises `UsageError` for what can't work, and if not a single node can be reached."""
    make_strategy(settings, rows=1, seed=options.seed)
    nodes, engines = zip(*engines_of(options, settings, crew=crew_of(settings)), strict=True)
    with ThreadPoolExecutor(AT_ONCE, "tokenmill-survey") as pool:  # a server that is away takes seconds to say nothing
        said = list(pool.map(_facts, engines))
    silent = [each for each in said if isinstance(each, NodeUnreachable)]
    if len(silent) == len(nodes):
        raise silent[0] if len(silent) == 1 else UsageError("no node answers: " + "; ".join(map(str, silent)))
    found = tuple(
        Surveyed(node, engine, None if isinstance(facts, NodeUnreachable) else facts)
        for node, engine, facts in zip(nodes, engines, said, strict=True)
    )
    _check_one_model(found)
    check_divider(settings)
    return Survey(found)


def engines_of(
    options: Options, settings: Settings, longest: int = 0, crew: Crew | None = None
) -> list[tuple[Node, Engine]]:
    """Every node with an engine that was not opened yet; `longest` is about the longest prompt there, in tokens.

    With a crew the nodes are its seats.
    """
    if not settings.nodes:
        raise UsageError("no node to run on; name a --model or a --node")
    if crew is not None:
        return [
            (node, make_engine(node, options, settings, longest, crew.staffing(node.name)))
            for node in seats_of(settings, remote=crew.launcher.remote)
        ]
    return [(node, make_engine(node, options, settings, longest)) for node in nodes_of(settings)]


def _facts(engine: Engine) -> EngineFacts | NodeUnreachable:
    try:
        return engine.survey()
    except NodeUnreachable as error:
        return error


def _check_one_model(nodes: Iterable[Surveyed]) -> None:
    models: dict[str, tuple[str, str]] = {}
    for each in nodes:
        if each.facts is not None:
            models.setdefault(each.facts.digest, (each.node.name, each.facts.model))
    if len(models) > 1:
        listed = ", ".join(f"{model} on {name} ({digest[:19]})" for digest, (name, model) in models.items())
        raise UsageError(
            f"the nodes hold {len(models)} different models: {listed}; a run needs one model everywhere, so name nodes "
            "that hold the same"
        )
