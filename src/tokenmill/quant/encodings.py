"""All encodings, by the names that users and formats give them.

An encoding is made here once and shared by all threads: it holds no state. Its kernels are compiled or loaded when it
first encodes, so a look at the names costs nothing.
"""

from __future__ import annotations

from difflib import get_close_matches

from tokenmill.errors import UsageError
from tokenmill.quant import reference, reference_k
from tokenmill.quant.blocks import BlockEncoding
from tokenmill.quant.encoding import Encoding
from tokenmill.quant.floats import FloatEncoding
from tokenmill.quant.groups import GroupEncoding
from tokenmill.quant.null import NullEncoding

_ALL: tuple[Encoding, ...] = (
    FloatEncoding("F32"),
    FloatEncoding("F16"),
    FloatEncoding("BF16"),
    BlockEncoding("Q8_0", 32, 34, (0,), reference.encode_q8_0, reference.decode_q8_0, "legacy"),
    BlockEncoding("Q4_0", 32, 18, (0,), reference.encode_q4_0, reference.decode_q4_0, "legacy"),
    BlockEncoding("Q4_1", 32, 20, (0, 2), reference.encode_q4_1, reference.decode_q4_1, "legacy"),
    BlockEncoding("Q5_0", 32, 22, (0,), reference.encode_q5_0, reference.decode_q5_0, "legacy"),
    BlockEncoding("Q5_1", 32, 24, (0, 2), reference.encode_q5_1, reference.decode_q5_1, "legacy"),
    BlockEncoding("Q4_K", 256, 144, (0, 2), reference_k.encode_q4_k, reference_k.decode_q4_k, "k"),
    BlockEncoding("Q5_K", 256, 176, (0, 2), reference_k.encode_q5_k, reference_k.decode_q5_k, "k"),
    BlockEncoding("Q6_K", 256, 210, (208,), reference_k.encode_q6_k, reference_k.decode_q6_k, "k"),
    GroupEncoding("W4A16", 4, 128),
    GroupEncoding("W4A16-G32", 4, 32),
    GroupEncoding("W8A16", 8, None),
    GroupEncoding("W4A16-MSE", 4, 128, mse=True),
    GroupEncoding("W4A16-G32-MSE", 4, 32, mse=True),
)

#: Every encoding under its own name.
ENCODINGS: dict[str, Encoding] = {each.name: each for each in _ALL}

#: Names that people ask for and that are refused, with the reason.
REFUSED = {
    "INT2": "no format that engines load keeps a model usable at 2 bits without calibration",
    "Q2_K": "at 2 bits a model without calibration answers badly, and this program doesn't calibrate",
}


#: How scales are chosen: so that the largest weight fits exactly as the format's own tools do, or for the least square
#: error of each group.
SCALES = ("absmax", "mse")

#: What stands before the name of an encoding to write its sizes without its work; for measurements only.
NULL = "NULL:"


def encoding(name: str) -> Encoding:
    """The encoding called `name`, in upper or lower case; refuses what isn't there, with the nearest names."""
    asked = name.upper()
    if asked in ENCODINGS:
        return ENCODINGS[asked]
    if asked.startswith(NULL):
        return NullEncoding(encoding(name[len(NULL) :]))
    if asked in REFUSED:
        raise UsageError(f"{name!r} isn't offered: {REFUSED[asked]}; the smallest here are Q4_0 and W4A16")
    near = get_close_matches(asked, ENCODINGS, n=3) or sorted(ENCODINGS)
    raise UsageError(f"{name!r} isn't an encoding; did you mean {', '.join(near)}?")


def scaled(name: str, scale: str) -> str:
    """The name of the encoding like `name` with its scales chosen as `scale` says; refuses it where there is none."""
    plain = encoding(name).name
    if scale == "absmax":
        return plain
    if scale not in SCALES:
        raise UsageError(f"scale {scale!r} isn't known; use absmax or mse")
    chosen = f"{plain}-{scale.upper()}"
    if chosen not in ENCODINGS:
        offered = ", ".join(sorted(each.removesuffix("-MSE") for each in ENCODINGS if each.endswith("-MSE")))
        raise UsageError(f"{plain} has no {scale} scales: its format chooses them; {scale} is for {offered}")
    return chosen
