"""What a quantization would do or has done, as text or as JSON."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.cli.screen import printable, say, say_json
from tokenmill.quant.layout import COPY
from tokenmill.quant.numbers import size
from tokenmill.quant.quality import Quality
from tokenmill.quant.quantize import Outcome, Plan
from tokenmill.report.numbers import seconds


class TypeLine(Struct, frozen=True, kw_only=True):
    """The tensors that become one type: how many, their weights, and bytes before and after."""

    type: str
    tensors: int
    weights: int
    read: int
    written: int


def type_lines(plan: Plan) -> list[TypeLine]:
    """One for each type of the output, the largest first."""
    found: dict[str, TypeLine] = {}
    for part in plan.chunks.parts:
        placed = part.placed
        name = placed.tensor.element if placed.encoding == COPY else placed.encoding
        before = found.get(name) or TypeLine(type=name, tensors=0, weights=0, read=0, written=0)
        found[name] = TypeLine(
            type=name,
            tensors=before.tensors + 1,
            weights=before.weights + placed.tensor.count,
            read=before.read + part.rows * part.row_size,
            written=before.written + part.rows * sum(part.row_sizes),
        )
    return sorted(found.values(), key=lambda line: -line.written)


def show_plan(plan: Plan, estimated: float, *, as_json: bool) -> None:
    """The answer of `--dry-run`."""
    if as_json:
        say_json(
            {
                "output": str(plan.output.path),
                "types": type_lines(plan),
                "read": plan.chunks.input_size,
                "written": plan.output.size,
                "memory": plan.memory,
                "threads": plan.threads,
                "seconds_without_writing": round(estimated, 3),
                "notes": plan.notes,
            }
        )
        return
    _say_types(plan)
    say(f"reads   {size(plan.chunks.input_size)} of weights")
    say(f"writes  {size(plan.output.size)} to {printable(str(plan.output.path))}, which has room for it")
    say(f"memory  {size(plan.memory)} beside the interpreter, {_threads(plan.threads)}")
    say(f"time    about {seconds(estimated)} by a few chunks of each type; the disk may need longer to write")
    for note in plan.notes:
        say(f"note    {printable(note)}")


def show_outcome(plan: Plan, outcome: Outcome, *, as_json: bool) -> None:
    """What was done."""
    rate = (outcome.read - outcome.earlier) / outcome.seconds if outcome.seconds else 0.0
    if as_json:
        say_json(
            {
                "output": str(outcome.path),
                "types": type_lines(plan),
                "read": outcome.read,
                "read_earlier": outcome.earlier,
                "written": outcome.written,
                "seconds": round(outcome.seconds, 6),
                "bytes_per_second": round(rate),
                "threads": plan.threads,
                "notes": plan.notes,
                "quality": outcome.quality,
            }
        )
        return
    if outcome.quality is not None:
        _say_quality(outcome.quality)
    _say_types(plan)
    earlier = f", {size(outcome.earlier)} of it before" if outcome.earlier else ""
    say(
        f"{size(outcome.read)} of weights{earlier}, in {seconds(outcome.seconds)} ({size(rate)}/s, "
        f"{_threads(plan.threads)}) to {size(outcome.written)}"
    )
    say(f"output: {printable(str(outcome.path))}")


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _say_types(plan: Plan) -> None:
    say(f"{'type':14}{'tensors':>8}{'weights':>16}{'before':>12}{'after':>12}")
    for line in type_lines(plan):
        say(f"{line.type:14}{line.tensors:8}{line.weights:16,}{size(line.read):>12}{size(line.written):>12}")


def _say_quality(found: list[Quality]) -> None:
    """A line for each tensor that lost something, the one that lost most first."""
    lossy = [each for each in found if each.largest]
    width = max([len(each.name) for each in lossy] + [6])
    say(f"{'tensor':{width}}  {'type':8}{'RMSE':>11}{'SQNR dB':>9}{'cosine':>10}{'largest':>11}")
    for each in sorted(lossy, key=lambda each: float("inf") if each.sqnr is None else each.sqnr):
        sqnr = "n/a" if each.sqnr is None else f"{each.sqnr:.1f}"
        cosine = "n/a" if each.cosine is None else f"{each.cosine:.6f}"
        figures = f"{each.rmse:11.3e}{sqnr:>9}{cosine:>10}{each.largest:11.3e}"
        say(printable(f"{each.name:{width}}  {each.encoding:8}{figures}"))
    if len(lossy) < len(found):
        say(f"{len(found) - len(lossy)} other tensors got another type and lost nothing")
    say("")
