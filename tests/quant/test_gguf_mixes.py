"""Each tensor gets the type that llama-quantize gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenmill.errors import UsageError
from tokenmill.quant.gguf.mixes import Model, is_quantizable, mix_of, types

#: What llama-quantize wrote for random models: the type of each kind of tensor, or the layers that have each type.
QUANTIZED: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "gguf_mixes.json").read_text())
MIXES = ("q8_0", "q4_0", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")


def shapes_of(model: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        name.format(layer): tuple(shape)
        for name, shape in model["shapes"].items()
        for layer in range(model["layers"] if "{}" in name else 1)
    }


def expanded(kinds: dict[str, Any], layers: int) -> dict[str, str]:
    """The type of each tensor by its whole name."""
    found: dict[str, str] = {}
    for name, kind in kinds.items():
        if isinstance(kind, dict):
            found |= {f"blk.{layer}.{name}": one for one, places in kind.items() for layer in places}
        elif name.startswith(("attn", "ffn")):
            found |= {f"blk.{layer}.{name}": kind for layer in range(layers)}
        else:
            found[name] = kind
    return found


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_types_are_those_of_llama_quantize(name: str, mix: str) -> None:
    """Every tensor of every mix has the type that llama-quantize gave it, whatever the order in the file."""
    model = QUANTIZED[name]
    shapes = dict(reversed(shapes_of(model).items()))
    found = types(mix_of(mix), Model(architecture=model["architecture"], layers=model["layers"]), shapes)
    assert found == expanded(model["mixes"][mix], model["layers"])


def test_shared_values_get_more_bits() -> None:
    """In a model of 80 layers whose heads share values, those get five bits where others get four."""
    shapes = {f"blk.{layer}.attn_v.weight": (256, 256) for layer in range(80)}
    chosen = types(mix_of("q4_k_m"), Model(architecture="llama", layers=80, shares_values=True), shapes)
    assert set(chosen.values()) == {"Q5_K", "Q6_K"}


def test_eight_experts_get_more_bits_in_attention() -> None:
    """With eight experts keys and values get eight bits, and the layer of an expert is read from its name."""
    names = ("attn_k.weight", "attn_v.weight", "attn_output.weight", "ffn_down_exps.weight", "ffn_gate_inp.weight")
    shapes = {f"blk.{layer}.{name}": (8, 256, 256) for layer in range(16) for name in names}
    chosen = types(mix_of("Q4_K_M"), Model(architecture="llama", layers=16, experts=8), shapes)
    assert {chosen[f"blk.3.{name}"] for name in names[:2]} == {"Q8_0"}
    assert chosen["blk.3.attn_output.weight"] == "Q5_K"
    assert [chosen[f"blk.{layer}.ffn_down_exps.weight"] for layer in (0, 3, 4)] == ["Q6_K", "Q4_K", "Q6_K"]
    assert "blk.3.ffn_gate_inp.weight" not in chosen


@pytest.mark.parametrize(
    ("name", "shape", "is_one"),
    [
        ("blk.0.attn_q.weight", (4, 4), True),
        ("blk.0.ffn_down_exps.weight", (2, 4, 4), True),
        ("blk.0.attn_q.weight", (1, 4), False),
        ("blk.0.attn_q.bias", (4, 4), False),
        ("blk.0.attn_norm.weight", (4, 4), False),
        ("position_embd.weight", (4, 4), False),
        ("blk.0.ffn_gate_inp.weight", (4, 4), False),
        ("rope_freqs.weight", (4,), False),
    ],
)
def test_only_matrices_are_quantized(name: str, shape: tuple[int, ...], is_one: bool) -> None:
    """Vectors, norms, routers and tables of positions keep their type."""
    assert is_quantizable(name, shape) == is_one


def test_short_names_mean_the_small_mixes() -> None:
    """`q4_k` is the mix without the larger extras, in either case of letters."""
    assert mix_of("Q4_K") == mix_of("q4_k_s")
    with pytest.raises(UsageError, match="q5_k_m"):
        mix_of("q5_k_l")
