"""The core's promises to whoever drives it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.local.reference_models import answer, make_core, make_reference, outputs_of, ragged_requests
from tokenmill.engine.local.core import Core
from tokenmill.errors import EngineError
from tokenmill.request import Sampling


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return make_reference("qwen3", "fp64")


def last(core: Core) -> dict[int, str | None]:
    """How each request ended."""
    return {output.key: output.finish for output in outputs_of(core)}


def test_an_end_token_stops_and_a_limit_ends_in_length(model: Any) -> None:
    """The token before the end is the same, the end token is marked as such, and a limit is said to be one."""
    free = answer(make_core(model, "fp64", 1), [([1, 2, 3], Sampling(max_tokens=12), 0)])[0]
    end = free[7]
    core = make_core(model, "fp64", 1, eos_ids=(5000, end))
    core.submit(4, [1, 2, 3], Sampling(max_tokens=12), 0)

    outputs = list(outputs_of(core))

    place = free.index(end)
    assert [output.token for output in outputs] == free[: place + 1]
    assert [output.finish for output in outputs] == [None] * place + ["stop"]
    assert last(_with(make_core(model, "fp64", 1), Sampling(max_tokens=3))) == {0: "length"}


def _with(core: Core, sampling: Sampling) -> Core:
    core.submit(0, [1, 2, 3], sampling, 0)
    return core


def test_without_a_limit_the_context_is_filled(model: Any) -> None:
    """An answer without a limit goes on to the end of the context and ends in length there."""
    core = _with(make_core(model, "fp64", 1), Sampling())

    outputs = list(outputs_of(core))

    assert 3 + len(outputs) == core.plan.context
    assert outputs[-1].finish == "length"


def test_a_cancelled_request_says_no_more_and_its_slot_goes_on(model: Any) -> None:
    """After a cancel no output names the request, and the next in the queue has its slot in the next step."""
    core = make_core(model, "fp64", 1)
    for key in range(3):
        core.submit(key, [key + 1, 2], Sampling(max_tokens=4, temperature=0.5), key)
    assert [output.key for output in core.step().outputs] == [0]

    core.cancel(0)
    core.cancel(2)
    core.cancel(99)

    assert [output.key for output in core.step().outputs] == [1]
    assert set(last(core)) == {1}
    assert not core.has_work


def test_a_step_says_how_many_ran_together(model: Any) -> None:
    """The width of a step is the number of sequences in its pass, and 0 when there is nothing to do."""
    core = make_core(model, "fp64", 4)
    for key, (prompt, _) in enumerate(ragged_requests(6, seed=1)):
        core.submit(key, prompt, Sampling(max_tokens=2 + key), 0)

    widths = []
    while core.has_work:
        widths.append(core.step().width)

    assert max(widths) == 4
    assert core.step().width == 0


def test_a_prompt_read_in_several_passes_gives_the_same_tokens(model: Any) -> None:
    """How a prompt is cut into pieces changes nothing."""
    requests = [([(7 * place) % 300 for place in range(length)], Sampling(max_tokens=9), 0) for length in (150, 3, 90)]
    whole = make_core(model, "fp64", 3)
    pieces = make_core(model, "fp64", 3)
    pieces._batcher.prefill_tokens = 17

    assert answer(pieces, requests) == answer(whole, requests)


@pytest.mark.parametrize(
    ("prompt", "sampling", "kind", "said"),
    [
        ([], Sampling(), "refused", "no tokens"),
        ([307], Sampling(), "refused", "vocabulary of 307"),
        ([1], Sampling(max_tokens=0), "refused", "max_tokens 0"),
        ([1] * 192, Sampling(max_tokens=1), "too_long", "192 tokens and 192 fit"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    model: Any, prompt: list[int], sampling: Sampling, kind: str, said: str
) -> None:
    """A request that has no place is an error of that request alone, and says why."""
    core = make_core(model, "fp64", 2)

    with pytest.raises(EngineError, match=said) as caught:
        core.submit(0, prompt, sampling, 0)

    assert caught.value.kind == kind
    assert not core.has_work


def test_memory_for_less_than_the_context_shortens_it(model: Any) -> None:
    """A prompt that no amount of waiting would give memory to is refused with the memory's size."""
    core = make_core(model, "fp64", 2, kv_tokens=50)

    with pytest.raises(EngineError, match=r"50 fit with the answer \(KV memory holds 50\)"):
        core.submit(0, [1] * 50, Sampling(), 0)
    core.submit(1, [1] * 49, Sampling(max_tokens=8), 0)
    assert [output.finish for output in outputs_of(core)] == ["length"]


def test_bf16_runs_every_family_and_repeats_itself() -> None:
    """In bf16 equal requests in equal company give equal tokens, run after run."""
    for name in ("gpt2", "mistral", "qwen2"):
        model = make_reference(name, "fp32").to(torch.bfloat16)
        requests = [(prompt, Sampling(max_tokens=limit), 0) for prompt, limit in ragged_requests(9, seed=3)]

        first = answer(make_core(model, "bf16", 4), requests)

        assert first == answer(make_core(model, "bf16", 4), requests)
        assert [len(tokens) for tokens in first] == [sampling.max_tokens for _, sampling, _ in requests]
