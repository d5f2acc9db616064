"""What a run makes of its setting `on`: nodes that are seats, the crew that fills them, and whether that pays here.

All seats hold the one model that the run names. On one machine several processes share its cores with what one process
could do alone. With strategy `auto` one more worker with all cores stands beside them, and the run's own trial finds
out which of the two is faster; a verdict from before is enough to refuse the slower one. Processes with a GPU each have
more than one process has, so there is nothing to measure.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from tokenmill.cluster import Node
from tokenmill.driver.options import Settings, parse_node
from tokenmill.driver.verdicts import Group, known_of, read_verdicts
from tokenmill.engine.local.autotp import check_installed
from tokenmill.engine.local.wire import DEEPSPEED
from tokenmill.errors import UsageError
from tokenmill.launch.crew import Crew
from tokenmill.launch.launcher import Work
from tokenmill.launch.spec import On, checked

#: The node that has all cores, for comparison.
WHOLE = "whole"


def crew_of(settings: Settings, folder: Path | None = None) -> Crew | None:
    """What will fill the seats; None without `on`. Raises `UsageError` for what can't work, and starts nothing."""
    if settings.on is None:
        return None
    on = checked(settings.on)
    if settings.together == "no":
        raise UsageError(f"--on {on} starts several workers and --together no uses one; leave one of them out")
    work = Work(
        threads=settings.threads,
        device=settings.device,
        names=seat_names(settings),
        whole=has_whole(settings),
        folder=folder,
    )
    crew = Crew(on, work)
    crew.launcher.check()
    return crew


def check_divider(settings: Settings) -> None:
    """Raises `UsageError` where ranks of this machine would divide the model by what isn't installed here."""
    on = settings.on
    if on is not None and on.tp_engine == DEEPSPEED and on.kind in ("processes", "torchrun"):
        check_installed()


def has_whole(settings: Settings) -> bool:
    """Whether one worker with all cores is measured beside the others."""
    return divides_machine(settings) and settings.routing == "auto" and settings.together == "ask"


def divides_machine(settings: Settings) -> bool:
    """Whether several workers have together what one process could have alone; of CUDA's GPUs each rank has its own."""
    on = settings.on
    return on is not None and on.kind == "processes" and on.workers > 1 and settings.device != "cuda"


def seat_names(settings: Settings) -> tuple[str, ...]:
    """The nodes of a run with `on`, by name."""
    assert settings.on is not None
    names = tuple(f"worker-{index}" for index in range(settings.on.seats))
    return (*names, WHOLE) if has_whole(settings) else names


def seats_of(settings: Settings, *, remote: bool) -> list[Node]:
    """The nodes themselves. Those of other hosts count as such; which host it is, only the worker will say."""
    on = settings.on
    assert on is not None
    if len(settings.nodes) != 1 or not settings.nodes[0].startswith("local:"):
        listed = ", ".join(settings.nodes) or "none"
        raise UsageError(
            f"--on {on} starts workers of the local engine, so it takes one --model and no --node (here: {listed})"
        )
    first = parse_node(settings.nodes[0], 0)
    return [replace(first, name=name, host=f"{on.kind}:{name}" if remote else None) for name in seat_names(settings)]


def groups_on(settings: Settings, nodes: Sequence[Node], digest: str) -> list[Group]:
    """The workers of this machine and the one with all cores, as one group; none where nothing is to be measured."""
    on = settings.on
    if on is None or not divides_machine(settings):
        return []
    target = nodes[0].target
    parts = tuple(f"local:{target} {index + 1} of {on.workers}{_ranks(on)}" for index in range(on.workers))
    return [
        Group(
            nodes=tuple(range(on.workers + 1)),
            addresses=(*parts, f"local:{target} whole{_ranks(on)}"),
            host=socket.gethostname(),
            device=settings.device or "cpu",
            digest=digest,
            slots=settings.slots,
            threads=settings.threads,
        )
    ]


def refuse_slower(settings: Settings, digest: str, runs: Path) -> None:
    """Raises `UsageError`, with what was measured, if one process is known to be faster than those asked for."""
    on = settings.on
    if on is None or settings.together == "yes":
        return
    for group in groups_on(settings, seats_of(settings, remote=False), digest):
        known = known_of(group, read_verdicts(runs))
        if known is not None and len(known.nodes) == 1:
            raise UsageError(
                f"--on {on}: one process with all cores was faster here: {known.alone:.1f} tok/s, and "
                f"{known.together:.1f} with {on.workers} processes (95 % interval {100 * known.low:+.0f} to "
                f"{100 * known.high:+.0f} %, measured on {known.stored}); leave --on out, or add --together yes"
            )


def _ranks(on: On) -> str:
    return f" x {on.tp}" if on.tp > 1 else ""
