"""What `--to` names, and which kind of output it asks for: a GGUF file, or a folder of compressed-tensors."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from tokenmill.errors import UsageError
from tokenmill.quant.compressed import target as compressed
from tokenmill.quant.compressed.scheme import SCHEMES
from tokenmill.quant.encodings import REFUSED, SCALES
from tokenmill.quant.gguf import target as gguf
from tokenmill.quant.gguf.mixes import ALIASES, MIXES
from tokenmill.quant.gguf.reader import is_gguf, read_gguf
from tokenmill.quant.layout import Layout, Options
from tokenmill.quant.source import read_weights
from tokenmill.quant.tensor import Weights

#: How a GGUF file is called.
ENDING = ".gguf"


def known_names() -> tuple[str, ...]:
    """Everything that `--to` may say, files before folders."""
    return (*MIXES, *ALIASES, *(name.lower() for name in SCHEMES))


def check_options(options: Options, out: Path) -> None:
    """Refuses an unknown type, a type that doesn't go with the name of the output, and scales that it hasn't."""
    _check_name(options.to)
    is_folder = options.to.upper() in SCHEMES
    if is_folder and out.suffix.lower() == ENDING:
        raise UsageError(f"--to {options.to} makes a folder, so {out} must not end in {ENDING}; or take --to q4_0")
    if not is_folder and out.suffix.lower() != ENDING:
        raise UsageError(
            f"--to {options.to} makes a GGUF file, so {out} must end in {ENDING}; for a folder take --to w4a16"
        )
    if options.scale not in SCALES:
        raise UsageError(f"--scale {options.scale!r} isn't known; use {' or '.join(SCALES)}")
    if options.scale != SCALES[0] and not is_folder:
        raise UsageError(
            f"--scale {options.scale} is for w4a16 and w4a16-g32: types of GGUF files choose their scales themselves"
        )


def _check_name(name: str) -> None:
    if name in known_names():
        return
    if name.upper() in REFUSED:
        raise UsageError(f"--to {name} isn't offered: {REFUSED[name.upper()]}; the smallest are q4_0 and w4a16")
    near = get_close_matches(name, known_names(), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise UsageError(f"--to {name!r} isn't known; {hint}known: {', '.join(known_names())}")


def read_model(model: Path) -> Weights:
    """Where the weights of a model folder or a GGUF file lie."""
    if model.is_dir():
        return read_weights(model)
    if is_gguf(model):
        return read_gguf(model).weights
    raise UsageError(f"{model} is neither a model folder nor a GGUF file; name the folder that holds config.json")


def plan_layout(weights: Weights, model: Path, options: Options) -> Layout:
    """The output that `options` ask for, of the model in the folder or GGUF file `model`."""
    if options.to.upper() not in SCHEMES:
        return gguf.plan(weights, model, options)
    if not model.is_dir():
        raise UsageError(f"--to {options.to} needs the folder of the model, not {model}; from that take --to q4_0")
    return compressed.plan(weights, model, options)
