"""What a run is made from, in two parts: options that shape the answers, and settings that don't.

A run is resumed only with equal options; settings may change from one session to the next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tokenmill.cluster import EngineOptions, Node
from tokenmill.driver.acceptance import Acceptance
from tokenmill.engine import Engine
from tokenmill.errors import UsageError
from tokenmill.launch.spec import On
from tokenmill.pipeline.recipe import Recipe
from tokenmill.schedule import RetryPolicy, Strategy, make
from tokenmill.schedule.budget import Budget, Budgeted, Spent
from tokenmill.schedule.fleet import Fleet
from tokenmill.schedule.health import NodePolicy
from tokenmill.schedule.hedge import HedgePolicy
from tokenmill.schedule.rate import RateLimits
from tokenmill.schedule.trial import Verdict
from tokenmill.workload import Spec

#: The most requests that strategy `auto` tries to have in flight on a server, if the user doesn't say.
MOST_IN_FLIGHT = 64
#: Kinds of nodes that hold models under names.
SERVED = ("http", "https", "ollama", "openai")


class Options(Struct, frozen=True, kw_only=True):
    """Everything that shapes the answers, but for the model, which the manifest pins by its digest.

    `dtype` and `context` None are the engine's own choice for the model. `pipeline`: the recipe by which rows are
    generated from, validated and refined; None: each row is asked once.
    """

    workload: Spec
    dtype: str | None = None
    context: int | None = None
    acceptance: Acceptance = Acceptance()
    seed: int = 0
    pipeline: Recipe | None = None

    @property
    def asked(self) -> Spec:
        """The workload as its rows are asked: by themselves, or by the first prompt of a recipe."""
        if self.pipeline is None:
            return self.workload
        from tokenmill.pipeline.asking import opening_spec  # loads Jinja2, which most runs never need

        return opening_spec(self.pipeline, self.workload)


class Settings(Struct, frozen=True, kw_only=True):
    """How the run is carried out, and where. `model` is what nodes that hold several are asked for.

    `nodes` are KIND:TARGET, or names in the inventory `nodes_file`. `grace`: seconds for what is in flight after a
    stop. `kv_memory`: bytes. `rpm`, `tpm`: requests and tokens a minute that each node allows. `hedge`: whether
    stragglers get a second attempt. `budget_*`, `price_*`: see `Budget`. `health_interval`: seconds between probes of
    a node that is away; after `remove_after` in vain it is given up. `together`: whether `auto` uses all nodes of a
    device, one of them, or measures which is faster. `canary`: whether servers are asked first if they read prompts as
    long as the longest row whole; `auto` where they might not, and the asking costs neither money nor a rate. `proxy`:
    how servers are reached for which the inventory doesn't say. `on`: where workers are started, if not by the engine;
    the one local node is then what each of them holds.
    """

    nodes: tuple[str, ...] = ()
    nodes_file: str | None = None
    model: str | None = None
    strategy: str | None = None
    order: str | None = None
    blocks: bool = False
    slots: int | None = None
    threads: int | None = None
    device: str | None = None
    kv_memory: int | None = None
    durability: Literal["full", "process"] = "full"
    grace: float = 30.0
    retries: int | None = None
    with_timings: bool = False
    hedge: bool = True
    rpm: float | None = None
    tpm: float | None = None
    budget_tokens: int | None = None
    budget_cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    health_interval: float = 30.0
    remove_after: int | None = None
    together: Literal["yes", "no", "ask"] = "ask"
    proxy: str | None = None
    canary: Literal["auto", "yes", "no"] = "auto"
    on: On | None = None

    @property
    def routing(self) -> str:
        """The strategy by name: servers don't say how much they take, so there it is found out."""
        return self.strategy or ("auto" if any(map(is_served, self.nodes)) else "pull")

    @property
    def budget(self) -> Budget | None:
        """What the run may spend, if that is limited."""
        if self.budget_tokens is None and self.budget_cost is None:
            return None
        if self.budget_cost is not None and self.price_in <= 0 and self.price_out <= 0:
            raise UsageError("--budget-cost needs prices; give --price-in and --price-out, of a million tokens")
        return Budget(
            tokens=self.budget_tokens, cost=self.budget_cost, price_in=self.price_in, price_out=self.price_out
        )


def parse_node(text: str, index: int) -> Node:
    """`KIND:TARGET` as a node; the kind must be a known engine. A server is called by its place, others by a number."""
    kind, colon, target = text.partition(":")
    if not colon:
        raise UsageError(f"node {text!r}: write KIND:TARGET, such as local:demo or scripted:script.toml")
    if kind not in engine_kinds():
        known = ", ".join(engine_kinds())
        near = get_close_matches(kind, engine_kinds(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"node {text!r}: no engine {kind!r}; {hint}known: {known}")
    place = target.partition("//")[2].partition("/")[0].rpartition("@")[2] if kind in SERVED else ""
    return Node(name=place or f"{kind}-{index}", engine=kind, target=target)


def engine_kinds() -> list[str]:
    return sorted({point.name for point in entry_points(group="tokenmill.engines")})


def make_engine(
    node: Node, options: Options, settings: Settings, longest: int = 0, staffing: Mapping[str, Any] | None = None
) -> Engine:
    """The engine of a node, not opened yet; its module is imported only now. `longest`: see `EngineOptions`.

    `staffing` tells the local engine where its worker comes from, as its arguments `hire` and `elsewhere`.
    """
    is_limited = bool(settings.rpm or settings.tpm or settings.budget)
    is_found = settings.routing == "auto" and node.engine in SERVED
    chosen = EngineOptions(
        slots=settings.slots or (MOST_IN_FLIGHT if is_found else None),
        threads=settings.threads,
        dtype=options.dtype,
        device=settings.device,
        kv_memory=settings.kv_memory,
        context=options.context,
        model=settings.model,
        raw=options.workload.endpoint == "completions",
        longest=longest,
        canary="no" if settings.canary == "auto" and is_limited else settings.canary,
        tp=settings.on.tp if settings.on is not None else 1,
        tp_engine=settings.on.tp_engine if settings.on is not None else "native",
    )
    (point,) = [point for point in entry_points(group="tokenmill.engines") if point.name == node.engine][:1]
    try:
        make = point.load()
    except ModuleNotFoundError as error:
        extra = "http" if node.engine in SERVED else node.engine
        raise UsageError(f"engine {node.engine!r} needs {error.name}: pip install 'tokenmill[{extra}]'") from error
    engine: Engine = make(node, chosen, **(staffing or {}))
    return engine


def make_strategy(
    settings: Settings,
    rows: int,
    seed: int,
    *,
    names: Sequence[str] = (),
    groups: Iterable[Sequence[int]] = (),
    known: Mapping[tuple[int, ...], Verdict] | None = None,
    wholes: Collection[int] = (),
    spent: Spent | None = None,
) -> tuple[Strategy, Fleet]:
    """A fresh strategy for `rows` rows, and the part of it that knows the states of the nodes.

    `groups` are nodes that may share a device, `known` are verdicts on them, `wholes` those of them that have for
    themselves what the others share, `spent` is what earlier sessions did.
    Raises `UsageError` for names that aren't known or don't go together.
    """
    is_override = settings.on is not None and settings.together == "yes"
    if settings.together != "ask" and settings.routing != "auto" and not is_override:
        raise UsageError(
            f"--together {settings.together} doesn't go with strategy {settings.routing!r}, which uses all nodes; "
            "use --strategy auto or leave it out"
        )
    policy = RetryPolicy() if settings.retries is None else RetryPolicy(retries=settings.retries)
    if settings.on is not None:  # a lost worker's seat may stay empty for good, so its suspects don't wait for it long
        policy = msgspec.structs.replace(policy, patience=settings.on.silence)
    is_limited = settings.rpm or settings.tpm or any(map(is_served, settings.nodes))  # servers tell their limits
    fleet = make(
        settings.routing,
        settings.order,
        seed=seed,
        policy=policy,
        block_of=rows if settings.blocks else None,
        nodes=NodePolicy(health_interval=settings.health_interval, removal=settings.remove_after),
        names=names,
        groups=groups,
        known=known,
        wholes=wholes,
        hedge=HedgePolicy() if settings.hedge and len(names) > 1 else None,
        rates=RateLimits(requests=settings.rpm, tokens=settings.tpm) if is_limited else None,
    )
    if (budget := settings.budget) is not None:
        return Budgeted(fleet, budget, spent or Spent()), fleet
    return fleet, fleet


def as_data(value: Struct) -> dict[str, Any]:
    """An options struct as plain JSON data; raises `UsageError` for numbers that JSON doesn't have."""
    _refuse_infinite(msgspec.to_builtins(value))
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return data


def _refuse_infinite(data: Any, inside: str = "") -> None:
    if isinstance(data, float) and not isfinite(data):
        raise UsageError(f"{inside} is {data}; give a finite number, or leave it out")
    for name, value in data.items() if isinstance(data, dict) else ():
        _refuse_infinite(value, f"{inside}.{name}".lstrip("."))


def changes(old: dict[str, Any], new: dict[str, Any], inside: str = "") -> list[str]:
    """What differs between two sets of options, as `name: old -> new` lines."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += changes(before, after, f"{inside}{name}.")
        elif before != after:
            found.append(f"{inside}{name}: {before!r} -> {after!r}")
    return found


def settled_node(text: str) -> str:
    """A node whose target, if it is a file or folder, holds in any working folder; `demo` is always the bundled one."""
    kind, colon, target = text.partition(":")
    return text if target == "demo" or kind in SERVED else f"{kind}{colon}{absolute(target)}" if target else text


def named_nodes(model: str | None, nodes: Sequence[str]) -> tuple[str, ...]:
    """All nodes of a run. A model is short for the node `local:MODEL`, unless a server is to be asked for it."""
    first = [f"local:{model}"] if model is not None and not any(map(is_served, nodes)) else []
    return tuple(settled_node(text) for text in (*first, *nodes))


def is_served(text: str) -> bool:
    """Whether a node is a server that is asked for a model by its name; a name of the inventory may be one."""
    return ":" not in text or text.partition(":")[0] in SERVED


def absolute(source: str) -> str:
    """A file's path made independent of the working folder; other sources, pipes among them, as they are."""
    resolved = Path(source).resolve()
    try:
        return str(resolved) if resolved.exists() else source
    except OSError:  # too long for a name; whoever opens it says so
        return source
