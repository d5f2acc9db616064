"""How a model is divided: every number of every tensor goes to its rank, and what can't be divided is refused."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
import torch

from engine.local.reference_models import MODELS, describe, make_reference, named_weights
from engine.local.test_tensor_parallel import save
from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.local.memory import count_weights, plan_memory
from tokenmill.engine.local.settings import make_plan
from tokenmill.engine.local.sharding import (
    HEAD,
    Cut,
    check_size,
    find_cut,
    possible_sizes,
    share_config,
    share_tensors,
    share_weights,
    take_share,
)
from tokenmill.errors import UsageError
from tokenmill.model.config import ModelConfig

GPT2 = msgspec.structs.replace(
    describe(make_reference("gpt2", "fp32")), heads=12, kv_heads=12, hidden=768, head_dim=64, intermediate=3072
)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 2])
def test_shares_have_the_shapes_that_memory_is_planned_with(name: str, size: int) -> None:
    """The shares of a rank are exactly the tensors that the plan counts, on every rank."""
    model = make_reference(name, "fp32")
    config = describe(model)
    expected = share_tensors(config, size)

    for rank in range(size):
        shares = dict(share_weights(config, named_weights(model), rank, size))
        assert {each: tuple(shares[each].shape) for each in expected} == expected
        numbers = sum(math.prod(shape) for shape in expected.values())
        head = -(-config.vocab // size) * config.hidden
        assert count_weights(config, size) == numbers + (head if config.tied else 0)


def test_a_joint_matrix_is_cut_in_each_of_its_blocks() -> None:
    """GPT-2's queries, keys and values lie side by side, and each rank gets some heads of all three."""
    joint = torch.arange(12).expand(2, 12)  # q: 0 to 3, k: 4 to 7, v: 8 to 11
    cut = find_cut(GPT2, "h.0.attn.c_attn.weight")

    assert cut == Cut(1, blocks=3)
    assert take_share(joint, cut, 0, 2).tolist() == [[0, 1, 4, 5, 8, 9]] * 2
    assert take_share(joint, cut, 1, 2).tolist() == [[2, 3, 6, 7, 10, 11]] * 2


def test_a_vocabulary_needs_no_even_division() -> None:
    """The last shares of the head end in zeros, so that all are equally long; one may hold nothing else."""
    words = torch.arange(1, 6)[:, None]

    shares = [take_share(words, HEAD, rank, 4).flatten().tolist() for rank in range(4)]

    assert shares == [[1, 2], [3, 4], [5, 0], [0, 0]]


def test_a_share_keeps_nothing_else_alive() -> None:
    """A share has memory of its own: the whole tensor can go once its share was taken."""
    whole = torch.zeros(64, 64)

    assert take_share(whole, Cut(0), 1, 2).untyped_storage().nbytes() == whole.nbytes // 2
    assert take_share(whole, Cut(1), 1, 2).untyped_storage().nbytes() == whole.nbytes // 2
    assert take_share(whole, HEAD, 1, 2).untyped_storage().nbytes() == whole.nbytes // 2


@pytest.mark.parametrize(
    ("changes", "tp", "said"),
    [
        ({}, 8, r"tp 8: this gpt2 model has 12 heads, which 8 ranks can't share; 1, 2, 3, 4, 6 and 12 can"),
        ({"family": "llama", "heads": 32, "kv_heads": 8}, 16, "8 heads of keys and values, .* 1, 2, 4 and 8 can"),
        ({"heads": 9, "kv_heads": 9, "intermediate": 100}, 3, "100 columns of the MLP, .*; it can't be divided"),
        ({}, 0, "at least 1 rank"),
    ],
)
def test_heads_that_do_not_divide_are_refused(changes: dict[str, object], tp: int, said: str) -> None:
    """The message names the heads, the ranks asked for, and the numbers that divide."""
    config: ModelConfig = msgspec.structs.replace(GPT2, **changes)

    with pytest.raises(UsageError, match=said):
        check_size(config, tp)
    for size in possible_sizes(config):
        check_size(config, size)


def test_keys_and_values_are_divided_like_the_heads() -> None:
    """A rank's KV memory holds its own heads, so the same memory has room for more tokens."""
    one = plan_memory(GPT2, "fp32", 4, None, 1 << 20)
    four = plan_memory(GPT2, "fp32", 4, None, 1 << 20, 4)

    assert share_config(GPT2, 4).heads == 3
    assert four.kv_token_bytes * 4 == one.kv_token_bytes
    assert four.kv_tokens // one.kv_tokens in (4, 5)
    assert four.ranks == 4


def test_a_plan_says_what_each_rank_is_to_load(tmp_path: Path) -> None:
    """The load names the ranks and a rank's KV memory; the facts count all ranks; what can't be is refused."""
    node = Node(name="a", engine="local", target=str(save("llama", tmp_path / "model")))
    one = make_plan(node, EngineOptions(slots=2, kv_memory=1 << 20))
    two = make_plan(node, EngineOptions(slots=2, kv_memory=1 << 20, tp=2))

    assert (two.load.tp, two.load.tp_engine, one.load.tp) == (2, "native", 1)
    assert two.load.kv_memory * 2 == one.load.kv_memory
    assert two.facts.memory > one.facts.memory
    with pytest.raises(UsageError, match=r"node 'a': tp 4: this llama model has 6 heads, .*; 1 and 2 can"):
        make_plan(node, EngineOptions(tp=4))
