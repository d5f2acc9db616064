"""What a run would be, without running it: rows, tokens, memory, and time where the pace was measured before."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from tokenmill.cluster import EngineFacts
from tokenmill.driver.launching import refuse_slower
from tokenmill.driver.meaning import read_paces
from tokenmill.driver.options import Options, Settings
from tokenmill.driver.prepare import RECORD, located, prepare
from tokenmill.driver.source import RowSource
from tokenmill.driver.survey import survey
from tokenmill.record.folder import read_manifest
from tokenmill.record.store import Record
from tokenmill.report.facts import DevicePace
from tokenmill.workload import Reader

if TYPE_CHECKING:
    from tokenmill.driver.prospect import Outlook


class Forecast(Struct, kw_only=True, omit_defaults=True):
    """`prompt_tokens` are counted by the engine's tokenizer, `output_tokens` predicted from the prompts' words.

    `memory` is bytes per node, 0 if the engine holds none. `seconds` is None where this hardware never ran this
    model, `pace` then says so. `skipped` are dialogs whose answers are too short.
    With a recipe tokens and time are those of the first prompts alone, and `pipeline` says what may follow.
    """

    rows: int
    refused: dict[str, int]
    prompt_tokens: int
    output_tokens: int
    model: str
    slots: int
    context: int | None
    memory: int
    seconds: float | None
    pace: str
    skipped: int = 0
    pipeline: Outlook | None = None


def forecast(options: Options, settings: Settings, runs: Path) -> Forecast:
    """Validates and counts everything as a run would, in a folder that is gone afterwards."""
    facts = [facts for _, facts in survey(options, settings).known]
    refuse_slower(settings, facts[0].digest, runs)
    with tempfile.TemporaryDirectory(prefix="tokenmill-") as temporary:
        folder = prepare(options, settings, runs=Path(temporary), run_id="forecast")
        record = Record(folder / RECORD)
        try:
            counts = record.counts()
            skipped = read_manifest(folder).input.skipped
            prompts, outputs, found = _tokens(folder, record, options, settings)
        finally:
            record.close()
    seconds, pace = _time(facts, read_paces(runs), prompts, outputs)
    return Forecast(
        rows=counts.rows if found is None else found.rows + sum(counts.failed.values()),
        refused=counts.failed,
        prompt_tokens=prompts,
        output_tokens=outputs,
        model=facts[0].model,
        slots=sum(each.slots for each in facts),
        context=facts[0].context,
        memory=facts[0].memory,
        seconds=seconds,
        pace=pace,
        skipped=skipped,
        pipeline=found,
    )


def _tokens(folder: Path, record: Record, options: Options, settings: Settings) -> tuple[int, int, Outlook | None]:
    """Tokens to read and to write, and with a recipe what it would ask."""
    engine, facts = survey(options, settings).first
    prompts, outputs = 0, 0.0
    with Reader(options.asked, located(read_manifest(folder).input, folder)) as reader:
        source = RowSource(record, reader, options)
        for row, predicted, _ in record.unfinished():
            prompts += engine.count(source.fetch(row))
            outputs += predicted
        found = None
        if options.pipeline is not None:
            from tokenmill.driver.prospect import outlook

            rows = read_manifest(folder).rows - sum(record.counts().failed.values())
            found = outlook(options.pipeline, rows, record, source, (engine, facts))
    return prompts, round(outputs), found


def _time(
    facts: list[EngineFacts], known: tuple[DevicePace, ...], prompts: int, outputs: int
) -> tuple[float | None, str]:
    """Reading and writing at the best measured rates, one after the other; loading is not in it."""
    keys = {(each.host, each.device, each.digest) for each in facts}
    paces = [device.pace for device in known if (device.host, device.device, device.digest) in keys]
    prefill, decode = sum(pace.prefill for pace in paces), sum(pace.decode for pace in paces)
    if not prefill or not decode:
        return None, "not measured on this hardware with this model yet"
    seconds = prompts / prefill + outputs / decode
    return seconds, f"{prefill:.4g} prompt tokens/s and {decode:.4g} output tokens/s, the best measured here"
