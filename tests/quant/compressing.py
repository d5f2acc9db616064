"""Small models made smaller, by this program and by the package of compressed-tensors itself."""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStatus,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams

from engine.loader.saved_models import MODELS
from tokenmill.clock import MonotonicClock
from tokenmill.quant.layout import Layout, Options
from tokenmill.quant.quantize import Settings, make_plan, quantize
from tokenmill.quant.target import plan_layout, read_model

#: By the name of the encoding, what the package calls it.
ARGUMENTS = {
    "w4a16": {"num_bits": 4, "strategy": "group", "group_size": 128},
    "w4a16-g32": {"num_bits": 4, "strategy": "group", "group_size": 32},
    "w8a16": {"num_bits": 8, "strategy": "channel"},
}
SIZES = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "bos_token_id": 1, "eos_token_id": 2}


def wide_model(name: str, dtype: torch.dtype = torch.bfloat16, **sizes: Any) -> Any:
    """A model with random weights whose rows are wide enough for every group."""
    config_class, model_class, known = MODELS[name]
    config = getattr(transformers, config_class)(**(known | SIZES | sizes))
    torch.manual_seed(7)
    return getattr(transformers, model_class)(config).to(dtype).eval()


def small(model: Path, out: Path, to: str, **how: Any) -> Layout:
    """Quantizes as the command does."""
    options, settings = Options(to=to, **how), Settings(threads=1)
    weights = read_model(model)
    layout = plan_layout(weights, model, options)
    plan = make_plan(weights, layout, out, settings)
    quantize(
        plan,
        options,
        settings,
        version="1",
        watch=lambda progress: None,
        should_stop=lambda: False,
        clock=MonotonicClock(),
    )
    return layout


def by_the_package(model: Any, out: Path, to: str) -> None:
    """Quantizes with the package's own observers' arithmetic, packing and description."""
    arguments = QuantizationArgs(type="int", symmetric=True, dynamic=False, **ARGUMENTS[to])
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"]))
    for module in model.modules():
        if hasattr(module, "quantization_scheme"):
            weight = module.weight.data
            groups = weight.reshape(len(weight), -1, arguments.group_size or weight.shape[1])
            scale, zero_point = calculate_qparams(groups.amin(-1), groups.amax(-1), arguments)
            module.weight_scale.data = scale
            if hasattr(module, "weight_zero_point"):
                module.weight_zero_point.data = zero_point
            module.quantization_status = QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(out)
    compressor.update_config(str(out))


def tensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Every tensor of a safetensors file: type, shape and bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__")
    data = content[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }


def logits(model: Any) -> torch.Tensor:
    """What a model answers to some tokens, in fp32."""
    tokens = torch.arange(3, 43)[None]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model(tokens).logits.float()


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The folder as transformers loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
