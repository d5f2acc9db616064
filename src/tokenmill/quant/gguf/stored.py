"""The types of tensors that GGUF knows: their numbers in files, and how many bytes a group of weights takes."""

from __future__ import annotations

from msgspec import Struct


class Stored(Struct, frozen=True):
    """A type: `number` in files, `size` bytes for each `group` of weights of a row."""

    number: int
    group: int
    size: int


#: Every type that files may hold today. Weights of the first three can be quantized; the others are only sized.
STORED = {
    "F32": Stored(0, 1, 4),
    "F16": Stored(1, 1, 2),
    "BF16": Stored(30, 1, 2),
    "F64": Stored(28, 1, 8),
    "I8": Stored(24, 1, 1),
    "I16": Stored(25, 1, 2),
    "I32": Stored(26, 1, 4),
    "I64": Stored(27, 1, 8),
    "Q4_0": Stored(2, 32, 18),
    "Q4_1": Stored(3, 32, 20),
    "Q5_0": Stored(6, 32, 22),
    "Q5_1": Stored(7, 32, 24),
    "Q8_0": Stored(8, 32, 34),
    "Q8_1": Stored(9, 32, 40),
    "Q2_K": Stored(10, 256, 84),
    "Q3_K": Stored(11, 256, 110),
    "Q4_K": Stored(12, 256, 144),
    "Q5_K": Stored(13, 256, 176),
    "Q6_K": Stored(14, 256, 210),
    "Q8_K": Stored(15, 256, 292),
    "IQ2_XXS": Stored(16, 256, 66),
    "IQ2_XS": Stored(17, 256, 74),
    "IQ3_XXS": Stored(18, 256, 98),
    "IQ1_S": Stored(19, 256, 50),
    "IQ4_NL": Stored(20, 32, 18),
    "IQ3_S": Stored(21, 256, 110),
    "IQ2_S": Stored(22, 256, 82),
    "IQ4_XS": Stored(23, 256, 136),
    "IQ1_M": Stored(29, 256, 56),
    "TQ1_0": Stored(34, 256, 54),
    "TQ2_0": Stored(35, 256, 66),
    "MXFP4": Stored(39, 32, 17),
    "NVFP4": Stored(40, 64, 36),
    "Q1_0": Stored(41, 128, 18),
}

#: Types of whole numbers, which are copied and never quantized.
INTEGERS = ("I8", "I16", "I32", "I64")
NAMES = {stored.number: name for name, stored in STORED.items()}


def row_size(name: str, columns: int) -> int:
    """Bytes of a row of so many weights, which must be a multiple of the type's group."""
    stored = STORED[name]
    return columns // stored.group * stored.size
