"""The options that several commands share, and how they become a run's options and settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from tokenmill.cli.finite import FiniteRange
from tokenmill.cli.screen import tell
from tokenmill.driver.acceptance import Acceptance
from tokenmill.driver.node_file import nodes_path
from tokenmill.driver.options import Settings, named_nodes
from tokenmill.errors import UsageError
from tokenmill.launch.spec import On, checked, parse_on
from tokenmill.request import Sampling

RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where runs are kept; else TOKENMILL_RUNS, else the user's state folder.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
NODES_FILE = click.option(
    "--nodes-file",
    metavar="FILE",
    help="The inventory; else TOKENMILL_NODES, else nodes.toml in the user's configuration folder.",
)
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress and no certificate.")
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Answers go here when the run ends (.jsonl, .csv, .parquet, .txt); else into the run folder.",
)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Size(click.ParamType[int]):
    """A number of bytes, such as 512M or 2G (powers of 1024)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no size; write a number of bytes such as 512M or 2G", param, ctx)
        return int(float(found[1]) * 1024 ** _POWERS[found[2].upper()])


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
#: What an option is about, by its parameter's name; the others are about output and runs.
_SECTIONS: dict[str, str] = {}
REST = "Output and runs"


def stacked(section: str, *options: Decorator) -> Decorator:
    """Several options as one decorator, listed in this order under `section` by the help of a `Sectioned` command."""

    def apply(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
            _SECTIONS[vars(command)["__click_params__"][-1].name] = section
        return command

    return apply


class Sectioned(click.Command):
    """A command whose help lists its options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            entry = parameter.get_help_record(ctx)
            if entry is not None and isinstance(parameter, click.Option):
                sections.setdefault(_SECTIONS.get(parameter.name or "", REST), []).append(entry)
        for title, entries in sections.items():
            with formatter.section(title):
                formatter.write_dl(entries)


WORKLOAD_OPTIONS = stacked(
    "Input",
    click.option(
        "--format",
        "format_",
        metavar="NAME",
        help="txt, jsonl, json, episodes, openai, csv or parquet; default by name and content.",
    ),
    click.option("--prompt-column", metavar="NAME", help="The field or column that holds the prompt."),
    click.option("--template", metavar="TEXT", help="A Jinja2 template that makes the prompt from a row's fields."),
    click.option("--id-column", metavar="NAME", help="The field or column that holds the id; default custom_id."),
    click.option("--system", metavar="TEXT", help="A system message put before every prompt."),
    click.option("--limit", metavar="N", type=click.IntRange(1), help="Take only the first N rows."),
    click.option(
        "--endpoint",
        type=click.Choice(["chat", "completions"]),
        help="chat (default): a prompt is a user's message; completions: it goes to the model as it stands.",
    ),
    click.option(
        "--bad-rows",
        type=click.Choice(["refuse", "fail"]),
        default="refuse",
        help="Rows that can't be sent: refuse the whole input (default), or let them fail alone.",
    ),
)

NODE_OPTIONS = stacked(
    "Model and nodes",
    click.option("--model", metavar="NAME", help="A model folder, a GGUF file, a hub id, or 'demo' (bundled)."),
    click.option(
        "--node",
        "nodes",
        multiple=True,
        metavar="NODE",
        help="Where to run: KIND:TARGET, http://HOST:PORT, a name of the inventory, or 'all' of it.",
    ),
    NODES_FILE,
    click.option(
        "--on",
        "on",
        metavar="KIND:N",
        help="Start N workers of the model: processes:2, torchrun:2, ray:4, slurm:4; none with resume: as without. "
        "See 'tokenmill launch'.",
    ),
    click.option("--tp", metavar="N", type=click.IntRange(1), help="Ranks that share one model, for each worker."),
    click.option(
        "--tp-engine",
        type=click.Choice(["native", "deepspeed"]),
        help="Who divides the model among the ranks of --tp; default native.",
    ),
    click.option("--force", is_flag=True, default=None, help="With --on, more threads than cores are fine."),
)

ANSWER_OPTIONS = stacked(
    "Answers",
    click.option(
        "--max-tokens", metavar="N", type=click.IntRange(1), help="Longest answer; default up to the model's context."
    ),
    click.option("--temperature", metavar="X", type=FiniteRange(0), help="0 (default) takes the likeliest token."),
    click.option(
        "--top-p", metavar="X", type=FiniteRange(0, 1, min_open=True), help="Nucleus sampling; default 1 (off)."
    ),
    click.option("--top-k", metavar="N", type=click.IntRange(0), help="Sample among the N likeliest; default 0 (off)."),
    click.option("--seed", metavar="N", type=int, help="Makes sampling repeatable; default 0."),
    click.option("--stop", metavar="TEXT", multiple=True, help="End an answer before this text; may be given again."),
    click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp64"]), help="Number format of the local engine."),
    click.option("--context", metavar="N", type=click.IntRange(1), help="Cap on prompt and answer together, tokens."),
    click.option(
        "--odd",
        "odd",
        multiple=True,
        metavar="ODDITY=CHOICE",
        help="empty, length, repetition, filtered or cut = flag, fail or ignore; default length and repetition flag, "
        "others fail.",
    ),
)

SETTING_OPTIONS = stacked(
    "Speed and safety",
    click.option(
        "--strategy",
        metavar="NAME",
        help="pull (default), auto (default with servers), prefix, stealing, static, sequential, least-loaded, "
        "priority or gpu-first.",
    ),
    click.option(
        "--together",
        type=click.Choice(["yes", "no", "ask"]),
        help="Several nodes on one device, with strategy auto: use all, one, or measure what is faster (ask, default).",
    ),
    click.option(
        "--proxy",
        metavar="PROXY",
        help="How servers are reached: http://HOST:PORT, 'env' for HTTPS_PROXY and its like, or env:NAME or file:PATH "
        "for a URL with a login; default directly.",
    ),
    click.option(
        "--canary",
        type=click.Choice(["auto", "yes", "no"]),
        help="Ask servers first whether they read prompts as long as the longest row whole; auto (default) where they "
        "might not and it costs no money.",
    ),
    click.option("--order", metavar="NAME", help="file (default), longest-first or packed."),
    click.option("--blocks", is_flag=True, default=None, help="Strategy static deals blocks, not round robin."),
    click.option("--slots", metavar="N", type=click.IntRange(1), help="Requests answered at the same time, per node."),
    click.option(
        "--threads", metavar="N", type=click.IntRange(1), help="Threads of the local engine; default all cores."
    ),
    click.option("--device", metavar="NAME", help="Where the local engine computes; default cpu."),
    click.option("--kv-memory", type=Size(), help="Memory for keys and values, such as 2G."),
    click.option(
        "--durability",
        type=click.Choice(["full", "process"]),
        help="full (default) survives power loss, process survives a kill.",
    ),
    click.option(
        "--grace", metavar="X", type=FiniteRange(0), help="Seconds for answers in flight after Ctrl-C; default 30."
    ),
    click.option(
        "--retries", metavar="N", type=click.IntRange(0), help="Further attempts after a failure that may pass."
    ),
    click.option(
        "--hedge/--no-hedge",
        default=None,
        help="Send the last stragglers to a second node too (default), for 2 % more tokens at most.",
    ),
    click.option("--rpm", metavar="X", type=FiniteRange(0, min_open=True), help="Requests a minute, per node."),
    click.option("--tpm", metavar="X", type=FiniteRange(0, min_open=True), help="Tokens a minute, per node."),
    click.option(
        "--budget-tokens", metavar="N", type=click.IntRange(1), help="Stop, resumable, before more tokens are spent."
    ),
    click.option(
        "--budget-cost",
        metavar="X",
        type=FiniteRange(0, min_open=True),
        help="Stop before more money is spent, at --price-in and --price-out.",
    ),
    click.option("--price-in", metavar="X", type=FiniteRange(0), help="Price of a million tokens read."),
    click.option("--price-out", metavar="X", type=FiniteRange(0), help="Price of a million tokens written."),
    click.option(
        "--health-interval",
        metavar="X",
        type=FiniteRange(0, min_open=True),
        help="Seconds between probes of a node that is away; default 30.",
    ),
    click.option(
        "--remove-after",
        metavar="N",
        type=click.IntRange(1),
        help="Give a node up after N probes in vain; default never.",
    ),
    click.option("--with-timings", is_flag=True, default=None, help="Nodes, attempts and times in the output file."),
)


def parse_policies(pairs: tuple[str, ...]) -> dict[str, str]:
    """`empty=flag` and the like; raises `UsageError` for unknown words."""
    chosen = {}
    for pair in pairs:
        name, _, choice = pair.partition("=")
        if name not in Acceptance.__struct_fields__ or choice not in ("flag", "fail", "ignore"):
            known = ", ".join(Acceptance.__struct_fields__)
            raise UsageError(f"--odd {pair}: write one of {known}, then =flag, =fail or =ignore")
        chosen[name] = choice
    return chosen


@dataclass(frozen=True)
class Answers:
    """What was chosen about the answers: defaults for sampling, and the rest of a run's options."""

    sampling: Sampling
    rest: dict[str, Any]


NOTICE = "tokenmill: no --model given; using the bundled demo model, which only knows a few topics"


def answer_choices(chosen: dict[str, Any]) -> Answers:
    """The options that shape answers, from what was given and the defaults."""
    sampling = Sampling(
        max_tokens=chosen["max_tokens"],
        temperature=chosen["temperature"] or 0.0,
        top_p=1.0 if chosen["top_p"] is None else chosen["top_p"],
        top_k=chosen["top_k"] or 0,
        stop=tuple(chosen["stop"]),
    )
    rest = {
        "dtype": chosen["dtype"],
        "context": chosen["context"],
        "acceptance": msgspec.convert(parse_policies(chosen["odd"]), Acceptance),
        "seed": chosen["seed"] or 0,
    }
    return Answers(sampling, rest)


def given_settings(chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line; the others keep their default or stored value."""
    names = [name for name in Settings.__struct_fields__ if name != "on"]
    given = {name: chosen[name] for name in names if chosen.get(name) is not None} | _launched(chosen)
    nodes = named_nodes(chosen["model"], given.pop("nodes"))
    if any(":" not in node for node in nodes):  # a resume may be in another folder, with another environment
        given["nodes_file"] = str(nodes_path(given.get("nodes_file")).absolute())
    return given | {"nodes": nodes} if nodes else given


def _launched(chosen: dict[str, Any]) -> dict[str, Any]:
    """The setting `on`, if it was given: by `tokenmill launch`, or by its short form."""
    context = click.get_current_context(silent=True)
    outer = context.find_object(On) if context is not None else None
    text, tp, force = chosen.get("on"), chosen.get("tp"), chosen.get("force")
    divider = chosen.get("tp_engine")
    more = {"--tp": tp, "--tp-engine": divider, "--force": force}
    if outer is not None:
        if text is not None or any(each is not None for each in more.values()):
            raise UsageError("--on, --tp, --tp-engine and --force go before the -- of 'tokenmill launch', once")
        return {"on": outer}
    if text == "none":
        for name, each in more.items():
            if each is not None:
                raise UsageError(f"--on none starts no workers, so {name} has no meaning; leave one of them out")
        return {"on": None}
    if text is None and tp is None and divider is None:
        if force is not None:
            raise UsageError("--force is for workers that a launcher starts; add --on KIND:WORKERS, or leave it out")
        return {}
    if text is not None and "=" in text.partition(":")[0]:
        raise UsageError(f"--on {text}: what becomes of odd answers is said by --odd {text}; --on says where to run")
    on = parse_on(text) if text is not None else On(kind="processes", workers=1)
    return {"on": checked(replace(on, tp=tp or on.tp, tp_engine=divider or on.tp_engine, force=bool(force)))}


def some_node(given: dict[str, Any], *, notice: bool) -> dict[str, Any]:
    """These settings, with the bundled model if they name no place to run."""
    if "nodes" in given:
        return given
    if notice:
        tell(NOTICE)
    return given | {"nodes": ("local:demo",)}
