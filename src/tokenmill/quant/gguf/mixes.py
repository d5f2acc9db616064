"""Which type each tensor gets, by the rules of llama.cpp: a mix gives more bits where a model is most sensitive.

The rules count tensors of a kind in the order of layers, whatever order they have in the file. They are those of
`llama_tensor_get_type` without an importance matrix; its files and ours have the same types, tensor by tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.quant.encodings import encoding
from tokenmill.quant.gguf.stored import STORED

Shapes = Mapping[str, tuple[int, ...]]


class Mix(Struct, frozen=True):
    """A mix: its name, its number in `general.file_type`, and the type of whatever no rule singles out."""

    name: str
    file_type: int
    base: str


MIXES = {
    mix.name: mix
    for mix in (
        Mix("f32", 0, "F32"),
        Mix("f16", 1, "F16"),
        Mix("bf16", 32, "BF16"),
        Mix("q8_0", 7, "Q8_0"),
        Mix("q4_0", 2, "Q4_0"),
        Mix("q4_1", 3, "Q4_1"),
        Mix("q5_0", 8, "Q5_0"),
        Mix("q5_1", 9, "Q5_1"),
        Mix("q4_k_s", 14, "Q4_K"),
        Mix("q4_k_m", 15, "Q4_K"),
        Mix("q5_k_s", 16, "Q5_K"),
        Mix("q5_k_m", 17, "Q5_K"),
        Mix("q6_k", 18, "Q6_K"),
    )
}
ALIASES = {"q4_k": "q4_k_s", "q5_k": "q5_k_s"}

#: What a type becomes where rows are no multiple of its group.
FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
UNQUANTIZED = ("F32", "F16", "BF16")

#: Parts of names of matrices that are too small or too sensitive to quantize.
KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
KEPT_WHOLE = ("position_embd.weight", "token_types.weight")

_LAYER = re.compile(r"blk\.(\d+)\.")
_VALUES = ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")


class Model(Struct, frozen=True, kw_only=True):
    """What the rules ask about a model. `shares_values`: it is one of 80 layers in which heads share values."""

    architecture: str
    layers: int
    experts: int = 0
    shares_values: bool = False


def mix_of(name: str) -> Mix:
    """The mix called `name`; refuses others with the nearest names."""
    asked = name.lower()
    asked = ALIASES.get(asked, asked)
    if asked in MIXES:
        return MIXES[asked]
    near = get_close_matches(asked, MIXES, n=3) or sorted(MIXES)
    raise UsageError(f"--to {name!r} isn't a mix of types for a GGUF file; did you mean {', '.join(near)}?")


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is one of the matrices that hold most of a model, not a norm, a bias, a router or a table."""
    dimensions = len(shape)
    while dimensions > 1 and shape[len(shape) - dimensions] == 1:
        dimensions -= 1
    if dimensions < 2 or not name.endswith("weight") or name in KEPT_WHOLE:
        return False
    return not any(part in name for part in KEPT)


def types(mix: Mix, model: Model, shapes: Shapes) -> dict[str, str]:
    """The type of each of the tensors that can be quantized; `shapes` has all of the model's."""
    rules = _Rules(mix, model, shapes)
    names = sorted((name for name, shape in shapes.items() if is_quantizable(name, shape)), key=_in_layers)
    return {name: fitting(rules.type_of(name, shapes[name][-1]), shapes[name][-1]) for name in names}


def fitting(kind: str, columns: int) -> str:
    """`kind`, or what takes its place for rows of so many weights."""
    for found in (kind, FALLBACKS.get(kind, kind)):
        if columns % STORED[found].group == 0:
            return found
    return "F16"


def _in_layers(name: str) -> tuple[int, str]:
    found = _LAYER.match(name)
    return (int(found[1]) if found else -1), name


class _Rules:
    """The rules of one mix, asked tensor by tensor in the order of layers."""

    def __init__(self, mix: Mix, model: Model, shapes: Shapes) -> None:
        self._mix = mix
        self._model = model
        self._is_tied = "output.weight" not in shapes
        self._values = sum(any(part in name for part in _VALUES) for name in shapes)
        self._value = 0
        self._down = 0

    def type_of(self, name: str, columns: int) -> str:
        base = self._mix.base
        if base in UNQUANTIZED:
            return base
        if name == "output.weight" or (name in ("token_embd.weight", "per_layer_token_embd.weight") and self._is_tied):
            return self._output(columns)
        if name in ("token_embd.weight", "per_layer_token_embd.weight"):
            return base
        if any(part in name for part in _VALUES):
            return self._of_values()
        if "attn_k.weight" in name:
            return "Q8_0" if self._model.experts == 8 else base
        if "attn_output.weight" in name and self._model.experts == 8 and self._model.architecture != "falcon":
            return "Q5_K" if self._mix.name in ("q4_k_s", "q4_k_m") else base
        if "ffn_down" in name:
            return self._of_down(name)
        return base

    def _output(self, columns: int) -> str:
        base = self._mix.base
        if self._model.architecture == "falcon" or columns % STORED[base].group:
            return "Q8_0"
        return base if base == "Q8_0" else "Q6_K"

    def _of_values(self) -> str:
        kind, place = self._mix.base, self._value
        self._value += 1
        if self._mix.name in ("q4_k_m", "q5_k_m") and _needs_more(place, self._values):
            kind = "Q6_K"
        elif self._mix.name == "q4_k_s" and place < 4:
            kind = "Q5_K"
        if self._model.shares_values and kind == "Q4_K":
            kind = "Q5_K"
        return "Q8_0" if self._model.experts == 8 else kind

    def _of_down(self, name: str) -> str:
        layer, layers, is_falcon = self._down, self._model.layers, self._model.architecture == "falcon"
        self._down += 1
        if self._model.experts > 1 and (found := _LAYER.match(name)):
            layer = int(found[1])
        match self._mix.name:
            case "q4_k_m" if is_falcon:
                return "Q6_K" if layer < layers // 16 else "Q5_K" if _needs_more(layer, layers) else "Q4_K"
            case "q4_k_m" | "q5_k_m" if _needs_more(layer, layers):
                return "Q6_K"
            case "q4_k_s" if layer < layers // 8 and not is_falcon:
                return "Q5_K"
        return self._mix.base


def _needs_more(layer: int, layers: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def kept_types(keep: Sequence[tuple[str, str]], names: Mapping[str, str], shapes: Shapes) -> dict[str, str]:
    """The types that the user's patterns give to tensors; the last pattern that matches a tensor counts.

    `names` has the name in the output for each name in the input; a pattern may mean either.
    """
    found: dict[str, str] = {}
    for pattern, asked in keep:
        kind = encoding(asked).name
        if kind not in STORED:
            raise UsageError(
                f"--keep {pattern}={asked}: a GGUF file can't hold {kind}; take Q8_0, F16 or another of its types"
            )
        matches = [out for source, out in names.items() if fnmatchcase(out, pattern) or fnmatchcase(source, pattern)]
        chosen = [name for name in matches if is_quantizable(name, shapes[name])]
        if not chosen:
            reason = f"matches only what stays as it is, such as {matches[0]!r}" if matches else "matches no tensor"
            raise UsageError(f"--keep {pattern}={asked}: {reason}; names look like {_examples(names)}")
        for name in chosen:
            if shapes[name][-1] % STORED[kind].group:
                raise UsageError(
                    f"--keep {pattern}={asked}: tensor {name!r} has rows of {shapes[name][-1]} weights, "
                    f"no multiple of the {STORED[kind].group} that {kind} needs; take F16, BF16 or F32 for it"
                )
            found[name] = kind
    return found


def _examples(names: Mapping[str, str]) -> str:
    source, out = list(names.items())[-1]
    return repr(out) if out == source else f"{out!r} or {source!r}"
