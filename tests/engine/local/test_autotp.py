"""DeepSpeed's AutoTP as another way to divide a model: equal tokens where it can, reasons where it can't."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch

from engine.local.ranks import answer, play
from engine.local.test_tensor_parallel import make_load, make_story, save
from requirements import require
from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.local.autotp import check_divisible
from tokenmill.engine.local.settings import make_plan
from tokenmill.engine.local.wire import DEEPSPEED
from tokenmill.errors import UsageError


def test_deepspeed_on_two_ranks_gives_the_tokens_of_one_process(tmp_path: Path) -> None:
    """Llama in fp32: greedy and drawn, of mixed lengths, cancelled, and texts that end at stop strings."""
    require("deepspeed")
    path = save("llama", tmp_path / "model")
    torch.set_num_threads(1)
    one = answer(make_story(make_load(path), tmp_path))
    load = msgspec.structs.replace(make_load(path, tp=2), tp_engine=DEEPSPEED)

    two, written = play(make_story(load, tmp_path), tmp_path, 2)

    assert two is not None, written
    cancelled = {3, 5, 8}  # at other passes than ours, as the batches are others
    kept = [number for number in range(len(one.tokens)) if number not in cancelled]
    assert [two.tokens[number] for number in kept] == [one.tokens[number] for number in kept]
    assert two.pieces == one.pieces


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gpt2", r"gpt2: DeepSpeed's AutoTP doesn't support it, .* needs CUDA; use --tp-engine native"),
        ("bloom", r"bloom: .*ALiBi.*; take a server"),
        ("phi3", r"phi3: .*queries, keys and values.*; take a server"),
        ("xlnet", r"xlnet: DeepSpeed's AutoTP doesn't support it; take a server"),
        ("mamba", r"mamba: it wasn't tried .* tried: llama, mistral, qwen2, qwen3; take a server"),
    ],
)
def test_what_deepspeed_cannot_divide_is_refused_with_the_reason(kind: str, said: str, tmp_path: Path) -> None:
    """The refusal names the family, why, and what to use in its place."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))

    with pytest.raises(UsageError, match=said):
        check_divisible(tmp_path, 2)


def test_a_plan_with_deepspeed_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """GPT-2 is refused by the engine's own plan; a single rank has nothing to divide."""
    path = save("gpt2", tmp_path / "model")
    node = Node(name="a", engine="local", target=str(path))

    with pytest.raises(UsageError, match="node 'a': gpt2: DeepSpeed's AutoTP doesn't support it"):
        make_plan(node, EngineOptions(tp=2, tp_engine="deepspeed"))
    with pytest.raises(UsageError, match="give --tp 2 or more"):
        make_plan(node, EngineOptions(tp=1, tp_engine="deepspeed"))
