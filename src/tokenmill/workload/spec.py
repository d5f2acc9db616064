"""What the user asked for: everything that shapes the requests of one run."""

from __future__ import annotations

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
FORMATS = ("txt", "jsonl", "openai", "csv", "parquet")
SUFFIXES = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
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
    (`completions`); None leaves it to the url of batch lines, and is `chat` without one.
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
    try:
        read_options(asdict(spec.sampling), Sampling(), lenient=False)
    except RowFault as fault:
        raise UsageError(f"default sampling: {fault}") from fault
