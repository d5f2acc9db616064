"""`tokenmill recipes`: the recipes that come along, to be read, copied and changed."""

from __future__ import annotations

import tomllib

import click

from tokenmill.cli.options import AS_JSON
from tokenmill.cli.screen import say, say_json
from tokenmill.pipeline.read import SHIPPED, recipe_text


@click.command()
@click.argument("name", required=False)
@AS_JSON
def command(name: str | None, as_json: bool) -> None:
    """Lists the recipes that come along, or prints the one called NAME, as a start for one of your own.

    \b
    Example:
      tokenmill recipes paraphrase > mine.toml
      tokenmill run texts.jsonl --pipeline ./mine.toml --model demo -o out.jsonl
    """
    if name is not None:
        text = recipe_text(name)
        if as_json:
            say_json({"name": name, "text": text})
        else:
            say(text.rstrip("\n"))
        return
    known = [tomllib.loads(recipe_text(each)) for each in SHIPPED]
    if as_json:
        say_json([{key: each[key] for key in ("name", "about", "input")} for each in known])
        return
    for each in known:
        say(f"{each['name']:12}{each['about']} Reads the field '{each['input']}'.")
