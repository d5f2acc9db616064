"""The keys and values of all sequences in flight: one allocation of exactly the planned size.

Per layer the arena is `[2, places * heads, head_dim]`, keys then values. For a stride of `s` places it is read as rows
`[rows, heads, s, head_dim]`: heads outside, so that the keys of one head lie together and attention over the first `n`
rows and first `k` places is a plain slice. Changing the stride moves the rows in place, one at a time, in the order in
which no row is written over before it was read.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tokenmill.engine.local.batcher import Move
from tokenmill.model.config import ModelConfig

_ALIGNMENT = 64


class Cache:
    """`keys[layer]` and `values[layer]` are views `[rows, heads, stride, head_dim]` of the arena."""

    def __init__(self, config: ModelConfig, places: int, stride: int, dtype: torch.dtype, device: torch.device) -> None:
        self.places = places
        self.heads = config.kv_heads
        self.head_dim = config.head_dim
        self.arena = _zeros((config.layers, 2, places * self.heads, self.head_dim), dtype, device)
        self._flat = [layer.flatten(0, 1) for layer in self.arena]
        self._lay_out(stride)

    def _lay_out(self, stride: int) -> None:
        self.stride = stride
        self.rows = self._rows_of(stride)
        self.keys = [layer[0] for layer in self.rows]
        self.values = [layer[1] for layer in self.rows]

    def _rows_of(self, stride: int) -> Tensor:
        """The arena as `[layers, 2, rows, heads, stride, head_dim]`; a remainder too short for a row is left out."""
        rows = self.places // stride
        used = self.arena[:, :, : rows * self.heads * stride]
        return used.view(*used.shape[:2], rows, self.heads, stride, self.head_dim)

    @property
    def nbytes(self) -> int:
        return self.arena.nbytes

    def move(self, moves: list[Move]) -> None:
        """Copies rows over others, in order."""
        for move in moves:
            if move.length:
                self.rows[:, :, move.target, :, : move.length] = self.rows[:, :, move.source, :, : move.length]

    def restride(self, stride: int, kept: list[int]) -> None:
        """Lays the live rows out anew, keeping `kept[i]` places of row i; growing rows move from the last on."""
        old, new = self.rows, self._rows_of(stride)
        order = range(len(kept)) if stride < self.stride else reversed(range(len(kept)))
        for row in order:
            if kept[row]:
                new[:, :, row, :, : kept[row]] = old[:, :, row, :, : kept[row]].clone()
        self._lay_out(stride)

    def addresses(self, slots: Tensor, positions: Tensor) -> Tensor:
        """Where the keys of tokens at `positions [n]` of rows `slots [n]` go: `[n * heads]` for `write`."""
        heads = torch.arange(self.heads, device=slots.device)
        return ((slots[:, None] * self.heads + heads) * self.stride + positions[:, None]).flatten()

    def write(self, layer: int, addresses: Tensor, keys: Tensor, values: Tensor) -> None:
        """Stores `keys` and `values`, both `[n, heads, head_dim]`."""
        flat, half = self._flat[layer], self.places * self.heads
        flat[:half].index_copy_(0, addresses, keys.reshape(-1, self.head_dim))
        flat[half:].index_copy_(0, addresses, values.reshape(-1, self.head_dim))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, since attention reads and then masks places not yet written, and masking can't undo a NaN.

    On a CPU they come from NumPy, whose zeros are pages that cost nothing until they are used, unlike PyTorch's.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return torch.from_numpy(raw[start : start + size]).view(dtype).view(shape)
