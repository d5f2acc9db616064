"""Shows a forecast: the answer to `run --dry-run`."""

from __future__ import annotations

from tokenmill.cli.screen import printable, say, say_json
from tokenmill.driver.forecast import Forecast


def show(forecast: Forecast, *, as_json: bool) -> None:
    """Facts, one a line, on stdout."""
    if as_json:
        say_json(forecast)
        return
    refused = ", ".join(f"{number} {kind}" for kind, number in forecast.refused.items())
    lines = {
        "rows": f"{forecast.rows}" + (f" ({refused} would fail unsent)" if refused else ""),
        "prompt tokens": f"{forecast.prompt_tokens}",
        "output tokens": f"about {forecast.output_tokens}, predicted from the prompts",
        "model": forecast.model,
        "slots": f"{forecast.slots}",
        "context": f"{forecast.context} tokens" if forecast.context else "unlimited",
        "memory": f"{forecast.memory / 2**20:.1f} MiB per node" if forecast.memory else "none of its own",
        "time": f"about {forecast.seconds:.3g} s plus loading" if forecast.seconds is not None else "n/a",
        "pace": forecast.pace,
    }
    for name, value in lines.items():
        say(printable(f"{name:14} {value}"))
    say("nothing was sent")
