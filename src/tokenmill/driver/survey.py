"""The nodes of a run before anything is sent: what each says of itself, and whether they can work together."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.cluster import EngineFacts, Node
from tokenmill.driver.node_file import nodes_of
from tokenmill.driver.options import Options, Settings, make_engine, make_strategy
from tokenmill.engine import Engine
from tokenmill.errors import NodeUnreachable, UsageError


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
    if not settings.nodes:
        raise UsageError("no node to run on; name a --model or a --node")
    nodes: list[Surveyed] = []
    silent: list[NodeUnreachable] = []
    for node in nodes_of(settings):
        engine = make_engine(node, options, settings)
        facts = None
        try:
            facts = engine.survey()
        except NodeUnreachable as error:
            silent.append(error)
        nodes.append(Surveyed(node, engine, facts))
    if len(silent) == len(nodes):
        raise silent[0] if len(silent) == 1 else UsageError("no node answers: " + "; ".join(map(str, silent)))
    found = Survey(tuple(nodes))
    digests = {facts.digest for _, facts in found.known}
    if len(digests) > 1:
        raise UsageError(f"the nodes hold {len(digests)} different models; a run needs one model everywhere")
    return found
