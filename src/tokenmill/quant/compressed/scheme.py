"""The `quantization_config` of config.json: how a folder of compressed-tensors says what its weights are.

Only weights are quantized: whole numbers of 4 bits with a scale for each group, or of 8 bits with one for each row,
packed into words of 32 bits. Anything else that such a configuration can say is refused by name, as it would change
the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from tokenmill.model.fields import Fields
from tokenmill.model.files import BadModel

METHOD = "compressed-tensors"
FORMAT = "pack-quantized"
#: The release of the package whose form is written here.
VERSION = "0.20.0"


class Scheme(Struct, frozen=True, kw_only=True):
    """How weights are stored: `bits` of each, and the weights that share a scale, None where a row shares one."""

    bits: int
    group: int | None


#: By the name of the encoding.
SCHEMES = {
    "W4A16": Scheme(bits=4, group=128),
    "W4A16-G32": Scheme(bits=4, group=32),
    "W8A16": Scheme(bits=8, group=None),
}


def describe(scheme: Scheme, ignore: Sequence[str]) -> dict[str, object]:
    """The `quantization_config` of a folder all of whose linears but `ignore` are stored so."""
    weights = {
        "dynamic": False,
        "group_size": scheme.group,
        "num_bits": scheme.bits,
        "strategy": "channel" if scheme.group is None else "group",
        "symmetric": True,
        "type": "int",
    }
    group = {
        "format": FORMAT,
        "input_activations": None,
        "output_activations": None,
        "targets": ["Linear"],
        "weights": weights,
    }
    return {
        "config_groups": {"group_0": group},
        "format": FORMAT,
        "global_compression_ratio": None,
        "ignore": list(ignore),
        "kv_cache_scheme": None,
        "moe_sparsity_config": None,
        "quant_method": METHOD,
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": VERSION,
    }


def is_compressed(config: Mapping[str, object]) -> bool:
    """Whether a config.json says that compressed-tensors made the weights."""
    stated = config.get("quantization_config")
    return isinstance(stated, dict) and stated.get("quant_method") == METHOD


def read_encoding(config: Mapping[str, object], path: Path) -> str:
    """The name of the encoding of all packed weights that a config.json describes; `path` names it in errors."""
    faults: list[str] = []
    fields = Fields(config, faults).nested("quantization_config")
    assert fields is not None, "the caller looked with is_compressed"
    fields.must_be("format", FORMAT, default="")
    fields.must_be("quantization_status", "compressed", default="compressed")
    for key in ("kv_cache_scheme", "sparsity_config", "transform_config"):
        if fields.values.get(key):
            fields.fault(f"{key} isn't supported; only weights may be quantized")
    found = {_read_group(group) for group in _groups(fields)}
    if faults:
        raise BadModel(f"{path}: {'; '.join(faults)}; take another version of the model, or its original weights")
    if len(found) != 1:
        raise BadModel(f"{path}: modules that are quantized in different ways aren't supported; take a uniform version")
    names = [name for name, scheme in SCHEMES.items() if scheme in found]
    if not names:
        (scheme,) = found
        raise BadModel(
            f"{path}: weights of {scheme.bits} bits with a scale for each {scheme.group or 'row'} aren't supported; "
            f"known: {', '.join(SCHEMES)}"
        )
    return names[0]


def _groups(fields: Fields) -> list[Fields]:
    groups = fields.nested("config_groups")
    if groups is None:
        fields.fault("config_groups is missing")
        return []
    found = [groups.nested(key) for key in groups.values]
    return [group for group in found if group is not None]


def _read_group(group: Fields) -> Scheme:
    for key in ("input_activations", "output_activations"):
        if group.values.get(key):
            group.fault(f"{key} isn't supported; only weights may be quantized")
    weights = group.nested("weights")
    if weights is None:
        group.fault("weights is missing")
        return Scheme(bits=0, group=None)
    weights.must_be("type", "int", default="int")
    weights.must_be("symmetric", True, default=True)
    weights.must_be("dynamic", False, default=False)
    if weights.values.get("actorder") not in (None, "static", "weight"):
        weights.fault("actorder is supported only where columns keep their order")
    bits = weights.size(("num_bits",), 8)
    strategy = weights.choice(("strategy",), {"group": "group", "channel": "channel"}, "channel")
    size = weights.size(("group_size",), 1 << 20) if strategy == "group" else None
    return Scheme(bits=bits, group=size)
