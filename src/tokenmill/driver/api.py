"""`tokenmill.run`: what the command does, for scripts and notebooks, with the same record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tokenmill.driver.driver import Driver
from tokenmill.driver.options import Options, Settings, absolute, named_nodes, settled_node
from tokenmill.driver.prepare import RECORD, prepare
from tokenmill.driver.resume import refuse_changes, refuse_other_rows
from tokenmill.driver.session import Outcome, Watcher, execute
from tokenmill.driver.source import Follow
from tokenmill.errors import UsageError
from tokenmill.pipeline.recipe import Recipe
from tokenmill.record.folder import read_manifest, runs_folder
from tokenmill.record.store import Record, Result
from tokenmill.report.certificate import Certificate
from tokenmill.request import Sampling
from tokenmill.validate.quote import shown
from tokenmill.workload import ROWS

T = TypeVar("T")
SAMPLING = tuple(Sampling.__struct_fields__)
WORKLOAD = (
    *("format", "prompt_column", "template", "id_column", "system", "endpoint", "bad_rows"),
    *("limit", "split", "shares", "sample"),
)
ANSWERS = ("dtype", "context", "seed")


class Answers:
    """The results of a run in input order, read from its record; iterating twice reads twice."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __iter__(self) -> Iterator[Result]:
        record = Record(self.folder / RECORD)
        try:
            yield from record.results()
        finally:
            record.close()

    def __len__(self) -> int:
        return self._outcome.counts.rows

    @property
    def texts(self) -> list[str | None]:
        """The answers alone; None for a request that failed or isn't finished."""
        return [result.text for result in self]

    @property
    def run_id(self) -> str:
        return self._outcome.manifest.run_id

    @property
    def folder(self) -> Path:
        return self._outcome.folder

    @property
    def is_complete(self) -> bool:
        """Whether every row has its final word; else the run was stopped and resumes under its id."""
        return self._outcome.counts.unfinished == 0

    @property
    def failed(self) -> dict[str, int]:
        """Failed requests by class."""
        return self._outcome.counts.failed

    @property
    def output(self) -> Path | None:
        """The file of answers, None while the run isn't complete."""
        return self._outcome.output

    @property
    def certificate(self) -> Certificate | None:
        return self._outcome.certificate


def run(
    rows: str | Path | Iterable[str | dict[str, Any]],
    *,
    model: str | None = None,
    nodes: Sequence[str] = (),
    output: str | Path | None = None,
    runs_dir: str | Path | None = None,
    run_id: str | None = None,
    resume: bool = False,
    follow: Follow | None = None,
    on_odd: dict[str, str] | None = None,
    watcher: Watcher | None = None,
    pipeline: Recipe | str | Path | None = None,
    **options: Any,
) -> Answers:
    """Answers every row and returns when all are answered, or when it was interrupted.

    Args:
        rows: a file name or built-in set as the command takes it, or prompts (`str`) and rows (`dict`) themselves.
        model: a model folder, a hub id or `demo`; the same as the node `local:MODEL`.
        nodes: where to run, each as `KIND:TARGET`.
        run_id: a name for the run; with `resume=True` a run of that name goes on if there is one.
        follow: called with each request and the text of its answer; the rows it returns join the run at once, in the
            same transaction as the answer, so a crash loses neither. It must be quick and give the same rows again.
        on_odd: what to do with answers that are `empty`, reach their `length`, end in `repetition`, are `filtered`,
            or answer a prompt that was `cut`.
        pipeline: a recipe, its name, or its file: rows become a data set (see docs/pipelines.md). It goes without
            `follow`.
        options: sampling (`max_tokens`, `temperature`, ...), workload (`template`, `prompt_column`, ...), engine
            (`dtype`, `context`, `slots`, `threads`, ...) and run (`strategy`, `order`, `durability`, ...) as for the
            command, with underscores.

    Raises:
        TokenmillError: bad input or options; nothing was sent.
    """
    chosen, settings = chosen_options(rows, model, nodes, on_odd or {}, dict(options))
    if pipeline is not None:
        if follow is not None:
            raise UsageError("run(): a recipe says what follows an answer; leave follow out")
        chosen = msgspec.structs.replace(chosen, pipeline=_recipe(pipeline))
    runs = runs_folder(Path(runs_dir) if runs_dir is not None else None)
    named = runs / run_id if run_id is not None else None
    old = named if resume and named is not None and named.exists() else None
    given = None if isinstance(rows, str | Path) else rows
    if old is not None:
        manifest = read_manifest(old)
        refuse_changes(manifest, chosen)
        if given is not None:
            refuse_other_rows(manifest, chosen, given)
    else:
        target = Path(output) if output is not None else None
        folder = prepare(chosen, settings, runs=runs, run_id=run_id, output=target, rows=given)
    return Answers(_execute(old or folder, settings, watcher, follow, surveyed=old is None))


def _recipe(given: Recipe | str | Path) -> Recipe:
    from tokenmill.pipeline.read import check, load

    if not isinstance(given, Recipe | str | Path):
        raise UsageError(f"run(): pipeline={shown(repr(given))} is neither a Recipe, nor its name, nor its file")
    found = check(given) if isinstance(given, Recipe) else load(str(given))
    if found.embedding is None:
        return found
    return msgspec.structs.replace(found, embedding=settled_node(found.embedding))


def chosen_options(
    rows: object, model: str | None, nodes: Sequence[str], on_odd: dict[str, str], given: dict[str, Any]
) -> tuple[Options, Settings]:
    known = (*SAMPLING, *WORKLOAD, *ANSWERS, *Settings.__struct_fields__)
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise UsageError(f"run() has no option {unknown[0]!r}; known: {', '.join(sorted(known))}")
    source = absolute(str(rows)) if isinstance(rows, str | Path) else ROWS
    data = {
        "workload": _pick(given, WORKLOAD) | {"source": source, "sampling": _pick(given, SAMPLING)},
        "acceptance": on_odd,
    } | _pick(given, ANSWERS)
    if given.get("shares") is not None or given.get("sample") is not None:
        data["workload"]["seed"] = given.get("seed", 0)
    if "seed" in given:  # a run's seed is the seed of every row's own
        data["workload"]["sampling"].pop("seed")
    chosen = _pick(given, Settings.__struct_fields__) | {"model": model, "nodes": named_nodes(model, nodes)}
    return _convert(data, Options), _convert(chosen, Settings)


def _pick(given: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _convert(data: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"run(): {error}") from error


def _execute(
    folder: Path, settings: Settings, watcher: Watcher | None, follow: Follow | None, *, surveyed: bool
) -> Outcome:
    """In this thread if it has no event loop yet; in a notebook, whose loop is running, in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return execute(folder, settings=settings, watcher=watcher, follow=follow, surveyed=surveyed)
    return _in_thread(folder, settings, watcher, follow, surveyed=surveyed)


def _in_thread(
    folder: Path, settings: Settings, watcher: Watcher | None, follow: Follow | None, *, surveyed: bool
) -> Outcome:
    started: list[tuple[Driver, asyncio.AbstractEventLoop]] = []
    with ThreadPoolExecutor(1, "tokenmill-run") as pool:
        outcome = pool.submit(
            execute,
            folder,
            settings=settings,
            watcher=watcher,
            follow=follow,
            on_start=lambda driver, loop: started.append((driver, loop)),
            surveyed=surveyed,
        )
        while True:
            try:
                return outcome.result()
            except KeyboardInterrupt:
                for driver, loop in started:
                    loop.call_soon_threadsafe(driver.stop, settings.grace)
