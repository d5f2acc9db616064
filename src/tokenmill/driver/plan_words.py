"""What a plan for stated devices says in words: the arithmetic, the verdict, and what it takes for granted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tokenmill.plan.layout import PASS_TOKENS
from tokenmill.plan.shape import FORMATS
from tokenmill.plan.sizes import show_size, show_stated, show_token, two_digits
from tokenmill.report.numbers import figure, seconds

if TYPE_CHECKING:
    from tokenmill.driver.plan_gpus import Asked, GpuPlan, Placed

#: Less than this share of time isn't called a difference.
SAME = 0.02


def sizes_of(plan: GpuPlan) -> Iterator[str]:
    """What there is, what the weights take, and what is left for the sequences."""
    yield (
        f"{plan.model} as {plan.dtype}: {figure(plan.parameters)} parameters, {show_size(plan.weights)} of weights; "
        f"a token passes {figure(plan.passed)} of them and leaves {show_token(plan.kv_token)} of keys and values"
    )
    if plan.left:
        yield (
            f"{_many(plan.devices)}: {show_stated(plan.memory)} in all, less {show_size(plan.weights)} of weights "
            f"({show_size(plan.even)} a device, were it even), leave {show_size(plan.left)} "
            f"({show_size(plan.left_even)} a device) for keys and values, activations and buffers: "
            f"{figure(plan.left / plan.kv_token)} tokens, or {plan.sequences} sequences of {plan.tokens} tokens"
        )
    else:
        yield (
            f"{_many(plan.devices)}: {show_stated(plan.memory)} in all, which is less than one copy of the weights "
            f"({show_size(plan.weights)})"
        )


def answers_of(plan: GpuPlan) -> Iterator[str]:
    """The verdict, and of each other layout what it would take."""
    if not plan.layouts:
        yield (
            f"impossible: no layout of {plan.model} as {plan.dtype} fits {show_stated(plan.memory)} on {plan.devices} "
            "devices with even one sequence; take a smaller number format with --dtype, or more or larger devices"
        )
        return
    replicas = any(each.tp == each.stages == 1 for each in plan.layouts)
    best = plan.layouts[0]
    if not replicas:
        yield "one copy a device is impossible, so the devices have to share the work of one"
    if best.makespan is None:
        roomiest = max(plan.layouts, key=lambda each: each.batch * each.replicas)
        yield (
            f"{roomiest.name} holds most sequences at a time, {roomiest.batch * roomiest.replicas}; which layout is "
            f"quickest is {best.note}"
        )
    else:
        yield _verdict(best)
        yield from (_against(each, best) for each in plan.layouts[1:])
    if any(each.stages > 1 for each in plan.layouts):
        yield (
            "layers over several devices: without microbatches one of them is busy at a time, so they hold more "
            "sequences and aren't faster than one device with as much memory"
        )


def _verdict(best: Placed) -> str:
    assert best.makespan is not None
    assert best.alone is not None
    assert best.together is not None
    gain = best.together / (best.alone * best.replicas)
    idle = f"; {_many(best.idle)} idle" if best.idle else ""
    batch = f"batches of up to {best.batch}" if best.batch > 1 else "one sequence at a time"
    more = "no more" if gain < 1 + SAME else f"{two_digits(gain)} times as many"
    as_one = "than" if gain < 1 + SAME else "as"
    return (
        f"quickest: {best.name}, {seconds(best.makespan)} with true {batch}, which write {more} tokens per second "
        f"{as_one} one request after the other{idle}"
    )


def _many(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _against(each: Placed, best: Placed) -> str:
    if each.makespan is None or best.makespan is None:
        return f"{each.name}: {each.note}"
    more = each.makespan / best.makespan
    said = "takes as long" if more < 1 + SAME else f"takes {100 * (more - 1):.0f} % longer"
    if more >= 2:
        said = f"takes {two_digits(more)} times as long"
    between = each.between or 0.0
    spent = f"; {100 * between:.0f} % of a full step is communication" if between >= SAME else ""
    return f"{each.name} {said} ({seconds(each.makespan)}){spent}"


def assumed_of(plan: GpuPlan, asked: Asked) -> Iterator[str]:
    """What the figures take for granted."""
    weight, element = FORMATS[plan.dtype]
    yield (
        f"a weight takes {8 * weight:g} bits, scales of quantized ones not counted; what is computed, keys and values "
        f"take {8 * element}. Source of the sizes: {plan.source}"
    )
    yield (
        f"a pass takes {PASS_TOKENS} tokens of prompts, or one of each sequence if these are more; no memory is kept "
        "back for drivers and buffers beyond that"
    )
    if plan.rows is None:
        yield f"sequences are as long as the model's context, {plan.tokens} tokens; --requests says how long they are"
    else:
        yield (
            f"every sequence may become as long as the longest, {plan.tokens} tokens with its prompt; answers are as "
            "long as the prompts' words promise, and what the model really writes may differ"
        )
    if any(each.makespan is not None for each in plan.layouts):
        yield from _timed(plan, asked)


def _timed(plan: GpuPlan, asked: Asked) -> Iterator[str]:
    yield f"pace: {plan.paced_by}; a step reads every weight it needs, and the keys and values of each sequence, once"
    if asked.link is not None:
        yield (
            f"link: {asked.link.rate / 1e9:g} GB/s and {asked.link.latency * 1e6:g} us a message, stated; tensor "
            "parallel sums each layer twice over a ring that sends 2 (p - 1) / p of the bytes (Patarasuk and Yuan, "
            "2009; Shoeybi et al., arXiv:1909.08053)"
        )
    if not all(group.compute for group in asked.groups):
        yield (
            "operations cost nothing and prompts are read in no time, as no --compute is stated: with large batches "
            "and long prompts the times are too short"
        )
    yield "nothing fails, no second attempts are made, and the model is loaded"
