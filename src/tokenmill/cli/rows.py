"""Which rows of an input are taken: a split of it, a part by chance; and what was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tokenmill.cli.options import stacked
from tokenmill.cli.screen import printable, tell
from tokenmill.errors import UsageError

ROW_OPTIONS = stacked(
    "Input",
    click.option(
        "--split",
        metavar="NAME",
        help="Take one split: of a folder the files train*, validation*, test*; of a file the rows whose field 'split' "
        "says so, or those that --shares deal to it.",
    ),
    click.option(
        "--shares",
        metavar="NAME=N,...",
        help="Deal rows out to splits by --seed, such as train=80,validation=10,test=10; episodes stay whole.",
    ),
    click.option("--sample", metavar="N", type=click.IntRange(1), help="Take N rows by chance, by --seed."),
)


def row_choices(chosen: dict[str, Any]) -> dict[str, Any]:
    """The fields of a workload's spec that choose rows; a seed is part of it only where it decides something."""
    shares, sample = chosen["shares"], chosen["sample"]
    dealt = _shares(shares) if shares is not None else None
    seed = (chosen["seed"] or 0) if dealt is not None or sample is not None else None
    return {"split": chosen["split"], "shares": dealt, "sample": sample, "seed": seed}


def _shares(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        try:
            share = float(number)
        except ValueError as error:
            raise UsageError(
                f"--shares {text}: {part.strip()!r} is no share; write names and numbers, as train=80,test=20"
            ) from error
        if name in found:
            raise UsageError(f"--shares {text}: {name!r} has two shares; keep one")
        found[name] = share
    return found


def tell_skipped(folder: Path, *, quiet: bool) -> None:
    """Says how many dialogs of a prepared run are no rows."""
    from tokenmill.record.folder import read_manifest
    from tokenmill.workload.episodes import skipped_words

    skipped = read_manifest(folder).input.skipped
    if skipped and not quiet:
        tell(printable(f"tokenmill: {skipped_words(skipped)}"))
