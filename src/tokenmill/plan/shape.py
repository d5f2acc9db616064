"""How large a model is, part by part, from its configuration alone: no weight is looked at.

A plan also takes models that the local engine doesn't run: those with experts, of which a token passes a few of many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from tokenmill.errors import InputFaults, UsageError
from tokenmill.model.config import ModelConfig, make_config, read_generation
from tokenmill.model.fields import Fields
from tokenmill.model.files import BadModel, parse_object, read_bytes
from tokenmill.model.tensors import expected_tensors
from tokenmill.plan.known_shapes import KNOWN

#: Number formats: bytes of a weight, and of what is computed with (activations, keys and values).
FORMATS = {
    "int4": (0.5, 2),
    "int8": (1, 2),
    "fp8": (1, 2),
    "fp16": (2, 2),
    "bf16": (2, 2),
    "fp32": (4, 4),
    "fp64": (8, 8),
}
_STORED = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}
#: Parts of a layer that each device of a tensor parallel group holds whole: biases added after the sum, and norms.
_WHOLE = ("norm", "ln_", "c_proj.bias", "o_proj.bias", "down_proj.bias")
_MLP = ".mlp."


class Shape(Struct, frozen=True, kw_only=True):
    """A model's sizes, in numbers (not bytes). `split` and `whole` are the parts of one layer without its experts.

    `expert`: one expert's part of a layer, all of the MLP in a dense model, where `experts` and `active` are 1.
    `embedding` is at the beginning, `head` at the end; `tied` if both are the same numbers.
    """

    name: str
    source: str
    stored: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    experts: int
    active: int
    tied: bool
    split: int
    whole: int
    expert: int
    embedding: int
    head: int

    @property
    def layer(self) -> int:
        """Numbers of one layer with all its experts."""
        return self.split + self.whole + self.experts * self.expert

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.embedding + (0 if self.tied else self.head)

    @property
    def passed(self) -> int:
        """Numbers that one token is multiplied with: all but the embedding and the experts that it isn't sent to."""
        return self.layers * (self.split + self.whole + self.active * self.expert) + self.head

    def kv_token(self, element: int) -> int:
        """Bytes of the keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element

    def experts_read(self, tokens: int) -> float:
        """How many experts of a layer so many tokens are sent to, if each takes any of them alike."""
        return self.experts * (1 - (1 - self.active / self.experts) ** tokens)


def find_shape(name: str) -> Shape:
    """The shape of a folder, of a configuration file, or of a known model by its name.

    Raises:
        UsageError: it is none of these.
        BadModel, InputFaults: the configuration can't be used.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise UsageError(f"{name}: has no config.json; name a model's folder, or its config.json alone")
    if path.is_file():
        return _from_file(name, path)
    known = KNOWN.get(name.lower())
    if known is None:
        raise UsageError(
            f"model {name!r}: no such folder or file, and no known shape; give a config.json, or one of "
            f"{', '.join(sorted(KNOWN))}"
        )
    return make_shape(known.config, {}, name.lower(), f"config.json of {known.repository}, kept here")


def _from_file(name: str, path: Path) -> Shape:
    if path.suffix.lower() != ".json":
        raise UsageError(f"{name}: is no config.json; a plan needs the configuration only, so name that file")
    values = parse_object(read_bytes(path), str(path))
    generation = read_generation(path.parent) if path.name == "config.json" else {}
    folder = path.resolve().parent.name if path.name == "config.json" else path.stem
    return make_shape(values, generation, folder, str(path))


def make_shape(values: Mapping[str, object], generation: Mapping[str, object], name: str, source: str) -> Shape:
    """From objects in the form of config.json and generation_config.json."""
    experts = active = 1
    dense = {key: value for key, value in values.items() if key not in ("quantization_config", "compression_config")}
    if values.get("model_type") == "mixtral":
        fields = Fields(values)
        experts = fields.size(("num_local_experts",), 4096)
        active = fields.size(("num_experts_per_tok",), 4096)
        if not fields.faults and active > experts:
            fields.fault(f"num_experts_per_tok {active} is more than num_local_experts {experts}")
        if fields.faults:
            raise InputFaults(source, fields.faults)
        dense = {key: value for key, value in dense.items() if key not in ("num_local_experts", "architectures")}
        dense |= {"model_type": "mistral"}
    elif isinstance(kind := values.get("model_type"), str) and "moe" in kind.lower():
        raise BadModel(f"{source}: model_type {kind!r}: of models with experts a plan reads 'mixtral' only")
    config = make_config(dense, generation, Path(source))
    return _measure(config, experts, active, name, source)


def _measure(config: ModelConfig, experts: int, active: int, name: str, source: str) -> Shape:
    tensors = {key: math.prod(shape) for key, shape in expected_tensors(config).items()}
    prefix = "h.0." if config.family == "gpt2" else "layers.0."
    layer = {key: count for key, count in tensors.items() if key.startswith(prefix)}
    whole = sum(count for key, count in layer.items() if any(part in key for part in _WHOLE))
    mlp = sum(count for key, count in layer.items() if _MLP in key and not any(part in key for part in _WHOLE))
    outside = sum(tensors[key] for key in tensors if not key.startswith(("h.", "layers.")))
    head = config.vocab * config.hidden
    router = config.hidden * experts if experts > 1 else 0
    return Shape(
        name=name,
        source=source,
        stored=_STORED[config.stored_dtype],
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        intermediate=config.intermediate,
        vocab=config.vocab,
        context=config.context,
        experts=experts,
        active=active,
        tied=config.tied,
        split=sum(layer.values()) - whole - mlp,
        whole=whole + router,
        expert=mlp,
        embedding=outside - (0 if config.tied else head),
        head=head,
    )
