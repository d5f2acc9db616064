"""`tokenmill plan` for devices and fleets that are stated: reads what was stated, and shows what was found."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from tokenmill.cli.options import given_settings
from tokenmill.cli.plan_table import NARROW, as_paragraphs, as_table, wrapped
from tokenmill.cli.screen import say, say_json, tell
from tokenmill.driver.options import Settings, make_strategy
from tokenmill.driver.plan_gpus import Asked, GpuPlan, Placed, plan_gpus, stored_pace
from tokenmill.driver.plan_hosts import Crowd, Losses, check_crowd, play_crowd
from tokenmill.driver.plan_kinds import Kinds, kinds_of_gpus, kinds_of_nodes, kinds_of_paces
from tokenmill.driver.plan_run import Work, read_work
from tokenmill.driver.plan_words import sizes_of
from tokenmill.errors import UsageError
from tokenmill.plan.gpus import parse_gpus
from tokenmill.plan.shape import FORMATS, find_shape
from tokenmill.plan.sizes import read_compute, read_rate, read_time, show_size
from tokenmill.plan.step import Link
from tokenmill.record.folder import runs_folder
from tokenmill.report.numbers import NONE, figure, seconds
from tokenmill.workload import Spec

#: Rows that play in a moment; before more of them a line says that it takes a while, about so many seconds each.
QUICK, SECONDS_A_ROW = 200_000, 40e-6
T = TypeVar("T")


def on_gpus(spec: Spec | None, runs_dir: Path | None, as_json: bool, chosen: dict[str, Any]) -> None:
    """MODEL on the devices of --gpus, and with --hosts on so many hosts that have these."""
    asked = read_asked(chosen, runs_folder(runs_dir))
    settings = _settings(chosen)
    work = _work(spec)
    if chosen["hosts"] is not None:
        work = _needed(work)
        kinds = kinds_of_gpus(asked, work, _rows(work, chosen) / chosen["hosts"], settings)
        _play(kinds, work, settings, as_json, chosen)
        return
    plan = plan_gpus(asked, work, settings)
    if as_json:
        say_json(plan)
    else:
        _show(_gpu_lines(plan))


def on_hosts(spec: Spec | None, runs_dir: Path | None, as_json: bool, chosen: dict[str, Any]) -> None:
    """Hosts like the nodes of --node, or as quick as --pace says."""
    settings, work = _settings(chosen), _needed(_work(spec))
    if settings.nodes:
        kinds = kinds_of_nodes(settings, runs_folder(runs_dir), work)
    elif chosen["pace"] is not None:
        kinds = kinds_of_paces(_paces(chosen["pace"]), settings)
    else:
        raise UsageError("--hosts: like which? name one or more with --node, state --pace, or MODEL and --gpus")
    _play(kinds, work, settings, as_json, chosen)


def _play(kinds: Kinds, work: Work, settings: Settings, as_json: bool, chosen: dict[str, Any]) -> None:
    lengths = [row.tokens for row in work.rows]
    rows = _rows(work, chosen)
    losses, nodes = _losses(chosen), chosen["hosts"] * kinds.a_host
    check_crowd(nodes, rows, losses)
    if losses.share and not losses.of(nodes):
        raise UsageError(f"--lose {chosen['lose']}: that is none of {nodes} nodes; lose more of them, or leave it out")
    if rows > QUICK:
        tell(f"tokenmill: playing {rows:,} rows, which takes about {seconds(rows * SECONDS_A_ROW)} of processor time")
    crowd = play_crowd(settings, kinds.nodes, nodes, lengths, rows, losses, seed=0)
    if as_json:
        say_json(crowd)
    else:
        _show(_crowd_lines(crowd, kinds, chosen["hosts"]))


def _rows(work: Work, chosen: dict[str, Any]) -> int:
    """How many rows are to be played; refused here, before anything is computed, if that can't be."""
    given: int | None = chosen["rows"]
    rows = len(work.rows) if given is None else given
    check_crowd(chosen["hosts"], rows, _losses(chosen))
    return rows


def _losses(chosen: dict[str, Any]) -> Losses:
    return Losses(share=_share(chosen["lose"]), back=_back(chosen["back"]))


def read_asked(chosen: dict[str, Any], runs: Path) -> Asked:
    """What the options state of the model and the devices.

    Raises:
        UsageError: one can't be read; the line says how to write it.
    """
    name = chosen["model_name"] or chosen["model"]
    if name is None:
        raise UsageError("--gpus: which model? name it, as in 'tokenmill plan mixtral-8x7b --gpus 10x11GB'")
    groups = parse_gpus(chosen["gpus"])
    shape = find_shape(name)
    dtype = chosen["dtype"] or shape.stored
    if dtype not in FORMATS:
        raise UsageError(f"--dtype {dtype!r} isn't known; known: {', '.join(FORMATS)}")
    for option, read in (("bandwidth", read_rate), ("compute", read_compute)):
        values = _each(f"--{option}", chosen[option], read, len(groups))
        groups = tuple(replace(group, **{option: value}) for group, value in zip(groups, values, strict=True))
    link = chosen["link"]
    latency = read_time(chosen["link_latency"], "--link-latency")
    asked = Asked(
        shape=shape,
        dtype=dtype,
        groups=groups,
        link=None if link is None else Link(rate=read_rate(link, "--link"), latency=latency),
        tp=chosen["width"],
    )
    return _paced(asked, chosen, runs)


def _paced(asked: Asked, chosen: dict[str, Any], runs: Path) -> Asked:
    if chosen["bandwidth"] is not None:
        if chosen["pace"] is not None:
            raise UsageError("--bandwidth and --pace both say how fast a device is; give one of them")
        return replace(asked, paced_by=f"memory of {chosen['bandwidth']} a device, stated and read at its full rate")
    if chosen["pace"] is not None:
        (pace, *others) = _paces(chosen["pace"])
        if others:
            raise UsageError(f"--pace {chosen['pace']}: one pace is that of a device; several are for --hosts alone")
        said = f"{pace:g} tokens/s of one request alone on one device with all of the model, stated"
        return replace(asked, pace=pace, paced_by=said)
    stored = stored_pace(chosen["model_name"] or chosen["model"], runs)
    if stored is None:
        return asked
    return replace(asked, pace=stored[0], paced_by=f"{stored[0]:.3g} tokens/s, {stored[1]}")


def _each(option: str, text: str | None, read: Callable[[str, str], T], count: int) -> Sequence[T | None]:
    """One value for all groups of devices, or one for each."""
    if text is None:
        return [None] * count
    values = [read(part, option) for part in text.split(",")]
    if len(values) not in (1, count):
        raise UsageError(
            f"{option} {text}: {len(values)} values for {count} kinds of devices; give one, or one for each"
        )
    return values * count if len(values) == 1 else values


def _paces(text: str) -> list[float]:
    try:
        paces = [float(part.strip().removesuffix("tok/s")) for part in text.split(",")]
    except ValueError:
        paces = []
    if not paces or not all(0 < pace < float("inf") for pace in paces):
        raise UsageError(
            f"--pace {text!r}: write tokens per second above 0, such as 50, or 40,60 for hosts that differ"
        )
    return paces


def _share(text: str | None) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text or "0%")
    if found is None:
        raise UsageError(f"--lose {text!r}: write the share of the nodes in percent, such as 2%")
    return float(found[1]) / 100


def _back(text: str | None) -> float | None:
    return None if text is None else read_time(text, "--back")


def _settings(chosen: dict[str, Any]) -> Settings:
    """Of stated devices MODEL names no node, so only nodes that were named count.

    Raises `UsageError` for a strategy or an order that isn't known, whether or not there is anything to play.
    """
    settings = Settings(**given_settings(chosen if chosen["nodes"] else chosen | {"model": None}))
    make_strategy(settings, 1, seed=0)
    return settings


def _work(spec: Spec | None) -> Work | None:
    if spec is None:
        return None
    with tempfile.TemporaryDirectory(prefix="tokenmill-") as folder:
        return read_work(spec, Path(folder))


def _needed(value: T | None) -> T:
    if value is None:
        raise UsageError("no prompts to plan for; name a file with --requests, as in --requests prompts.jsonl")
    return value


def _show(lines: Callable[[int], Iterable[str]]) -> None:
    for line in lines(shutil.get_terminal_size((80, 24)).columns):
        say(line)


def _gpu_lines(plan: GpuPlan) -> Callable[[int], Iterable[str]]:
    def lines(width: int) -> Iterable[str]:
        for sentence in sizes_of(plan):
            yield from wrapped(sentence, width)
        if plan.rows is not None:
            rows_of = "1 row" if plan.rows == 1 else f"{plan.rows} rows"
            prompts, output = figure(plan.prompt_tokens or 0), figure(plan.output_tokens or 0)
            said = f"{rows_of}, about {prompts} prompt tokens and {output} output tokens, strategy {plan.strategy}"
            yield from wrapped(said, width)
        rows = [_cells(each) for each in plan.layouts]
        if rows:
            yield from as_paragraphs(rows) if width < NARROW else as_table(rows, width)
        for sentence in (*plan.refused, *plan.answers):
            yield from wrapped(sentence, width)
        yield "taken for granted:"
        for sentence in plan.assumes:
            yield from wrapped(sentence, width, "  ")
        yield from wrapped("nothing was measured and nothing was sent", width)

    return lines


def _cells(each: Placed) -> dict[str, str]:
    return {
        "layout": each.name,
        "weights": show_size(each.weights),
        "room": show_size(each.room),
        "batch": str(each.batch),
        "alone": NONE if each.alone is None else f"{figure(each.alone)} tok/s",
        "together": NONE if each.together is None else f"{figure(each.together)} tok/s",
        "makespan": NONE if each.makespan is None else seconds(each.makespan),
    }


def _crowd_lines(crowd: Crowd, kinds: Kinds, hosts: int) -> Callable[[int], Iterable[str]]:
    def lines(width: int) -> Iterable[str]:
        each = f" of {kinds.a_host} nodes each" if kinds.a_host > 1 else ""
        yield from wrapped(
            f"{hosts:,} hosts{each}, {crowd.slots:,} slots in all: {kinds.source}; {crowd.rows:,} rows, "
            f"{figure(crowd.output_tokens)} output tokens, strategy {crowd.strategy}",
            width,
        )
        yield from wrapped(
            f"makespan {seconds(crowd.makespan)}, {crowd.ratio:.4f} times the lower bound of {seconds(crowd.bound)} "
            f"({crowd.binding}); {figure(crowd.rate)} tokens/s",
            width,
        )
        lost = f"{crowd.lost} nodes were lost, which cost {crowd.vain} attempts; " if crowd.lost else ""
        left = f"{crowd.unfinished} rows were left over" if crowd.unfinished else "every row was answered once"
        yield from wrapped(f"{lost}{left}" + (f"; stopped: {crowd.stopped}" if crowd.stopped else ""), width)
        yield from wrapped(
            f"played with the strategy of a run, {figure(crowd.events)} events in {seconds(crowd.cpu)} of processor "
            "time; no second attempts, answers as long as the prompts' words promise; nothing was sent",
            width,
        )

    return lines
