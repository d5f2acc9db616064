"""`tokenmill nodes`: the inventory of nodes, and what they are."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from tokenmill.cli.finite import FiniteRange
from tokenmill.cli.options import AS_JSON, NODES_FILE, RUNS_DIR
from tokenmill.cli.screen import printable, say, say_json, tell
from tokenmill.driver.node_file import change, load, nodes_path
from tokenmill.driver.options import engine_kinds
from tokenmill.errors import InputFaults, UsageError
from tokenmill.plan.edit import with_entries, without
from tokenmill.plan.inventory import Entry, checked
from tokenmill.plan.node_list import read_list, twins
from tokenmill.plan.ramp import MOST as MOST_SLOTS
from tokenmill.plan.targets import MOST, PORTS

#: Ended with nodes that can't be used.
SOME_FAILED = 3


@click.group()
def command() -> None:
    """Keeps servers under names, and says what they are and which of them share hardware.

    \b
    Example:
      tokenmill nodes add gpu-a http://10.0.0.5:11434
      tokenmill run prompts.txt --model llama3.2 --node all
    """


@command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--engine", metavar="KIND", help="ollama or openai; left out, the server is asked.")
@click.option("--host", metavar="NAME", help="The machine it is on, where evidence can't tell.")
@click.option("--device", metavar="NAME", multiple=True, help="What it computes on, such as gpu:0; may be given again.")
@click.option("--priority", metavar="N", type=int, help="0 (default) before 1.")
@click.option("--key", metavar="WHERE", help="Where its key is: env:NAME or file:PATH, never the key itself.")
@click.option("--model", metavar="NAME", help="The model to ask for there, if it differs from the run's.")
@NODES_FILE
@AS_JSON
def add_command(nodes_file: str | None, as_json: bool, **given: Any) -> None:
    """Adds the server at URL, or an engine of this machine as KIND:TARGET, under NAME.

    \b
    Example:
      tokenmill nodes add gpu-a http://10.0.0.5:11434 --device gpu:0
      tokenmill nodes add hosted https://api.example.org/v1 --key env:API_KEY
    """
    path = nodes_path(nodes_file)
    table = {name: value for name, value in given.items() if value is not None}
    kind, colon, rest = table["url"].partition(":")
    if colon and rest.startswith(("http://", "https://")):  # as --node takes it
        table |= {"engine": kind, "url": rest}
    faults: list[str] = []
    entries = checked([table | {"device": list(given["device"])}], engine_kinds(), faults)
    if faults:
        raise InputFaults("nodes add", [fault.partition(": ")[2] for fault in faults])
    _add(path, entries)
    _tell_twins([*load(path)], entries)
    _show(entries, as_json=as_json)


@command.command("remove")
@click.argument("names", nargs=-1, required=True)
@NODES_FILE
@AS_JSON
def remove_command(names: tuple[str, ...], nodes_file: str | None, as_json: bool) -> None:
    """Removes the nodes NAMES from the inventory.

    \b
    Example:
      tokenmill nodes remove gpu-a
    """
    path = nodes_path(nodes_file)
    gone = [entry for entry in load(path) if entry.name in names]
    missing = sorted(set(names) - {entry.name for entry in gone})
    if missing:
        raise UsageError(f"no node {missing[0]!r} in {path}; 'tokenmill nodes list' shows those there are")
    change(path, lambda text: without(text, names))
    _show(gone, as_json=as_json, word="removed ")


@command.command("list")
@NODES_FILE
@AS_JSON
def list_command(nodes_file: str | None, as_json: bool) -> None:
    """Shows the nodes of the inventory, without asking them anything.

    \b
    Example:
      tokenmill nodes list
    """
    path = nodes_path(nodes_file)
    entries = load(path)
    _tell_twins(entries, entries)
    _show(entries, as_json=as_json)
    if not entries and not as_json:
        tell(f"no nodes in {path}; add one with 'tokenmill nodes add NAME URL'")


@command.command("import")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@NODES_FILE
@AS_JSON
def import_command(source: Path, nodes_file: str | None, as_json: bool) -> None:
    """Adds the nodes of a JSON file {"nodes": [{"url", "name", "priority"}]}.

    Nodes that are one server of this machine under several addresses (localhost, 127.0.0.1, ::1, its own address on
    one port) would make it look like several machines: the first is added, the others are told and left out.

    \b
    Example:
      tokenmill nodes import nodes.json
    """
    path = nodes_path(nodes_file)
    known = load(path)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UsageError(f"{source}: can't be read ({error.strerror}); name a JSON node file") from error
    found = read_list(content, str(source), engine_kinds(), {entry.name for entry in known})
    left_out = {other.name: first for first, *others in _twins([*known, *found]) for other in others}
    entries = [entry for entry in found if entry.name not in left_out]
    for entry in found:
        if entry.name in left_out:
            first = left_out[entry.name]
            tell(f"left out {entry.name} ({entry.url}): it is the server of {first.name} ({first.url}) once more")
    _add(path, entries)
    _show(entries, as_json=as_json)


@command.command("check")
@click.argument("names", nargs=-1)
@click.option("--model", metavar="NAME", help="The model to ask for where a server holds several.")
@click.option("--most-slots", metavar="N", type=click.IntRange(1, 256), default=MOST_SLOTS, show_default=True,
              help="Most requests sent at once to find the slots.")  # fmt: skip
@click.option("--no-ramp", is_flag=True, help="Send no requests: leaves slots and tokens/s out.")
@click.option("--timeout", metavar="X", type=FiniteRange(0, min_open=True), default=120.0, show_default=True,
              help="Seconds for one node.")  # fmt: skip
@click.option("--together", is_flag=True, help="Also measure nodes that may share a device, alone and together.")
@RUNS_DIR
@NODES_FILE
@AS_JSON
def check_command(
    names: tuple[str, ...], runs_dir: Path | None, nodes_file: str | None, as_json: bool, **chosen: Any
) -> None:
    """Asks the nodes NAMES (default: all; a URL does too) what they are, one after the other.

    Shows whether each can be reached, its version, models and context, where the model lies, how many requests it
    answers at the same time and how fast (by short bursts of 16-token answers, at most about 3 times --most-slots
    requests), and which nodes are one server, share a host, or share a device.

    What was measured is kept beside the runs, for 'tokenmill plan'. With --together, nodes that may share a device are
    kept busy in turns, and the verdict is kept too, for runs that are too short to measure.

    \b
    Example:
      tokenmill nodes check
      tokenmill nodes check gpu-a http://10.0.0.9:8000 --json
      tokenmill nodes check --together
    """
    from tokenmill.cli.node_table import show_report
    from tokenmill.driver.ask_nodes import Inquiry, ask_nodes
    from tokenmill.driver.figures import keep_figures
    from tokenmill.driver.node_file import nodes_of
    from tokenmill.driver.options import Settings, settled_node
    from tokenmill.record.folder import runs_folder

    if chosen["together"] and chosen["no_ramp"]:
        raise UsageError("--together sends requests, as many at a time as the ramp finds; leave --no-ramp out")
    nodes = nodes_of(Settings(nodes=tuple(map(settled_node, names)) or ("all",), nodes_file=nodes_file))
    most = 0 if chosen["no_ramp"] else chosen["most_slots"]
    inquiry = Inquiry(model=chosen["model"], most=most, patience=chosen["timeout"])
    watch = _watch if sys.stderr.isatty() else lambda _: None
    runs = runs_folder(runs_dir)
    report = ask_nodes(nodes, inquiry, watch)
    try:
        keep_figures(runs, report.figures)
    except (OSError, UsageError) as error:  # what was measured is still worth telling
        tell(printable(f"the figures could not be kept for 'tokenmill plan': {error}"))
    facts = {"nodes": msgspec.to_builtins(report.nodes), "identity": msgspec.to_builtins(report.identity)}
    shared = []
    if chosen["together"]:
        from tokenmill.driver.check_together import check_together

        shared = check_together(nodes, report, inquiry, runs, watch)
        facts["together"] = msgspec.to_builtins(shared)
    if as_json:
        say_json(facts)
    else:
        show_report(report)
        for each in shared:
            say(printable(each.words))
        if chosen["together"] and not shared:
            say("no nodes that hold one model may share a device")
    if any(each.fault for each in report.nodes):
        sys.exit(SOME_FAILED)


@command.command("discover")
@click.argument("places", nargs=-1, required=True)
@click.option("--ports", metavar="LIST", default=",".join(map(str, PORTS)), show_default=True,
              help="Ports to look at where none is given.")  # fmt: skip
@click.option("--most", metavar="N", type=click.IntRange(1), default=MOST, show_default=True,
              help="Most addresses to look at.")  # fmt: skip
@click.option("--timeout", metavar="X", type=FiniteRange(0, min_open=True), default=1.0, show_default=True,
              help="Seconds to wait for a connection.")  # fmt: skip
@click.option("--add", "to_add", is_flag=True, help="Add what was found to the inventory.")
@NODES_FILE
@AS_JSON
def discover_command(
    places: tuple[str, ...], most: int, timeout: float, to_add: bool, nodes_file: str | None, as_json: bool, ports: str
) -> None:
    """Looks for servers at PLACES, and only there: HOST, HOST:PORT, a URL, or a range such as 10.0.0.0/28.

    \b
    Example:
      tokenmill nodes discover 10.0.0.0/28 gpu-box:8000 --add
    """
    from tokenmill.driver.discover import discover
    from tokenmill.plan.targets import targets

    path = nodes_path(nodes_file)
    known = load(path)
    found = discover(targets(places, _ports(ports), most), [entry.name for entry in known], patience=timeout)
    urls = {str(entry.server): entry for entry in known}
    found = [urls.get(entry.url, entry) for entry in found]
    new = [entry for entry in found if entry.url not in urls]
    if to_add:
        doubles = {other.name for _, *others in _twins([*known, *new]) for other in others}
        new = [entry for entry in new if entry.name not in doubles]
        _add(path, new)
    _tell_twins([*known, *found], found)
    _show(new if to_add else found, as_json=as_json, word="added " if to_add else "")
    if not found and not as_json:
        tell("no server found there")


def _watch(name: str) -> None:
    tell(printable(f"asking {name}"))


def _ports(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not word.isascii() or not word.isdigit() or not 0 < int(word) < 65536:
            raise UsageError(f"--ports {text}: {word!r} is no port; write numbers such as 11434,8000")
    return tuple(map(int, words))


def _add(path: Path, entries: Sequence[Entry]) -> None:
    """Adds nodes; the file as a whole must hold, so a name or URL that is taken is refused with both places."""
    if entries:
        change(path, lambda text: with_entries(text, entries))


def _twins(entries: Iterable[Entry]) -> list[tuple[Entry, ...]]:
    """Nodes that are one server of this machine; asks the system which addresses are its own."""
    from ipaddress import ip_address

    from tokenmill.driver.witness import is_own

    entries = list(entries)
    hosts = {entry.server.host for entry in entries if entry.server is not None}
    own = set()
    for host in hosts:
        try:
            ip_address(host)
        except ValueError:
            continue  # what a name means is for `check` to find out
        if is_own(host):
            own.add(host)
    return twins(entries, own)


def _tell_twins(entries: Iterable[Entry], about: Iterable[Entry]) -> None:
    """Warns of nodes among `entries` that are one server, if one of `about` is among them."""
    names = {entry.name for entry in about}
    for group in _twins({entry.url: entry for entry in entries}.values()):
        if names & {entry.name for entry in group}:
            listed = ", ".join(f"{entry.name} ({entry.url})" for entry in group)
            tell(printable(f"warning: one server of this machine under several names: {listed}; keep one"))


def _show(entries: Sequence[Entry], *, as_json: bool, word: str = "") -> None:
    if as_json:
        say_json([msgspec.to_builtins(entry) for entry in entries])
        return
    for entry in entries:
        said = {
            "engine": entry.engine,
            "host": entry.host,
            "device": ", ".join(entry.device),
            "priority": entry.priority,
            "key": entry.key,
            "model": entry.model,
        }
        rest = "  ".join(f"{name} {value}" for name, value in said.items() if value)
        say(printable(f"{word}{entry.name}  {entry.url}  {rest}".rstrip()))
