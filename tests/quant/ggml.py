"""ggml's own quantizers, called from its library: the oracle of the formats that GGUF files hold."""

from __future__ import annotations

import ctypes

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from requirements import ggml_library


def encoded(name: str, weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The bytes [rows, row size] that ggml writes for finite weights [rows, columns]."""
    function = ctypes.CDLL(str(ggml_library())).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    kind = GGMLQuantizationType[name]
    group, size = GGML_QUANT_SIZES[kind]
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    rows, columns = weights.shape
    out = np.zeros((rows, columns // group * size), dtype=np.uint8)
    written = function(kind.value, weights.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    assert written == out.size
    return out
