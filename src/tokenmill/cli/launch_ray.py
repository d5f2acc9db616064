"""`tokenmill launch ray`: a run whose workers are actors of a Ray cluster."""

from __future__ import annotations

from typing import Any

import click

from tokenmill.cli.launch import ADDRESS, FORCE, MOST, PORT, SILENT, TP, TP_ENGINE, WORKERS, launched, taking
from tokenmill.launch.spec import On


@click.command()
@taking(
    WORKERS,
    MOST,
    click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The cluster: HOST:PORT, ray://HOST:PORT, auto or local; default RAY_ADDRESS, else a Ray of this machine.",
    ),
    click.option("--cpus", metavar="N", help="CPUs for each rank; default what is a fair share of a node."),
    click.option("--gpus", metavar="N", help="GPUs for each rank; default 1 with --device cuda."),
    click.option("--resource", metavar="NAME:AMOUNT", help="A resource of the cluster that each worker needs."),
    TP,
    TP_ENGINE,
    SILENT,
    ADDRESS,
    PORT,
    FORCE,
)
def command(arguments: tuple[str, ...], **chosen: Any) -> None:
    """Launches actors of a Ray cluster, each of which holds one worker on the node where Ray finds room.

    Workers that find no room wait until a node joins that has some; lost ones are placed again.

    \b
    Examples:
      tokenmill launch ray --workers 2 -- run prompts.txt --model ./folder
      tokenmill launch ray --workers 4 --most 8 --ray-address auto -- run prompts.txt --model ./folder
      tokenmill launch ray --workers 2 --tp 4 --ray-address 10.0.0.1:6379 -- resume last
    """
    names = ("ray_address", "cpus", "gpus", "resource")
    given = {name.replace("_", "-"): str(value) for name in names if (value := chosen.pop(name)) is not None}
    launched(On(kind="ray", options=given, **chosen), arguments)
