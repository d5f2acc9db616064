"""The core against transformers, one request at a time: the oracle of every family."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.local.reference_models import MODELS, answer, make_core, make_reference, ragged_requests
from tokenmill.engine.local.core import Core
from tokenmill.engine.local.weights import check_weights, load_weights
from tokenmill.model.config import read_config
from tokenmill.request import Sampling

#: How close the two best logits of the reference may be before an fp32 row is compared no further.
CLOSE = 1e-4
REQUESTS = 32


def generate(model: Any, prompt: list[int], limit: int) -> tuple[list[int], list[float]]:
    """Greedy tokens of the reference, and how far its best logit was ahead at each."""
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=limit,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    leads = [(two[0] - two[1]).item() for two in (step[0].topk(2).values for step in out.logits)]
    return out.sequences[0, len(prompt) :].tolist(), leads


@cache
def answered(name: str, dtype: str) -> tuple[Any, list[tuple[list[int], int]], list[tuple[list[int], list[float]]]]:
    """The reference model, the requests, and what it says to each."""
    torch.set_num_threads(1)
    model = make_reference(name, dtype)
    requests = ragged_requests(REQUESTS, seed=5)
    return model, requests, [generate(model, prompt, limit) for prompt, limit in requests]


def compared(dtype: str, leads: list[float]) -> int:
    """How many tokens must be equal: all, in fp32 those before the first that the reference nearly tossed for."""
    close = [place for place, lead in enumerate(leads) if dtype == "fp32" and lead < CLOSE]
    return min(close, default=len(leads))


EVERY = [(name, dtype) for name in MODELS for dtype in ("fp64", "fp32")]


@pytest.mark.parametrize(("batch", "slots"), [(1, 1), (7, 3), (32, 8), (32, 32)])
@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_greedy_tokens_are_those_of_transformers(name: str, dtype: str, batch: int, slots: int) -> None:
    """Ragged requests in shared passes get the tokens that transformers generates for each alone."""
    model, requests, expected = answered(name, dtype)
    core = make_core(model, dtype, slots)

    answers = answer(core, [(prompt, Sampling(max_tokens=limit), 0) for prompt, limit in requests[:batch]])

    for got, (tokens, leads) in zip(answers, expected[:batch], strict=True):
        assert len(got) == len(tokens)
        assert got[: compared(dtype, leads)] == tokens[: compared(dtype, leads)]


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_scarce_memory_changes_no_token(name: str, dtype: str) -> None:
    """Requests that are preempted and computed again get the same tokens."""
    model, requests, expected = answered(name, dtype)
    core = make_core(model, dtype, slots=8, kv_tokens=256)

    answers = answer(core, [(prompt, Sampling(max_tokens=limit), 0) for prompt, limit in requests])

    for got, (tokens, leads) in zip(answers, expected, strict=True):
        assert got[: compared(dtype, leads)] == tokens[: compared(dtype, leads)]


def test_hardly_any_row_is_undecided() -> None:
    """At most 1 % of the fp32 rows are compared only in part."""
    rows = [leads for name in MODELS for _, leads in answered(name, "fp32")[2]]

    assert sum(compared("fp32", leads) < len(leads) for leads in rows) <= 0.01 * len(rows)


@pytest.mark.parametrize("name", MODELS)
def test_sampled_tokens_do_not_depend_on_the_company(name: str) -> None:
    """In fp64 a seeded request draws the same tokens alone, among others, and after being preempted."""
    model, requests, _ = answered(name, "fp64")
    kinds = [
        Sampling(max_tokens=20, temperature=0.9),
        Sampling(max_tokens=30, temperature=0.7, top_k=20),
        Sampling(max_tokens=25, temperature=1.2, top_p=0.8),
        Sampling(max_tokens=15),
        Sampling(max_tokens=20, temperature=1.0, top_k=40, top_p=0.9),
    ]
    sampled = [(prompt, kinds[place % 5], 100 + place) for place, (prompt, _) in enumerate(requests[:15])]

    alone = [answer(make_core(model, "fp64", 1), [request])[0] for request in sampled]

    assert answer(make_core(model, "fp64", 15), sampled) == alone
    assert answer(make_core(model, "fp64", 4), sampled[::-1]) == alone[::-1]
    assert answer(make_core(model, "fp64", 8, kv_tokens=200), sampled) == alone


def test_every_model_of_the_folder_loads_and_answers_alike(tmp_path: Path) -> None:
    """A saved folder, read by the loader, gives the tokens of the model it was saved from."""
    for name in MODELS:
        model, requests, expected = answered(name, "fp64")
        folder = tmp_path / name
        model.save_pretrained(folder)
        config = read_config(folder)
        weights = load_weights(check_weights(folder, config), torch.float64)
        core = Core(config, weights, slots=8, kv_memory=64 << 20, dtype="fp64", threads=1)

        answers = answer(core, [(prompt, Sampling(max_tokens=limit), 0) for prompt, limit in requests[:8]])
        assert answers == [tokens for tokens, _ in expected[:8]]
