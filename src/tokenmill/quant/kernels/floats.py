"""Kernels that round weights to F16 and BF16; NumPy rounds to F16 one number after the other, in software.

Each writes 16-bit words and returns -1, or the first weight that is no number or would become infinite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenmill.quant.kernels.lanes import as_number, put_word, to_half

#: The smallest magnitudes that round to infinity.
_BEYOND_F16, _BEYOND_BF16 = np.float32(65520), np.uint32(0x7F7F_8000)


def bf16_to_f16(bits: Any, out: Any) -> Any:
    for at in range(bits.size):
        number = as_number(np.uint32(bits[at]) << np.uint32(16))
        if not abs(number) < _BEYOND_F16:
            return at
        put_word(out, at * 2, to_half(number))
    return -1


def f32_to_f16(bits: Any, out: Any) -> Any:
    for at in range(bits.size):
        number = as_number(bits[at])
        if not abs(number) < _BEYOND_F16:
            return at
        put_word(out, at * 2, to_half(number))
    return -1


def f32_to_bf16(bits: Any, out: Any) -> Any:
    for at in range(bits.size):
        word = np.uint32(bits[at])
        if word & np.uint32(0x7FFF_FFFF) >= _BEYOND_BF16:
            return at
        even = (word >> np.uint32(16)) & np.uint32(1)
        put_word(out, at * 2, (word + np.uint32(0x7FFF) + even) >> np.uint32(16))
    return -1
