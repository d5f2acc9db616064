"""`python -m tokenmill.testing --script FILE.toml`: starts the servers of a script and prints their URLs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from tokenmill.errors import TokenmillError
from tokenmill.testing.behaviour import Script, make_script, read_script
from tokenmill.testing.process import serve


@click.command()
@click.option("--script", type=click.Path(path_type=Path), help="TOML file of the behaviour; - reads one line of JSON.")
@click.option("--port", type=int, help="Port of the first server; the following get the next ones. 0 is any free one.")
@click.option("--address", help="Address to listen on in place of the script's.")
def main(script: Path | None, port: int | None, address: str | None) -> None:
    """Starts servers that speak the APIs of Ollama and OpenAI and misbehave by script, until interrupted.

    The first line printed holds their URLs, and last that of the control door.
    """
    from_parent = str(script) == "-"
    try:
        if from_parent:
            chosen = msgspec.json.decode(sys.stdin.buffer.readline(), type=Script)
        elif script is None:
            chosen = make_script({}, "the default script")
        else:
            chosen = read_script(script)
        asyncio.run(serve(moved(chosen, port, address), click.echo, until_input_ends=from_parent))
    except (TokenmillError, msgspec.ValidationError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


def moved(script: Script, port: int | None, address: str | None) -> Script:
    """The script with other ports or another address."""
    servers = []
    for number, server in enumerate(script.server):
        there = server.port if port is None else port + number if port else 0
        servers.append(msgspec.structs.replace(server, port=there, address=address or server.address))
    return msgspec.structs.replace(script, server=tuple(servers))


if __name__ == "__main__":
    main()
