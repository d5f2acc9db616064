"""Makes an output from a model: plans it, checks it, fills it chunk by chunk, and gives it its name when it is whole.

Whatever ends a run early, the final name never holds half a file. What was done stays beside it, and the same command
goes on with it, also after a kill or a power cut.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from tokenmill.clock import Clock
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.model.files import BadModel
from tokenmill.quant.batch import batch
from tokenmill.quant.chunks import Chunks
from tokenmill.quant.crew import Crew, Progress, Stopped
from tokenmill.quant.encodings import encoding
from tokenmill.quant.files import Files, check_unchanged
from tokenmill.quant.journal import Identity, Journal
from tokenmill.quant.layout import Layout, Options
from tokenmill.quant.machine import cores, free_memory
from tokenmill.quant.numbers import size
from tokenmill.quant.output import Output
from tokenmill.quant.quality import FIGURES, Quality, sum_up
from tokenmill.quant.stream import stream
from tokenmill.quant.tensor import Weights
from tokenmill.quant.work import Work

#: Bytes that a run takes beside headers and the buffers of its threads.
BASE = 8 << 20


class Settings(Struct, frozen=True, kw_only=True):
    """How it is done, which doesn't change a byte of the output; None stands for what suits the machine.

    `force` takes the place of an output that exists and throws away a partial one that was begun otherwise. `report`
    compares what is written with what was read.
    """

    threads: int | None = None
    mode: str = "stream"
    max_memory: int | None = None
    force: bool = False
    report: bool = False


class Plan(Struct, frozen=True, kw_only=True):
    """What would be done: `memory` in bytes beyond that of the interpreter, `notes` for the user."""

    weights: Weights
    layout: Layout
    chunks: Chunks
    output: Output
    threads: int
    memory: int
    notes: tuple[str, ...]


class Outcome(Struct, frozen=True, kw_only=True):
    """What was done in `seconds`: bytes of weights read, of which `earlier` by runs before, and bytes of the output."""

    path: Path
    read: int
    earlier: int
    written: int
    seconds: float
    quality: list[Quality] | None


class Interrupted(TokenmillError):
    """Stopped on request; what is done is kept."""

    exit_code = 4


def make_plan(weights: Weights, layout: Layout, out: Path, settings: Settings) -> Plan:
    """A plan that fits into memory; raises `UsageError` if there is none."""
    chunks = Chunks(layout, encoding)
    each = sum(chunks.buffer_sizes)
    fixed = BASE + sum(len(file.header) for file in layout.files)
    free = free_memory()
    if settings.mode == "batch":
        fixed += chunks.input_size + chunks.output_size
    limit = min((bytes_ for bytes_ in (settings.max_memory, free) if bytes_ is not None), default=None)
    asked = settings.threads or cores()
    threads = min(asked, max(1, chunks.count))
    notes = layout.notes
    if limit is not None:
        if fixed + each > limit:
            raise UsageError(_too_large(settings, fixed + each, limit))
        fitting = (limit - fixed) // max(1, each)
        if fitting < threads:
            notes += (f"{fitting} threads instead of {threads}, because of the memory of {size(limit)}",)
            threads = fitting
    return Plan(
        weights=weights,
        layout=layout,
        chunks=chunks,
        output=Output(out, layout, force=settings.force),
        threads=threads,
        memory=fixed + threads * each,
        notes=notes,
    )


def _too_large(settings: Settings, needed: int, limit: int) -> str:
    whose = "allowed by --max-memory" if limit == settings.max_memory else "free"
    remedy = "use --mode stream" if settings.mode == "batch" else f"allow at least {size(needed)}"
    return f"mode {settings.mode} is n/a: it takes {size(needed)} and {size(limit)} are {whose}; {remedy}"


def quantize(
    plan: Plan,
    options: Options,
    settings: Settings,
    *,
    version: str,
    watch: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    clock: Clock,
) -> Outcome:
    """Carries a plan out; `version` is that of the program, as another may write other bytes.

    Raises:
        UsageError: the output can't be made there.
        BadModel: the weights can't be quantized; nothing is kept.
        DiskFault, Interrupted: it can be gone on with.
    """
    start = clock.now()
    try:
        stats = tuple(path.stat() for path in plan.weights.files)
        identity = _identity(plan, options, settings, stats, version)
    except OSError as error:
        raise BadModel(f"{error.filename}: can't be read ({error.strerror}); put the file back") from error
    whole = _published(plan.output, identity, plan.chunks.count)
    if not whole:
        plan.output.check(plan.weights.files)
        plan.output.check_space()
    journal = Journal.open(plan.output.journal)
    try:
        figures = FIGURES if settings.report else 0
        if whole or _is_begun(plan.output, journal.read(), identity, force=settings.force):
            journal.go_on(identity, plan.chunks.count, figures)
        else:
            plan.output.discard()
            journal.begin(identity, plan.chunks.count, figures)
        earlier = sum(chunk.input_size for number, chunk in enumerate(plan.chunks) if journal.done[number])
        if not whole:
            crew = Crew(plan.threads, watch=watch, should_stop=should_stop, clock=clock)
            crew.expect(plan.chunks.input_size, earlier)
            _make(plan, journal, settings, stats, crew)
        journal.remove()
        quality = sum_up(plan.chunks, journal.figures) if settings.report else None
    finally:
        journal.close()
    return Outcome(
        path=plan.output.path,
        read=plan.chunks.input_size,
        earlier=earlier,
        written=plan.output.size,
        seconds=clock.now() - start,
        quality=quality,
    )


def _published(output: Output, identity: Identity, chunks: int) -> bool:
    """Whether an earlier run gave this very output its name and was ended before it could clear away its journal."""
    if not output.journal.exists() or not output.path.exists() or output.partial.exists():
        return False
    journal = Journal.open(output.journal)
    try:
        if journal.read() != identity:
            return False
        journal.go_on(identity, chunks)
        return bool(journal.done.all())
    finally:
        journal.close()


def _is_begun(output: Output, found: Identity | None, identity: Identity, *, force: bool) -> bool:
    """Whether there is a partial output to go on with; refuses to throw one away that was begun otherwise."""
    if found is None or not output.is_begun():
        return False
    if found == identity:
        return True
    if force:
        return False
    differing = {
        "version": f"by tokenmill {found.version}",
        "inputs": "when the input files were others, or had other times",
        "options": f"with other options ({found.options})",
        "layout": "with another layout",
    }
    how = next(text for field, text in differing.items() if getattr(found, field) != getattr(identity, field))
    raise UsageError(
        f"{output.partial} was begun {how}; start over with --force, go on as it was begun, or name another output"
    )


def _make(plan: Plan, journal: Journal, settings: Settings, stats: tuple[os.stat_result, ...], crew: Crew) -> None:
    """Fills the output and publishes it; what can't become an output is thrown away."""
    plan.output.begin()
    free = free_memory()
    forget = free is not None and plan.chunks.input_size > free // 2
    files = Files(plan.weights.files, plan.output.files, forget=forget)
    try:
        plan.output.fill(files)
        work = Work(plan.chunks, files, journal, report=settings.report)
        (batch if settings.mode == "batch" else stream)(work, crew)
        check_unchanged(plan.weights, stats)
        files.close()
        plan.output.publish()
    except BadModel:
        plan.output.discard()
        journal.remove()
        raise
    except Stopped as error:
        share = 100 * sum(journal.done.tolist()) // max(1, plan.chunks.count)
        raise Interrupted(f"interrupted at {share} %; what is done is kept in {plan.output.partial}") from error
    finally:
        files.close()


def _identity(
    plan: Plan, options: Options, settings: Settings, stats: tuple[os.stat_result, ...], version: str
) -> Identity:
    inputs = []
    for number, (path, stat) in enumerate(zip(plan.weights.files, stats, strict=True)):
        header = min((tensor.offset for tensor in plan.weights.tensors if tensor.file == number), default=0)
        inputs.append((path.name, stat.st_size, stat.st_mtime_ns, _digest_of(path, header)))
    stated = msgspec.json.encode(options).decode() + (" with a report" if settings.report else "")
    return Identity(version=version, inputs=tuple(inputs), options=stated, layout=_digest(plan.layout))


def _digest_of(path: Path, length: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while length > 0 and (piece := file.read(min(length, 1 << 20))):
            found.update(piece)
            length -= len(piece)
    return found.hexdigest()


def _digest(layout: Layout) -> str:
    """Of all that says where bytes go, and of the bytes that are known beforehand."""
    found = hashlib.sha256(b"folder" if layout.is_folder else b"file")
    for file in layout.files:
        found.update(f"{file.name} {file.size} {len(file.header)} ".encode() + file.header)
    for each in (*layout.placed, *layout.literals):
        found.update(msgspec.json.encode(each))
    return found.hexdigest()
