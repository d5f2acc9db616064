"""Shows what nodes are: a table that folds where the terminal is narrow, then the hosts and how sure they are."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable

from tokenmill.cli.screen import is_plain, printable, say
from tokenmill.driver.ask_nodes import Found, Report

#: Below this width a table would fold every word, so each node is a paragraph.
NARROW = 72
#: What is told below the table, where a sentence has room, and what may take several lines in it.
BELOW = ("host", "device", "state")
FOLDED = ("node", "server", "model", "placement")


def show_report(report: Report) -> None:
    """On stdout, as wide as the terminal."""
    width = shutil.get_terminal_size((80, 24)).columns
    lines = _paragraphs(report) if width < NARROW else _table(report, width)
    for line in (*lines, *_hosts(report)):
        say(line)


def _cells(found: Found) -> dict[str, str]:
    """What is shown of one node."""
    pace, trip = found.tokens_per_second, found.round_trip
    return {
        "node": found.node,
        "server": " ".join(filter(None, (found.engine, found.version))),
        "model": found.model or ", ".join(found.models),
        "context": str(found.context or ""),
        "placement": found.placement,
        "slots": found.slots_in_words.partition(":")[0],
        "tokens/s": "" if pace is None else f"{pace:.1f}",
        "round trip": "" if trip is None else f"{trip * 1e3:.2f} ms",
        "host": found.host,
        "device": found.device,
        "state": found.fault or found.note or _unmeasured(found) or "ok",
    }


def _unmeasured(found: Found) -> str:
    """Why there is no number of slots, where that needs a sentence."""
    word, _, reason = found.slots_in_words.partition(": ")
    return f"slots {word}: {reason}" if reason else ""


def _table(report: Report, width: int) -> Iterable[str]:
    """What can't be used is told below the table, where a sentence has room."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(found) for found in report.nodes]
    wide = [name for name in (rows[0] if rows else {}) if name not in BELOW and any(row[name] for row in rows)]
    table = Table(box=box.ASCII2 if is_plain() else box.SIMPLE, padding=(0, 1), pad_edge=False)
    for name in wide:
        table.add_column(name, overflow="fold", no_wrap=name not in FOLDED, min_width=len(name))
    for row in rows:
        table.add_row(*(Text(printable(row[name])) for name in wide))
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None, legacy_windows=False).print(table)
    yield from (line.rstrip() for line in screen.getvalue().splitlines() if line.strip())
    for row in rows:
        if row["state"] != "ok":
            yield printable(f"{row['node']}: {row['state']}")


def _paragraphs(report: Report) -> Iterable[str]:
    for row in map(_cells, report.nodes):
        yield printable(row.pop("node"))
        for name, value in row.items():
            if value:
                yield printable(f"  {name:10} {value}")


def _hosts(report: Report) -> Iterable[str]:
    """Which nodes belong together, with the evidence in words."""
    for host in report.identity.hosts:
        devices = "; ".join(
            f"{device.name} ({device.sure}): {', '.join(' = '.join(server) for server in device.servers)}"
            for device in host.devices
        )
        yield printable(f"host {host.name} ({host.sure}): {devices}")
        for evidence in host.evidence:
            yield printable(f"  {', '.join(evidence.nodes)}: {evidence.text} ({evidence.sure})")
    for note in report.identity.notes:
        yield printable(f"note: {note}")
