"""Dossiers of planted runs, to write reports of."""

from __future__ import annotations

import random
from collections.abc import Sequence

from report.scripted import attempt, facts, node, waves
from tokenmill.event import Attempt
from tokenmill.report.certificate import judge
from tokenmill.report.dossier import Dossier, Failure, Slow, Work, tokens
from tokenmill.report.facts import RunFacts
from tokenmill.report.picture import picture
from tokenmill.report.timeline import collect

WORK = Work(input="0" * 64, model="d", options="{}", rows=14)


def dossier(run: RunFacts, attempts: Sequence[Attempt], /, **more: object) -> Dossier:
    """The dossier of a run written by hand."""
    timeline = collect(run, attempts)
    certificate = judge(timeline)
    known = {
        "run": "20260101-000000-0000",
        "certificate": certificate,
        "picture": picture(timeline, certificate),
        "work": WORK,
        "about": (("machine", "Linux, cores 2"), ("seed", "0")),
        "failures": (Failure(kind="timeout", count=1, custom_id="row-13", message="no token for 30 s"),),
        "slowest": (Slow(custom_id="row-1", node="a", latency=10.0, output_tokens=100, text="It was slow."),),
        "tokens": tokens(timeline),
        **more,
    }
    return Dossier(**known)


def planted(**more: object) -> Dossier:
    """A load, one failed row among 14, and a tail."""
    failed = [attempt(13, 33.0, 2.0, outcome="failed")]
    run = facts(14, node(4, load=3.0), answered=13, failed={"timeout": 1})
    return dossier(run, waves(13, 4, start=3.0) + failed, **more)


def large(rows: int = 10_000, slots: int = 16) -> tuple[RunFacts, list[Attempt]]:
    """Many requests of unequal length on two nodes, a hundredth of the attempts in vain; the same each time."""
    draw = random.Random(7)
    free = [[3.0] * slots, [4.5] * slots]
    found: list[Attempt] = []
    for row in range(rows):
        is_done = False
        while not is_done:
            which = min((0, 1), key=lambda each: min(free[each]))
            slot = min(range(slots), key=free[which].__getitem__)
            start, length = free[which][slot], max(2, int(draw.lognormvariate(3.6, 0.6)))
            seconds = 0.08 + length * 0.012 * (1 + 0.6 * which)
            is_done = draw.random() >= 0.01
            if is_done:
                found.append(
                    attempt(row, start, seconds, tokens=length, node=which, prompt=60, read=0.05, width=slots - 1.5)
                )
            else:
                seconds *= 0.4
                found.append(attempt(row, start, seconds, outcome="failed", node=which))
            free[which][slot] = start + seconds
    first, second = node(slots, load=3.0, name="first"), node(slots, load=4.5, name="second", device="gpu")
    return facts(rows, first, second), found
