"""`tokenmill explain`: the whole story of one request."""

from __future__ import annotations

from pathlib import Path

import click

from tokenmill.cli.options import AS_JSON, RUNS_DIR
from tokenmill.cli.screen import printable, say, say_json
from tokenmill.driver.prepare import RECORD
from tokenmill.errors import UsageError
from tokenmill.event import Attempt
from tokenmill.record.folder import find, read_manifest, runs_folder
from tokenmill.record.store import Record, Result


@click.command()
@click.argument("run")
@click.argument("custom_id")
@RUNS_DIR
@AS_JSON
def command(run: str, custom_id: str, runs_dir: Path | None, as_json: bool) -> None:
    """Tells which node answered request CUSTOM_ID of RUN, in how many attempts, with what waits, widths and tokens.

    In a run with a recipe the whole story of its input row follows: every prompt, its items, scores and reasons.

    \b
    Example:
      tokenmill explain last row-7
    """
    folder = find(runs_folder(runs_dir), run)
    manifest = read_manifest(folder)
    record = Record(folder / RECORD)
    try:
        row = record.find_custom_id(custom_id)
        if row is None:
            known = f"such as {record.place(0).custom_id!r}, are in its input and its answers"
            raise UsageError(f"run {folder.name} has no request {custom_id!r}; ids, {known}")
        result, attempts = record.result_of(row), record.attempts_of(row)
        names = {(session, number): name for session, number, name, _ in record.nodes()}
    finally:
        record.close()
    tale = None
    if manifest.options.get("pipeline"):
        from tokenmill.driver import tale as tales

        tale = tales.tale_of(folder, manifest, row)
    if as_json:
        told = [{"node": names.get((a.session, a.node)), "message": text, "attempt": a} for a, text in attempts]
        story = {"story": tales.data(tale)} if tale is not None else {}
        say_json({"result": result, "attempts": told, **story})
        return
    say(printable(_headline(result)))
    for attempt, message in attempts:
        name = names.get((attempt.session, attempt.node), f"node {attempt.node}")
        say(printable(_story(attempt, name, message)))
    for line in tales.lines(tale) if tale is not None else ():
        say(printable(line))


def _headline(result: Result) -> str:
    born = result.parent is not None  # in a run with a recipe, of an answer to an earlier prompt
    at = f"{result.custom_id}: row {result.row}, {'born during the run' if born else f'line {result.line}'}"
    if result.text is not None:
        flags = f", flags {result.flags}" if result.flags else ""
        return f"{at}; answered with {result.output_tokens} tokens, ended by {result.finish_reason}{flags}"
    if result.kind is not None:
        return f"{at}; failed: {result.kind}, {result.message}"
    return f"{at}; not finished yet"


def _story(attempt: Attempt, node: str, message: str) -> str:
    latency = attempt.finished - attempt.dispatched
    parts = [
        f"attempt {attempt.lease} (session {attempt.session}) on {node}: {attempt.outcome}",
        f"waited {attempt.dispatched:.3f} s",
        f"took {latency:.3f} s",
    ]
    if attempt.first_token is not None:
        parts.append(f"first token after {attempt.first_token - attempt.dispatched:.3f} s")
    if attempt.output_tokens:
        about = "" if attempt.outcome == "answered" else "about "
        parts.append(f"{about}{attempt.prompt_tokens} prompt and {attempt.output_tokens} output tokens")
    if attempt.width_max:
        parts.append(f"batch width mean {attempt.width_mean:.1f}, most {attempt.width_max}")
    if attempt.kind:
        parts.append(f"{attempt.kind}: {message}")
    return "  " + "; ".join(parts)
