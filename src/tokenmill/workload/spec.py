"""What the user asked for: everything that shapes the requests of one run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

from tokenmill.errors import UsageError
from tokenmill.request import Sampling
from tokenmill.workload import builtin
from tokenmill.workload.faults import RowFault
from tokenmill.workload.options import read_options

#: The source of rows handed over in Python.
ROWS = "<rows>"
STDIN = "-"

Endpoint = Literal["chat", "completions"]
FORMATS = ("txt", "jsonl", "json", "episodes", "openai", "csv", "parquet")
SUFFIXES = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Spec(Struct, frozen=True, kw_only=True):
    """An input and how its rows become requests; two equal specs over equal bytes give equal requests.

    `source` is a path, `-` for standard input, `<rows>` for Python rows, or a built-in name; a built-in wins over a
    file of the same name, so such a file is written with `./`. `format` None goes by suffix, then by content.
    `sampling` holds the defaults: a row's own options win. `system` is put in front of every row that has no system
    message of its own. `endpoint`: whether prompts are a user's messages (`chat`) or go to the model as they stand
    (`completions`); None leaves it to the url of batch lines, and is `chat` without one. `split` names the rows to
    take: of a folder the files of that name, else the rows whose field `split` has it, or that `shares` deal to it.
    `sample` takes so many rows by chance. `seed` decides both; None without them. `text_as`: under which name a
    template finds the text of a row that has no such field: its prompt or answer, or its field `text_from`.
    """

    source: str
    format: str | None = None
    prompt_column: str | None = None
    template: str | None = None
    id_column: str | None = None
    system: str | None = None
    limit: int | None = None
    endpoint: Endpoint | None = None
    sampling: Sampling = Sampling()
    bad_rows: Literal["refuse", "fail"] = "refuse"
    split: str | None = None
    shares: dict[str, float] | None = None
    sample: int | None = None
    seed: int | None = None
    text_as: str | None = None
    text_from: str | None = None


def settle(spec: Spec) -> Spec:
    """The spec with a built-in's own defaults filled in; raises `UsageError` for options that can't hold."""
    _check(spec)
    if spec.source != builtin.TEXTS:
        return spec
    given = spec.template is not None or spec.prompt_column is not None
    most = builtin.TEXTS_MAX_TOKENS if spec.sampling.max_tokens is None else spec.sampling.max_tokens
    return replace(
        spec,
        template=spec.template if given else builtin.TEXTS_TEMPLATE,
        id_column=spec.id_column or "id",
        sampling=replace(spec.sampling, max_tokens=most),
    )


def named_format(spec: Spec) -> str | None:
    """The format by option or suffix; None where only the content can tell."""
    if spec.format is not None:
        return spec.format
    if spec.source in (STDIN, ROWS):
        return None
    return SUFFIXES.get(Path(spec.source).suffix.lower())


def _check(spec: Spec) -> None:
    if spec.format is not None and spec.format not in FORMATS:
        raise UsageError(f"format {spec.format!r} is not known; known: {', '.join(FORMATS)}")
    if spec.bad_rows not in ("refuse", "fail"):
        raise UsageError(f"bad rows {spec.bad_rows!r} is not known; known: refuse, fail")
    if spec.limit is not None and spec.limit < 1:
        raise UsageError(f"limit {spec.limit} leaves no rows; give at least 1")
    if spec.template is not None and spec.prompt_column is not None:
        raise UsageError(
            "both a template and a prompt column are given; a template can use the column, so give only it"
        )
    if spec.endpoint not in (None, "chat", "completions"):
        raise UsageError(f"endpoint {spec.endpoint!r} is not known; known: chat, completions")
    if spec.endpoint == "completions" and spec.system is not None:
        raise UsageError("a system message needs a chat; leave out the system message, or use the endpoint chat")
    if spec.format == "openai" and (spec.template is not None or spec.prompt_column is not None):
        raise UsageError("OpenAI batch lines hold their prompt in body; leave out the template and the prompt column")
    if builtin.is_builtin(spec.source) and spec.format is not None:
        raise UsageError(
            f"{spec.source!r} is built in and has no format; a file of that name is written ./{spec.source}"
        )
    check_choice(spec)
    try:
        read_options(asdict(spec.sampling), Sampling(), lenient=False)
    except RowFault as fault:
        raise UsageError(f"default sampling: {fault}") from fault


def check_choice(spec: Spec) -> None:
    """Raises `UsageError` for a choice of rows that can't hold."""
    if spec.sample is not None and spec.sample < 1:
        raise UsageError(f"a sample of {spec.sample} leaves no rows; give at least 1")
    if spec.sample is not None and spec.limit is not None:
        raise UsageError("both a sample and a limit are given; a sample is a limit by chance, so keep one")
    if spec.split is not None and not spec.split.strip():
        raise UsageError("the split has no name; give one such as train, validation or test")
    if spec.shares is None:
        return
    for name, share in spec.shares.items():
        if not name.strip() or not (share > 0 and math.isfinite(share)):
            raise UsageError(f"share {name}={share:g} is no share; write a name and a number above 0, as train=80")
    if spec.split is None:
        raise UsageError(f"shares need a split to take; add --split {next(iter(spec.shares), 'train')}")
    if spec.split not in spec.shares:
        raise UsageError(f"split {spec.split!r} has no share; the shares name {', '.join(spec.shares) or 'none'}")
