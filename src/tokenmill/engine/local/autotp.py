"""What DeepSpeed's AutoTP can divide, and what it can't and why: found by trying version 0.19.8 in fp32 on a CPU."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tokenmill.errors import UsageError
from tokenmill.model.config import read_raw_config
from tokenmill.quant.compressed.scheme import is_compressed

#: Versions between which the operator that must be switched off has the same private name.
LEAST, BELOW = (0, 19, 8), (0, 20)
#: Families of this engine whose answers under AutoTP were found equal to those of one process.
DIVIDED = ("llama", "mistral", "qwen2", "qwen3")
NATIVE_WAY = "use --tp-engine native"

#: Model types that DeepSpeed itself refuses to divide.
_UNSUPPORTED = ("deberta", "flaubert", "fsmt", "led", "longformer", "xlm", "xlnet")
_REASONS = {
    "gpt2": "DeepSpeed's AutoTP doesn't support it, and its kernel injection needs CUDA",
    "phi3": "DeepSpeed's AutoTP cuts its joint matrix of queries, keys and values in the wrong places",
    "bloom": "DeepSpeed's AutoTP doesn't divide the slopes of its attention (ALiBi)",
    **dict.fromkeys(_UNSUPPORTED, "DeepSpeed's AutoTP doesn't support it"),
}


def check_divisible(path: Path, tp: int) -> None:
    """Raises `UsageError` with the reason and another way if AutoTP can't divide the model at `path`."""
    if tp < 2:
        raise UsageError(f"tp-engine deepspeed divides a model among ranks; give --tp 2 or more, or {NATIVE_WAY}")
    if not path.is_dir():
        raise UsageError(f"{path}: DeepSpeed reads folders in Hugging Face form; name one, or {NATIVE_WAY}")
    config, _ = read_raw_config(path)
    kind = str(config.get("model_type"))
    if kind in DIVIDED:
        if is_compressed(config):
            raise UsageError(f"{path}: DeepSpeed can't divide packed weights; {NATIVE_WAY}")
        return
    reason = _REASONS.get(kind, f"it wasn't tried with DeepSpeed's AutoTP; tried: {', '.join(DIVIDED)}")
    known = NATIVE_WAY if kind == "gpt2" else "take a server that knows it, such as vLLM"
    raise UsageError(f"{kind}: {reason}; {known}")


def check_installed() -> None:
    """Raises `UsageError` if the DeepSpeed that is here can't be used."""
    remedy = f"pip install 'tokenmill[deepspeed]', or {NATIVE_WAY}"
    try:
        found = version("deepspeed")
    except PackageNotFoundError as error:
        raise UsageError(f"tp-engine deepspeed needs DeepSpeed, which isn't installed here; {remedy}") from error
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:3] if part.isdecimal())
    if not LEAST <= numbers < BELOW:
        raise UsageError(f"DeepSpeed {found} wasn't tried, {'.'.join(map(str, LEAST))} was; {remedy}")
