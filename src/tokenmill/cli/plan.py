"""`tokenmill plan`: what more nodes would bring, predicted from stored figures only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tokenmill.cli.options import (
    AS_JSON,
    NODE_OPTIONS,
    RUNS_DIR,
    WORKLOAD_OPTIONS,
    Sectioned,
    given_settings,
    stacked,
)
from tokenmill.cli.screen import say_json
from tokenmill.errors import UsageError

RUN_OPTIONS = stacked(
    "The run to predict",
    click.option("--max-tokens", metavar="N", type=click.IntRange(1), help="Longest answer, as the run would have it."),
    click.option("--strategy", metavar="NAME", help="As of the run; default auto with servers, else pull."),
    click.option("--order", metavar="NAME", help="file, longest-first or packed; default is the strategy's own."),
    click.option("--slots", metavar="N", type=click.IntRange(1), help="Most requests at the same time, per node."),
    click.option("--rpm", metavar="X", type=click.FloatRange(0, min_open=True), help="Requests a minute, per node."),
)


@click.command(cls=Sectioned)
@click.option("--requests", "source", metavar="SOURCE", help="The prompts, as of 'tokenmill run'.")
@WORKLOAD_OPTIONS
@NODE_OPTIONS
@RUN_OPTIONS
@RUNS_DIR
@AS_JSON
def command(source: str | None, runs_dir: Path | None, as_json: bool, **chosen: Any) -> None:
    """Predicts what the prompts of --requests would take on each node alone and on more and more of them together.

    Sends nothing and asks no node: it goes by what 'tokenmill nodes check' and earlier runs have measured, and says
    where each figure is from. What was never measured is n/a, with the command that measures it.

    \b
    Example:
      tokenmill nodes check
      tokenmill plan --requests prompts.jsonl --node gpu-a --node gpu-b
      tokenmill plan --requests prompts.jsonl --node all --json
    """
    from tokenmill.cli.plan_table import show_plan
    from tokenmill.driver.options import Options, Settings, absolute
    from tokenmill.driver.plan_run import plan_run
    from tokenmill.record.folder import runs_folder
    from tokenmill.request import Sampling
    from tokenmill.workload import Spec

    if source is None:
        raise UsageError("no prompts to plan for; name a file with --requests, as in --requests prompts.jsonl")
    given = given_settings(chosen)
    if "nodes" not in given:
        raise UsageError("no node to plan with; name each with --node, or --node all for those of the inventory")
    workload = Spec(
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
    plan = plan_run(Options(workload=workload), Settings(**given), runs_folder(runs_dir))
    if as_json:
        say_json(plan)
    else:
        show_plan(plan)
