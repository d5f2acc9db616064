"""Shows a forecast: the answer to `run --dry-run`."""

from __future__ import annotations

from tokenmill.cli.screen import printable, say, say_json
from tokenmill.driver.forecast import Forecast
from tokenmill.driver.prospect import Outlook
from tokenmill.pipeline.prospect import Prospect
from tokenmill.workload.episodes import skipped_words

#: Letters of a prompt that are shown.
SHOWN = 4000
FIRST = ", of the first prompts alone"


def show(forecast: Forecast, *, as_json: bool) -> None:
    """Facts, one a line, on stdout."""
    if as_json:
        say_json(forecast)
        return
    refused = ", ".join(f"{number} {kind}" for kind, number in forecast.refused.items())
    lines = {
        **(_recipe(forecast.pipeline) if forecast.pipeline is not None else {}),
        "rows": f"{forecast.rows}" + (f" ({refused} would fail unsent)" if refused else ""),
        **({"skipped": skipped_words(forecast.skipped)} if forecast.skipped else {}),
        "prompt tokens": f"{forecast.prompt_tokens}",
        "output tokens": f"about {forecast.output_tokens}, predicted from the prompts",
        "model": forecast.model,
        "slots": f"{forecast.slots}",
        "context": f"{forecast.context} tokens" if forecast.context else "unlimited",
        "memory": f"{forecast.memory / 2**20:.1f} MiB per node" if forecast.memory else "none of its own",
        "time": f"about {forecast.seconds:.3g} s plus loading" if forecast.seconds is not None else "n/a",
        "pace": forecast.pace,
    }
    if forecast.pipeline is not None:  # what follows the first prompts depends on their answers
        for name in ("prompt tokens", "output tokens", "time"):
            lines[name] += FIRST if lines[name] != "n/a" else ""
    for name, value in lines.items():
        say(printable(f"{name:14} {value}"))
    if forecast.pipeline is not None:
        _say_prompts(forecast.pipeline)
    say("nothing was sent")


def _recipe(outlook: Outlook) -> dict[str, str]:
    """What a recipe would ask: its stages, and the least and the most prompts."""
    lines = {"recipe": outlook.recipe}
    for number, stage in enumerate(outlook.stages):
        lines["stages" if not number else " " * number] = _stage(stage)
    most = "and no fixed most: an answer may hold any number of items" if outlook.most is None else ""
    lines["prompts"] = f"at least {outlook.least:,} {most or f'and at most {outlook.most:,}'}, retries aside"
    lines["embedding"] = outlook.embedding or "none"
    if outlook.is_continued:
        lines["chat"] = "none: this model has no chat template, so it continues each prompt as it stands"
    return lines


def _stage(stage: Prospect) -> str:
    samples = f"{stage.samples} prompts" if stage.samples > 1 else "1 prompt"
    rounds = f"up to {stage.rounds} rounds" if stage.rounds > 1 else "1 round"
    of = f" {'judging' if stage.judges else 'about'} each item of {stage.about!r}" if stage.about else ""
    wanted = ", ".join(f"{count} {role}" for role, count in stage.targets.items() if count)
    return f"{stage.stage}: {rounds} of {samples}{of}{f', wants {wanted}' if wanted else ''}"


def _say_prompts(outlook: Outlook) -> None:
    """The first prompt as it would be sent, line by line."""
    for what, text in (("system message", outlook.system), (f"first prompt, of {outlook.sample_id}", outlook.sample)):
        if text:
            cut = text[:SHOWN]
            say(printable(f"{what}:"))
            say("\n".join(f"    {printable(line)}" for line in cut.splitlines()))
            if len(text) > SHOWN:
                say(f"    ... and {len(text) - SHOWN:,} characters more")
