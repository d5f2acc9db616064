"""Time, throughput and the times of single requests, over the attempts that became answers."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from tokenmill.report.measure import Measure, Spread, spread
from tokenmill.report.states import States
from tokenmill.report.timeline import Timeline


class Metrics(Struct, frozen=True, kw_only=True):
    """The plain figures of a run; see `definitions` for what each means."""

    makespan: Measure
    makespan_without_loading: Measure
    requests_per_second: Measure
    output_tokens_per_second: Measure
    prompt_tokens: int
    output_tokens: int
    ttft: Spread
    itl: Spread
    itl_mean: Measure
    itl_max: Measure
    tpot: Spread
    latency: Spread
    wait: Spread


def metrics(timeline: Timeline, states: States) -> Metrics:
    """Everything the run was, without judging it."""
    answered = sum(1 for _ in timeline.answered())
    prompt = sum(timeline.prompt[index] for index in timeline.answered())
    output = sum(timeline.output[index] for index in timeline.answered())
    whole = "no answer came in more than one piece"
    return Metrics(
        makespan=Measure(timeline.makespan, "s"),
        makespan_without_loading=Measure(max(0.0, timeline.makespan - states.only_loading), "s"),
        requests_per_second=_rate(answered, timeline.makespan, "requests/s", "no request was answered"),
        output_tokens_per_second=_rate(output, timeline.makespan, "tokens/s", "no output token was counted"),
        prompt_tokens=prompt,
        output_tokens=output,
        ttft=spread(_ttft(timeline), "s", "no first token was seen"),
        itl=spread((timeline.gap[index] for index in timeline.answered()), "s", whole),
        itl_mean=_rate(timeline.itl_sum, timeline.itl_gaps, "s", whole),
        itl_max=Measure(timeline.itl_max, "s") if timeline.itl_gaps else Measure(None, "s", whole),
        tpot=spread(_tpot(timeline), "s", "no answer was seen to come token by token"),
        latency=spread(_latency(timeline), "s", "no request was answered"),
        wait=_wait(timeline),
    )


def _rate(amount: float, over: float, unit: str, nothing: str) -> Measure:
    return Measure(amount / over, unit) if amount > 0 and over > 0 else Measure(None, unit, nothing)


def _ttft(timeline: Timeline) -> Iterator[float]:
    return (timeline.first[index] - timeline.dispatched[index] for index in timeline.answered())


def _latency(timeline: Timeline) -> Iterator[float]:
    return (timeline.finished[index] - timeline.dispatched[index] for index in timeline.answered())


def _tpot(timeline: Timeline) -> Iterator[float]:
    for index in timeline.answered():
        if timeline.output[index] > 1 and timeline.streamed[index]:
            yield (timeline.finished[index] - timeline.first[index]) / (timeline.output[index] - 1)


def _wait(timeline: Timeline) -> Spread:
    if timeline.facts.arrivals:
        return spread((), "s", "rows arrived during the run")
    return spread((timeline.dispatched[index] for index in timeline.answered()), "s", "no request was answered")
