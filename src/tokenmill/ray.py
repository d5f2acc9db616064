"""Ray Data as source and sink, for people who have a pipeline.

`map_batches` puts a step into a pipeline that answers a column of prompts; each of its actors holds the engines and
batches whatever is in flight, also across batches. `run` takes a dataset as the input of a run with a record, and
`dataset` makes the answers of a run a dataset again.

    >>> import ray
    >>> import tokenmill.ray
    >>> prompts = ray.data.from_items([{"id": n, "prompt": f"Give me {n} sentences about rivers."} for n in (1, 2)])
    >>> answered = tokenmill.ray.map_batches(prompts, model="demo", id_column="id", max_tokens=40)
    >>> sorted((row["id"], row["failure"]) for row in answered.take_all())
    [(1, None), (2, None)]

What belongs to the actors alone needs pyarrow and Ray: `pip install 'tokenmill[local,ray]'`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tokenmill.driver.api import Answers, chosen_options
from tokenmill.driver.api import run as run_rows
from tokenmill.driver.options import Options, Settings, make_strategy
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.source import derived_seed
from tokenmill.driver.stream import Stream, Word
from tokenmill.errors import UsageError
from tokenmill.event import Answer, SetAside
from tokenmill.record.store import Record, Result
from tokenmill.request import Request
from tokenmill.workload.faults import RowFault
from tokenmill.workload.layout import Layout
from tokenmill.workload.spec import settle

if TYPE_CHECKING:
    import pyarrow
    from ray.data import ActorPoolStrategy, Dataset

#: Rows of one batch. An actor works on several batches at the same time, so its slots stay busy at their borders.
BATCH = 128
#: Rows of a block that `dataset` makes.
BLOCK = 4096
#: What is added to a row; in this order.
COLUMNS = ("answer", "finish_reason", "failure", "failure_message", "prompt_tokens", "output_tokens", "flags")
#: Options of a run that a pipeline's step has no use for: there is no record, no file, and Ray places the actors.
WITHOUT = (
    *("durability", "with_timings", "bad_rows", "format", "limit", "order", "blocks", "nodes_file", "together", "on"),
    *("budget_tokens", "budget_cost", "price_in", "price_out"),
)


class Answering:
    """The callable of `Dataset.map_batches`: adds `COLUMNS` to each batch of tables or of NumPy columns.

    A row that can't be answered has its failure in `failure` and `failure_message`; only what makes every row fail,
    such as a model that isn't there, is raised. One actor holds one of these, and all its batches share the engines.
    """

    def __init__(self, **given: Any) -> None:
        """`given`: as for `map_batches`, without what says how many actors there are."""
        self._prefix = given.pop("prefix", "")
        self._options, self._settings = _step_options(given)
        self._layout = Layout(self._options.workload, "table")
        self._stream = Stream(self._options, _with_share(self._settings))

    async def __call__(self, batch: Any) -> Any:
        rows, columns = _rows_of(batch)
        self._check_columns(columns)
        words: list[Word | None] = [None] * len(rows)
        requests = []
        for number, row in enumerate(rows):
            try:
                requests.append((number, self._request(row, number)))
            except RowFault as fault:
                words[number] = SetAside(number, "refused", str(fault))
        answered = await self._stream.answer([request for _, request in requests])
        for (number, _), word in zip(requests, answered, strict=True):
            words[number] = word
        return _with_words(batch, [word for word in words if word is not None], self._prefix)

    async def close(self) -> None:
        """Ends the engines; an actor that ends takes them along anyway."""
        await self._stream.close()

    def _request(self, fields: dict[str, object], number: int) -> Request:
        row = self._layout.row(fields, custom_id := self._layout.custom_id(fields))
        name = custom_id or hashlib.blake2b(repr((row.prompt, row.messages)).encode(), digest_size=16).hexdigest()
        sampling = row.sampling
        if sampling.temperature > 0 and sampling.seed is None:
            sampling = msgspec.structs.replace(sampling, seed=derived_seed(self._options.seed, name))
        return Request(
            row=number, custom_id=name, prompt=row.prompt, messages=row.messages, sampling=sampling, raw=row.raw
        )

    def _check_columns(self, columns: Sequence[str]) -> None:
        """What would fail each row of every batch, or overwrite the pipeline's own columns."""
        spec = self._options.workload
        missing = [name for name in (spec.prompt_column, spec.id_column) if name is not None and name not in columns]
        if missing:
            raise UsageError(f"the dataset has no column {missing[0]!r}; it has {', '.join(columns)}")
        taken = [name for name in COLUMNS if self._prefix + name in columns]
        if taken:
            raise UsageError(
                f"the dataset has a column {self._prefix + taken[0]!r} already; give prefix=, or drop that column"
            )


def map_batches(
    dataset: Dataset,
    *,
    model: str | None = None,
    nodes: Sequence[str] = (),
    prompt_column: str | None = None,
    batch_size: int = BATCH,
    compute: ActorPoolStrategy | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    prefix: str = "",
    **given: Any,
) -> Dataset:
    """The dataset with an answer for each row, and all that it had before.

    Args:
        model: a model folder, a hub id or `demo`, found by that name on every host that may get an actor.
        nodes: servers and other nodes, each as `KIND:TARGET`; every actor sends to all of them.
        prompt_column: the column of prompts, `prompt` if neither it nor `template` is given.
        compute: how many actors, such as `ray.data.ActorPoolStrategy(size=4)`; one by default.
        num_cpus: processors for each actor, and threads of its engine unless `threads` is given.
        num_gpus: GPUs for each actor; its engine computes there unless `device` says otherwise.
        prefix: in front of the names of the columns that are added.
        given: `template`, `id_column`, `system`, `on_odd`, sampling, engine and retry options as for `tokenmill.run`.

    A row's seed comes from its id, or without an id column from its prompt: batches, order and actors don't matter.

    Raises:
        UsageError: options that can't work. What only a host of the cluster can know is raised when the dataset runs.
    """
    from ray.data import ActorPoolStrategy

    if "template" not in given and prompt_column is None:
        prompt_column = "prompt"
    constructor = given | {"model": model, "nodes": tuple(nodes), "prompt_column": prompt_column}
    _step_options(dict(constructor))
    resources = {} if num_gpus is None else {"num_gpus": num_gpus}
    return dataset.map_batches(
        Answering,
        fn_constructor_kwargs=constructor | {"prefix": prefix},
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=compute or ActorPoolStrategy(size=1),
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
        **resources,
    )


def run(dataset: Dataset, **given: Any) -> Answers:
    """`tokenmill.run` with the rows of a dataset as input: with a record, that is resumed, and a certificate.

    The rows are read once and kept in the run's folder. To resume a run the dataset must give the same rows in the
    same order, as it does with `preserve_order` in the execution options of Ray Data.
    """
    return run_rows(_iterate(dataset), **given)


def dataset(answers: Answers | str | Path) -> Dataset:
    """The answers of a run, or of the folder of one, in input order: `custom_id` and what `map_batches` adds.

    Rows that aren't finished have neither an answer nor a failure.
    """
    import ray.data

    folder = answers.folder if isinstance(answers, Answers) else Path(answers)
    record = Record(folder / RECORD)
    try:
        return ray.data.from_arrow_refs([ray.put(block) for block in _blocks(record.results())])
    finally:
        record.close()


def _step_options(given: dict[str, Any]) -> tuple[Options, Settings]:
    """Options of a pipeline's step; raises `UsageError` for unknown ones and for those of a run with a record."""
    unfit = sorted(given.keys() & set(WITHOUT))
    if unfit:
        raise UsageError(f"map_batches() has no option {unfit[0]!r}; tokenmill.ray.run takes those of a run")
    model, nodes, on_odd = given.pop("model", None), given.pop("nodes", ()), given.pop("on_odd", None) or {}
    if given.get("prompt_column") is None:
        given.pop("prompt_column", None)
    options, settings = chosen_options((), model, nodes, on_odd, given)
    settle(options.workload)
    if not settings.nodes:
        raise UsageError("map_batches() has no node to run on; give model= or nodes=")
    make_strategy(settings, rows=1, seed=options.seed)
    return options, settings


def _with_share(settings: Settings) -> Settings:
    """What Ray gave this actor of its host, where the user didn't say it; outside an actor, all as it is."""
    import ray

    if not ray.is_initialized():
        return settings
    share = ray.get_runtime_context().get_assigned_resources()
    threads = settings.threads or max(1, int(share.get("CPU", 1)))
    device = settings.device or ("cuda" if share.get("GPU") else None)
    return msgspec.structs.replace(settings, threads=threads, device=device)


def _rows_of(batch: Any) -> tuple[list[dict[str, object]], list[str]]:
    if isinstance(batch, dict):
        columns = {name: [_plain(value) for value in values] for name, values in batch.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], list(columns)
    return batch.to_pylist(), list(batch.column_names)


def _plain(value: Any) -> object:
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _with_words(batch: Any, words: list[Word], prefix: str) -> Any:
    added = _columns([_fields(word) for word in words])
    if isinstance(batch, dict):
        import numpy

        objects = {name: numpy.array([None, *column.to_pylist()], dtype=object)[1:] for name, column in added.items()}
        return {**batch, **{prefix + name: column for name, column in objects.items()}}
    for name, column in added.items():
        batch = batch.append_column(prefix + name, column)
    return batch


def _fields(word: Word) -> tuple[object, ...]:
    """One row of `COLUMNS`."""
    if isinstance(word, Answer):
        return word.text, word.finish_reason, None, None, word.prompt_tokens, word.output_tokens, list(word.flags)
    return None, None, word.kind, word.reason, 0, 0, []


def _columns(rows: list[tuple[object, ...]]) -> dict[str, pyarrow.Array]:
    """The columns by name, typed also where every value is missing: blocks must agree."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.int64()
    types = (text, text, text, text, number, number, pyarrow.list_(text))
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    return {
        name: pyarrow.array(list(values), type=kind) for name, values, kind in zip(COLUMNS, columns, types, strict=True)
    }


def _blocks(results: Iterable[Result]) -> Iterator[pyarrow.Table]:
    """Tables of some thousand rows, at least one, so that an empty run has its columns too."""
    import pyarrow

    rows = iter(results)
    first = True
    while (part := list(itertools.islice(rows, BLOCK))) or first:
        first = False
        ids = pyarrow.array([each.custom_id for each in part], type=pyarrow.string())
        yield pyarrow.table({"custom_id": ids, **_columns([_result_fields(each) for each in part])})


def _result_fields(result: Result) -> tuple[object, ...]:
    flags = [flag for flag in result.flags.split(",") if flag]
    tokens = result.prompt_tokens, result.output_tokens
    return result.text, result.finish_reason, result.kind, result.message, *tokens, flags


def _iterate(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for batch in dataset.iter_batches(batch_format="pyarrow", batch_size=BLOCK):
        yield from batch.to_pylist()
