"""What a run would take on which of the nodes, from stored figures: the run's own strategy, played in virtual time.

Opens no socket and sends nothing. The rows are those of the input, as long as their words promise; the nodes are as
fast as the figures say. A long input is played in part, and the rest is taken to go at the pace of the last part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.driver.figures import FIGURES, read_figures
from tokenmill.driver.meaning import read_paces
from tokenmill.driver.node_file import load, nodes_of, nodes_path
from tokenmill.driver.options import MOST_IN_FLIGHT, SERVED, Options, Settings, make_strategy
from tokenmill.driver.plan_nodes import Known, known_nodes, sharing_of
from tokenmill.driver.stations import GPUS
from tokenmill.driver.verdicts import read_verdicts
from tokenmill.engine.http.prompt import estimate
from tokenmill.errors import UsageError
from tokenmill.plan.choices import Choice, Unit, answers, growing, with_gain
from tokenmill.report.facts import Pace
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import SimNode, SimRow, simulate
from tokenmill.workload import Reader, Spec, scan

#: Rows that are played; of a longer input this many and half as many, to see what the rest would add.
PLAYED = 2000


class Work(Struct, frozen=True):
    """The rows of an input, and their tokens: of prompts estimated, of answers predicted.

    `longest`: the tokens of the longest prompt and answer together.
    """

    rows: tuple[SimRow, ...]
    prompt_tokens: int
    longest: int = 0

    @property
    def output_tokens(self) -> int:
        return sum(row.tokens for row in self.rows)


class NodeFigures(Struct, frozen=True, kw_only=True):
    """The figures of one node and where they are from; None where none is stored, `note` then says why and what to do.

    `alone` and `together`: tokens per second of one request, and of as many as are best; `reading`: prompt tokens per
    second in the best of earlier runs. `slots_in_words` is `4+` where there may be more.
    """

    node: str
    slots: int | None = None
    slots_in_words: str = "n/a"
    alone: float | None = None
    together: float | None = None
    first_token: float | None = None
    reading: float | None = None
    context: int | None = None
    day: str = ""
    source: str = ""
    note: str = ""


class Plan(Struct, frozen=True, kw_only=True):
    """What was predicted; `alone` and `together` are the sets of nodes, `answers` what they say in words.

    `assumes` is what the prediction takes for granted.
    """

    rows: int
    prompt_tokens: int
    output_tokens: int
    model: str
    digest: str
    strategy: str
    alone: tuple[Choice, ...]
    together: tuple[Choice, ...]
    answers: tuple[str, ...]
    nodes: tuple[NodeFigures, ...]
    assumes: tuple[str, ...]


def plan_run(options: Options, settings: Settings, runs: Path) -> Plan:
    """Predicts a run on each of the nodes, and on sets of them that grow.

    Raises:
        UsageError: a name or an option is wrong, or nothing is stored of any node.
        InputFaults: the input is.
    """
    settings = replace(settings, strategy=settings.routing)
    make_strategy(settings, rows=1, seed=options.seed)
    known = find_known(settings, runs)
    usable = [each for each in known if each.speed is not None]
    group = sharing_of(known, read_verdicts(runs), settings.slots)
    with tempfile.TemporaryDirectory(prefix="tokenmill-") as folder:
        work = read_work(options.workload, Path(folder))
    player = Player(work, {each.node.name: each for each in usable}, settings, options.seed)
    alone = [player.play((Unit(nodes=(each.node.name,), rate=0.0),)) for each in usable]
    grown: list[Choice] = []
    for units in growing(group.units):
        same = next((each for each in alone if [each.nodes] == [unit.nodes for unit in units]), None)
        grown.append(same or with_gain(player.play(units), [*alone, *grown]))
    figure = usable[0].figure
    return Plan(
        rows=len(work.rows),
        prompt_tokens=work.prompt_tokens,
        output_tokens=work.output_tokens,
        model=figure.model if figure is not None else "",
        digest=figure.digest if figure is not None else "",
        strategy=settings.routing,
        alone=tuple(alone),
        together=tuple(grown[1:]),
        answers=tuple(answers(alone, grown)),
        nodes=tuple(_figures(each, group.notes.get(each.node.name, "")) for each in known),
        assumes=tuple(_assumed(work, usable, group.assumed)),
    )


def find_known(settings: Settings, runs: Path) -> list[Known]:
    """What is stored of each of the nodes; of one at least there is a speed.

    Raises:
        UsageError: a name is wrong, or nothing is stored of any node.
    """
    nodes = nodes_of(settings)
    has_names = any(":" not in text for text in settings.nodes)
    kept_names = {entry.name for entry in load(nodes_path(settings.nodes_file))} if has_names else set()
    written = [node.name if node.name in kept_names else f"{node.engine}:{node.target}" for node in nodes]
    known = known_nodes(nodes, written, settings.model, read_figures(runs), read_paces(runs))
    if all(each.speed is None for each in known):
        _refuse(known, written, runs)
    return known


def read_work(spec: Spec, folder: Path) -> Work:
    """The rows of an input that would be sent; what has no offsets is spooled into `folder`."""
    scanned = scan(spec, folder)
    entries = [entry for entry in scanned if entry.fault is None]
    assert scanned.input is not None
    prompts, longest, rows = 0, 0, []
    with Reader(spec, scanned.input) as reader:
        for entry in entries:
            place = (entry.row, entry.custom_id, entry.offset, entry.length, entry.line)
            prompt = estimate(reader.request(*place))
            tokens = max(1, round(entry.predicted))
            prompts, longest = prompts + prompt, max(longest, prompt + tokens)
            rows.append(SimRow(row=entry.row, tokens=tokens, length=entry.predicted, group=entry.group))
    if not rows:
        raise UsageError(f"{spec.source}: holds no row that could be sent; correct its rows")
    return Work(tuple(rows), prompts, longest)


def _refuse(known: Sequence[Known], written: Sequence[str], runs: Path) -> None:
    reasons = "; ".join(f"{each.node.name}: {each.why}" for each in known)
    if all(each.figure is None and each.why.startswith("no stored") for each in known):
        reasons = f"run 'tokenmill nodes check {' '.join(written)}' first"
    raise UsageError(f"{runs / FIGURES} has no figures to plan with; {reasons}")


class Player:
    """Plays the rows on sets of nodes."""

    def __init__(self, work: Work, known: Mapping[str, Known], settings: Settings, seed: int) -> None:
        self._work = work
        self._known = known
        self._settings = settings
        self._seed = seed

    def play(self, units: Sequence[Unit]) -> Choice:
        names = tuple(name for unit in units for name in unit.nodes)
        pace = dict.fromkeys(names, 1.0)
        for unit in units:
            if unit.after:
                pace |= dict.fromkeys((*unit.after, *unit.nodes), unit.pace)
        nodes = [self.node(name, pace[name]) for name in names]
        bound, binding = self._bound(pace)
        makespan = max(bound, self._makespan(names, nodes))
        return Choice(
            nodes=names,
            slots=sum(min(node.slots, node.curve.slots or node.slots) for node in nodes),
            makespan=makespan,
            bound=bound,
            binding=binding,
            rate=self._work.output_tokens / makespan,
        )

    def node(self, name: str, pace: float = 1.0) -> SimNode:
        """A node as it says it is, and with the curve that it really has."""
        known = self._known[name]
        speed = known.speed
        assert speed is not None
        is_served = known.node.engine in SERVED
        asked = MOST_IN_FLIGHT if self._settings.routing == "auto" else server_slots() if is_served else speed.slots
        device, placement = known.node.device or "", known.figure.sighting.placement if known.figure else ""
        return SimNode(
            slots=self._settings.slots or (asked if is_served else speed.slots),
            speed=speed.alone,
            overhead=max(0.0, (speed.first_token or 0.0) - 1 / speed.alone, self._reading(known)),
            curve=Curve(slots=speed.slots, serial=speed.serial, coherence=speed.coherence, slowness=1 / pace),
            priority=known.node.priority,
            gpu=device.startswith(GPUS) or placement.startswith(GPUS),
        )

    def _reading(self, known: Known) -> float:
        """Seconds to read a prompt of mean length at the best rate of earlier runs, 0 if there was none."""
        mean = self._work.prompt_tokens / len(self._work.rows)
        return mean / known.pace.prefill if known.pace.prefill > 0 else 0.0

    def _makespan(self, names: tuple[str, ...], nodes: Sequence[SimNode]) -> float:
        rows = self._work.rows
        if len(rows) <= PLAYED:
            return self._time(names, nodes, rows)
        many, few = sample_of(rows, PLAYED), sample_of(rows, PLAYED // 2)
        long, short = self._time(names, nodes, many), self._time(names, nodes, few)
        tokens, less = (sum(row.tokens for row in part) for part in (many, few))
        each = (long - short) / (tokens - less) if tokens > less else 0.0
        return long + each * (self._work.output_tokens - tokens)

    def _time(self, names: tuple[str, ...], nodes: Sequence[SimNode], rows: Sequence[SimRow]) -> float:
        strategy, _ = make_strategy(self._settings, len(rows), self._seed, names=names)
        played = simulate(strategy, rows, nodes, legs=2 if self._settings.hedge else 1)
        assert not played.unfinished
        return played.makespan

    def _bound(self, pace: Mapping[str, float]) -> tuple[float, str]:
        """The lower bound of a certificate, with predicted tokens: a device counts once, at the best it ever showed."""
        work = self._work
        streams = []
        writing: dict[tuple[str, str], float] = {}
        stored: dict[tuple[str, str], Pace] = {}
        for name, part in pace.items():
            known = self._known[name]
            speed, figure = known.speed, known.figure
            assert speed is not None
            assert figure is not None
            streams += [speed.alone, *([1 / known.pace.single_stream] if known.pace.single_stream > 0 else [])]
            device = (figure.host, figure.device)
            writing[device] = writing.get(device, 0.0) + part * speed.best
            stored[device] = known.pace
        parts = {
            "longest": max(row.tokens for row in work.rows) / max(streams),
            "decode": work.output_tokens / sum(max(rate, stored[device].decode) for device, rate in writing.items()),
        }
        if all(each.prefill > 0 for each in stored.values()):
            parts["prefill"] = work.prompt_tokens / sum(each.prefill for each in stored.values())
        binding = max(parts, key=parts.__getitem__)
        return parts[binding], binding


def server_slots() -> int:
    """Requests in flight on a server whose slots nobody finds out."""
    slots: int = import_module("tokenmill.engine.http.engine").SLOTS
    return slots


def sample_of(rows: Sequence[SimRow], count: int) -> list[SimRow]:
    """So many rows with lengths spread as in all of them, in the order of the file."""
    ordered = sorted(rows, key=lambda row: (row.tokens, row.row))
    return sorted((ordered[(2 * i + 1) * len(rows) // (2 * count)] for i in range(count)), key=lambda row: row.row)


def _figures(known: Known, note: str) -> NodeFigures:
    speed, figure = known.speed, known.figure
    if speed is None or figure is None:
        return NodeFigures(node=known.node.name, day=figure.day if figure else "", note=known.why)
    return NodeFigures(
        node=known.node.name,
        slots=speed.slots,
        slots_in_words=f"{speed.slots}" if figure.is_full else f"{speed.slots}+",
        alone=speed.alone,
        together=speed.best,
        first_token=speed.first_token,
        reading=known.pace.prefill or None,
        context=figure.context,
        day=figure.day,
        source=known.source,
        note=note,
    )


def _assumed(work: Work, usable: Sequence[Known], assumed: Sequence[str]) -> list[str]:
    tokens = [row.tokens for row in work.rows]
    said = [
        f"answers are as long as the prompts' words promise, {min(tokens)} to {max(tokens)} tokens; one that promises "
        "nothing counts 256, or its limit if that is less or up to 1,024. What the model really writes may differ",
        "models are loaded, nothing fails, nothing else uses the nodes, and the nodes are as they were when measured",
    ]
    unread = [each.node.name for each in usable if each.pace.prefill <= 0]
    if unread:
        said.append(
            f"reading a prompt takes no longer than that of a short one on {', '.join(unread)}: the rate is n/a until "
            "a run has measured it"
        )
    more = [each.node.name for each in usable if each.figure is not None and not each.figure.is_full]
    if more:
        said.append(
            f"no more slots than were measured on {', '.join(more)}; 'tokenmill nodes check --most-slots N' "
            "asks for more"
        )
    if assumed:
        said.append(f"{', '.join(assumed)}: hardware of their own, as nothing says otherwise")
    if len(work.rows) > PLAYED:
        said.append(f"{PLAYED} of the {len(work.rows)} rows stand for all: the others go at the pace of the last half")
    return said
