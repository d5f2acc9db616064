"""Whether nodes are faster together than the best of them alone, by what is known of the hardware they share.

Every node answers the same prompts alone, every pair together, and so do all that may share a device and all there are
if these are more than two. With a batch of B each node at work has B requests in flight, so nodes together have more in
flight than one. Where they may share a device, the first one alone is therefore also measured with as many as they have
together: only what is beyond that comes from the second node.

The baseline of the table is the first node alone, which is fixed before anything is measured. What is decided by is the
best node alone, in pairs of the same repeat. Which one that is comes from the same readings, which leans towards using
one node if anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Factor, Reading
from tokenmill.bench.colocation_findings import Compared, compared, findings_of
from tokenmill.bench.neighbours import PLACES, SAME_DEVICE, Neighbours, neighbours_of
from tokenmill.bench.numbers import numbers_in
from tokenmill.bench.side_by_side import requests_of, side_by_side
from tokenmill.bench.suite import FOUND
from tokenmill.bench.table import Row
from tokenmill.bench.untrained import SHAPES, make_model
from tokenmill.cluster import Node
from tokenmill.driver.node_file import nodes_of, nodes_path
from tokenmill.driver.options import Options, Settings, absolute, is_served, settled_node
from tokenmill.driver.survey import survey
from tokenmill.driver.verdicts import VERDICTS, keep, read_verdicts, stored_of
from tokenmill.errors import UsageError
from tokenmill.record.folder import runs_folder, versions
from tokenmill.request import Sampling
from tokenmill.workload import Spec

#: The model of the two nodes that are measured if none are named: large enough for both cores of a laptop.
SHAPE = "pair"
PROMPTS = "synthetic:rows=96,output=32,prompt=uniform(5,20),seed=4"
TOGETHER = " + "


class ColocationOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured, and where."""

    node: Annotated[tuple[str, ...], Meta(description="A node, as for run; give each. Default: two local ones.")] = ()
    model: Annotated[
        str, Meta(description="The name that servers know; without --node, the folder of two local nodes.")
    ] = ""
    batch: Annotated[str, Meta(description="Requests in flight for each node, separated by commas.")] = "1,8"
    source: Annotated[str, Meta(description="A file of prompts or a built-in set.")] = PROMPTS
    max_tokens: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Longest answer, in tokens.")] = None
    limit: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Take only the first N rows.")] = None
    threads: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Threads of each local node; default: all cores.")
    ] = None
    divide: Annotated[bool, Meta(description="Local nodes at work together share --threads out between them.")] = False
    nodes_file: Annotated[str, Meta(description="The inventory, if not the usual one.")] = ""
    runs_dir: Annotated[str, Meta(description="Where runs look for verdicts; default: where they are kept.")] = ""
    no_store: Annotated[bool, Meta(description="Keep no verdict for runs.")] = False
    found: Annotated[Neighbours, Meta(extra=FOUND)] = Neighbours()

    @property
    def spec(self) -> Spec:
        return Spec(source=self.source, limit=self.limit, sampling=Sampling(max_tokens=self.max_tokens))

    @property
    def settings(self) -> Settings:
        return Settings(
            nodes=self.node,
            nodes_file=self.nodes_file or None,
            model=self.model or None,
            threads=self.threads,
        )

    @property
    def batches(self) -> list[int]:
        return numbers_in("--batch", self.batch)


class Colocation:
    """The suite."""

    name = "colocation"
    unit = "node"
    varied = ""
    example = "--node http://10.0.0.5:11434 --node http://10.0.0.6:11434 --model llama3.2"
    options = ColocationOptions

    def settled(self, options: ColocationOptions, where: Path) -> ColocationOptions:
        """Asks the nodes what they are."""
        _ = options.batches
        if options.divide and options.threads is None:
            raise UsageError("--divide shares out the threads that --threads gives; name a number of them")
        options = replace(options, source=absolute(options.source))
        requests_of(options.spec)
        options = _with_nodes(options, where)
        nodes = nodes_of(options.settings)
        if len(nodes) < 2:
            raise UsageError("--node: one node has none to be measured with; name two, or a local one twice")
        if options.divide and not any(node.engine == "local" for node in nodes):
            raise UsageError("--divide is for local nodes, and none is named; leave it out")
        seen = survey(Options(workload=options.spec), options.settings)
        facts = {each.node.name: each.facts for each in seen.nodes}
        silent = [name for name, its in facts.items() if its is None]
        if silent:
            raise UsageError(f"node {silent[0]!r} doesn't answer; start it, or leave it out")
        found = neighbours_of(
            nodes,
            seen.first[1].digest,
            read_verdicts(Path(options.runs_dir)),
            threads=options.threads,
            versions={name: its.version for name, its in facts.items() if its is not None and its.version},
        )
        return replace(options, found=found)

    def prepare(self, options: ColocationOptions, folder: Path) -> None:
        """There is nothing to write: the nodes are there since the sweep began."""

    def cells(self, options: ColocationOptions) -> list[Cell]:
        return [cell for batch in options.batches for cell in _cells(options.found, batch)]

    def measure(self, options: ColocationOptions, cell: Cell, folder: Path) -> Reading:  # noqa: ARG002 - the protocol's
        names = str(cell.factors["nodes"]).split(TOGETHER)
        nodes: list[Node] = [node for node in nodes_of(options.settings) if node.name in names]
        threads = max(1, options.threads // len(nodes)) if options.divide and options.threads else options.threads
        settings = replace(options.settings, slots=int(cell.factors["in flight"]) // len(nodes), threads=threads)
        return side_by_side(cell, nodes, options.spec, settings)

    def findings(self, options: ColocationOptions, rows: Sequence[Row]) -> list[str]:
        return [said for each in _compared(options, rows) for said in findings_of(each, options.found)]

    def conclude(self, options: ColocationOptions, rows: Sequence[Row]) -> list[str]:
        """Keeps a verdict on each group that may share a device, if the interval decides."""
        if options.no_store:
            return []
        runs, new = Path(options.runs_dir), []
        for each in _compared(options, rows):
            group, verdict = options.found.group(each.nodes), each.verdict
            if group is not None and verdict is not None:
                stored = stored_of(replace(group, slots=each.batch), verdict, versions() | options.found.versions)
                new.append((each, stored))
        if not new:
            return []
        if options.divide:
            return ["no verdict is kept: runs give every local node the same threads, however many are at work"]
        try:
            keep(runs, [stored for _, stored in new])
        except (OSError, UsageError) as error:
            return [f"the verdict could not be kept: {error}; use --runs-dir"]
        return [f"verdict kept in {runs / VERDICTS} for runs with --slots {each.batch}: {each.use}" for each, _ in new]


SUITE = Colocation()


def _with_nodes(options: ColocationOptions, where: Path) -> ColocationOptions:
    """The same with nodes, files and folders that hold in any working folder."""
    runs = runs_folder(Path(options.runs_dir) if options.runs_dir else None).absolute()
    inventory = str(nodes_path(options.nodes_file).absolute()) if options.nodes_file else ""
    options = replace(options, runs_dir=str(runs), nodes_file=inventory)
    if options.node:
        if options.model and not any(map(is_served, options.node)):
            raise UsageError("--model names a model of a server, and no --node is one; leave it out")
        return replace(options, node=tuple(map(settled_node, options.node)))
    folder = options.model
    if not folder:
        random = (where / "models" / f"gpt2-{SHAPE}").absolute()
        make_model(random, SHAPES[SHAPE], ())
        folder = str(random)
    return replace(options, model="", node=(settled_node(f"local:{folder}"),) * 2)


def sets_of(found: Neighbours) -> list[tuple[int, ...]]:
    """Nodes that are measured together, those nearest to each other first; none if nothing was found yet."""
    every = tuple(range(len(found.names)))
    pairs = sorted(combinations(every, 2), key=lambda pair: PLACES.index(found.place_of(pair)))
    larger = [group.nodes for group in found.groups if len(group.nodes) > 2]
    return list(dict.fromkeys([*pairs, *larger, *([every] if len(every) > 2 else [])]))


def _cells(found: Neighbours, batch: int) -> Iterator[Cell]:
    group = f"batch {batch}"
    for number, name in enumerate(found.names):
        yield Cell(group=group, factors={"nodes": name, "place": "", "in flight": batch}, is_baseline=number == 0)
    sets = sets_of(found)
    for nodes in sets:
        names, many = TOGETHER.join(found.names[node] for node in nodes), len(nodes)
        factors: dict[str, Factor] = {"nodes": names, "place": found.place_of(nodes), "in flight": batch * many}
        yield Cell(group=group, factors=factors, workers=many)
    for first, many in dict.fromkeys((nodes[0], len(nodes)) for nodes in sets if found.place_of(nodes) == SAME_DEVICE):
        yield Cell(group=group, factors={"nodes": found.names[first], "place": "", "in flight": batch * many})


def _compared(options: ColocationOptions, rows: Sequence[Row]) -> Iterator[Compared]:
    """Every set of nodes with every batch, as far as it was measured."""
    found = options.found
    by_key = {row.cell.key: row for row in rows}
    for batch in options.batches:
        at = {
            (str(cell.factors["nodes"]), cell.factors["in flight"]): by_key[cell.key]
            for cell in _cells(found, batch)
            if cell.key in by_key
        }
        for nodes in sets_of(found):
            names = [found.names[node] for node in nodes]
            together = at.get((TOGETHER.join(names), batch * len(nodes)))
            alone = [at.get((name, batch)) for name in names]
            if together is not None and None not in alone:
                singles = [row for row in alone if row is not None]
                yield compared(batch, nodes, together, singles, at.get((names[0], batch * len(nodes))))
