"""`tokenmill plan`: what nodes, devices or whole fleets would take, from stored and stated figures only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenmill.cli.finite import FiniteRange
from tokenmill.cli.options import (
    AS_JSON,
    NODES_FILE,
    RUNS_DIR,
    WORKLOAD_OPTIONS,
    Sectioned,
    given_settings,
    stacked,
)
from tokenmill.cli.screen import say_json
from tokenmill.errors import UsageError

if TYPE_CHECKING:
    from tokenmill.workload import Spec

PLACE_OPTIONS = stacked(
    "Model and nodes",
    click.option("--model", metavar="NAME", help="What the nodes hold, where figures of several models are stored."),
    click.option(
        "--node",
        "nodes",
        multiple=True,
        metavar="NODE",
        help="Where to run: KIND:TARGET, http://HOST:PORT, a name of the inventory, or 'all' of it.",
    ),
    NODES_FILE,
)
RUN_OPTIONS = stacked(
    "The run to predict",
    click.option("--max-tokens", metavar="N", type=click.IntRange(1), help="Longest answer, as the run would have it."),
    click.option("--strategy", metavar="NAME", help="As of the run; default auto with servers, else pull."),
    click.option("--order", metavar="NAME", help="file, longest-first or packed; default is the strategy's own."),
    click.option("--slots", metavar="N", type=click.IntRange(1), help="Most requests at the same time, per node."),
    click.option("--rpm", metavar="X", type=FiniteRange(0, min_open=True), help="Requests a minute, per node."),
)
GPU_OPTIONS = stacked(
    "Devices that are stated",
    click.option("--gpus", metavar="LIST", help="What there is, such as 10x11GB or 8x80GB,2x24GB; with MODEL."),
    click.option("--dtype", metavar="NAME", help="int4, int8, fp8, fp16, bf16, fp32 or fp64; default as it is stored."),
    click.option(
        "--tp", "width", metavar="N", type=click.IntRange(1), help="Only layouts that cut each layer into N parts."
    ),
    click.option("--bandwidth", metavar="X", help="Of a device's memory, such as 616GB/s; one for each of --gpus."),
    click.option("--compute", metavar="X", help="Operations of a device, such as 65TFLOP/s; one for each of --gpus."),
    click.option("--pace", metavar="X", help="Tokens per second of one request alone on one device; several: --hosts."),
    click.option("--link", metavar="X", help="Between devices in one direction, such as 12GB/s or 100Gbit/s."),
    click.option("--link-latency", metavar="T", default="10us", help="Time that any message takes; default 10us."),
)
HOST_OPTIONS = stacked(
    "A fleet that is simulated",
    click.option("--hosts", metavar="N", type=int, help="So many hosts like those of --gpus, --node or --pace."),
    click.option("--rows", metavar="N", type=int, help="So many rows: those of --requests over and over."),
    click.option("--lose", metavar="X", help="The share of the nodes that is lost once during the run, such as 2%."),
    click.option("--back", metavar="T", help="Time after which a lost node returns, such as 60s; default never."),
)


@click.command(cls=Sectioned)
@click.argument("model_name", metavar="[MODEL]", required=False)
@click.option("--requests", "source", metavar="SOURCE", help="The prompts, as of 'tokenmill run'.")
@WORKLOAD_OPTIONS
@PLACE_OPTIONS
@GPU_OPTIONS
@HOST_OPTIONS
@RUN_OPTIONS
@RUNS_DIR
@AS_JSON
def command(source: str | None, runs_dir: Path | None, as_json: bool, **chosen: Any) -> None:
    """Predicts what the prompts of --requests would take, and whether a model fits at all; computes and simulates only.

    With --node: on each node alone and on more and more of them together, from what 'tokenmill nodes check' and earlier
    runs have measured. With --gpus and MODEL (a folder, a config.json, or a name such as mixtral-8x7b): weights, room
    and batch of every layout, and its time. With --hosts: on thousands of simulated nodes. What was never measured or
    stated is n/a, with the reason.

    \b
    Example:
      tokenmill plan --requests prompts.jsonl --node gpu-a --node gpu-b
      tokenmill plan mixtral-8x7b --dtype int8 --gpus 10x11GB --requests p.jsonl
      tokenmill plan --hosts 10000 --pace 50 --requests p.jsonl --rows 10000000
    """
    from tokenmill.cli import plan_stated

    _check_mixture(chosen)
    if chosen["gpus"] is not None:
        plan_stated.on_gpus(_spec(source, chosen), runs_dir, as_json, chosen)
    elif chosen["hosts"] is not None:
        plan_stated.on_hosts(_spec(source, chosen), runs_dir, as_json, chosen)
    else:
        _on_nodes(_spec(source, chosen), runs_dir, as_json, chosen)


def _on_nodes(spec: Spec | None, runs_dir: Path | None, as_json: bool, chosen: dict[str, Any]) -> None:
    from tokenmill.cli.plan_table import show_plan
    from tokenmill.driver.options import Options, Settings
    from tokenmill.driver.plan_run import plan_run
    from tokenmill.record.folder import runs_folder

    if spec is None:
        raise UsageError("no prompts to plan for; name a file with --requests, as in --requests prompts.jsonl")
    given = given_settings(chosen)
    if "nodes" not in given:
        raise UsageError(
            "no node to plan with; name each with --node, or --node all for those of the inventory; or state devices "
            "with --gpus, as in 'tokenmill plan mixtral-8x7b --gpus 10x11GB'"
        )
    plan = plan_run(Options(workload=spec), Settings(**given), runs_folder(runs_dir))
    if as_json:
        say_json(plan)
    else:
        show_plan(plan)


def _check_mixture(chosen: dict[str, Any]) -> None:
    """Options that would be without effect, or contradict each other, are refused."""
    if chosen["gpus"] is not None and chosen["nodes"]:
        raise UsageError("--gpus states devices and --node names measured nodes; plan with one of them")
    if chosen["model_name"] is not None and chosen["gpus"] is None:
        raise UsageError(
            f"{chosen['model_name']!r} is to be planned, but on what? state the devices with --gpus, such as 10x11GB"
        )
    if chosen["gpus"] is None:
        _refuse_without("--gpus", chosen, "dtype", "width", "bandwidth", "compute", "link")
        if chosen["hosts"] is None:
            _refuse_without("--gpus or --hosts", chosen, "pace")
    if chosen["hosts"] is None:
        _refuse_without("--hosts", chosen, "rows", "lose", "back")
    elif chosen["lose"] is None:
        _refuse_without("--lose", chosen, "back")
    if chosen["hosts"] is not None and chosen["nodes"] and chosen["pace"] is not None:
        raise UsageError("--node has a measured pace and --pace states one; simulate hosts with one of them")


def _refuse_without(needed: str, chosen: dict[str, Any], *names: str) -> None:
    for name in names:
        value = chosen[name]
        if value is not None:
            option = "tp" if name == "width" else name
            raise UsageError(f"--{option} {value} means nothing without {needed}; add that or leave it out")


def _spec(source: str | None, chosen: dict[str, Any]) -> Spec | None:
    from tokenmill.driver.options import absolute
    from tokenmill.request import Sampling
    from tokenmill.workload import Spec

    if source is None:
        return None
    return Spec(
        source=absolute(source),
        format=chosen["format_"],
        prompt_column=chosen["prompt_column"],
        template=chosen["template"],
        id_column=chosen["id_column"],
        system=chosen["system"],
        limit=chosen["limit"],
        bad_rows=chosen["bad_rows"],
        sampling=Sampling(max_tokens=chosen["max_tokens"]),
    )
