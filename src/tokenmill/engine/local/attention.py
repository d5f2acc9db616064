"""Attention over ragged sequences: one call for all that decode, one for each piece of a prompt.

A batch is packed: token after token, no padding. `Batch` says which token belongs where; it is made once for a pass
and read by every layer.
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from tokenmill.engine.local.cache import Cache


class Band(Struct, frozen=True):
    """Decoding rows `first` to `last` (not included), read in one call up to place `reach`.

    `mask [last - first, 1, 1, reach]` is added to their scores.
    """

    first: int
    last: int
    reach: int
    mask: Tensor


class PromptPiece(Struct, frozen=True):
    """Tokens `first` to `first + count` of the batch read the places 0 to `end` of row `slot`.

    `mask [count, end]` is what each may see; None means all before it and itself, in a piece that starts at 0.
    """

    slot: int
    first: int
    count: int
    end: int
    mask: Tensor | None


class Batch(Struct, frozen=True):
    """One packed pass of n tokens, the first of which are one token each of the rows 0, 1, ... that decode.

    `tokens`, `positions [n]`; the last `padding` of the n tokens mean nothing. `addresses [(n - padding) * kv_heads]`
    is where keys go (see `Cache.addresses`); `bands` are the decoding rows,
    `pieces` the prompts. `last` are the tokens whose logits are wanted.
    """

    tokens: Tensor
    positions: Tensor
    padding: int
    addresses: Tensor
    bands: list[Band]
    pieces: list[PromptPiece]
    last: Tensor


class Attention:
    """Writes a layer's keys and values to the cache and attends; `slow_sdpa` chooses the path of `attend_decoding`."""

    def __init__(self, cache: Cache, heads: int, slow_sdpa: bool) -> None:
        self.cache = cache
        self.heads = heads
        self.groups = heads // cache.heads
        self.decode = decode_by_matmul if slow_sdpa else decode_by_sdpa

    def __call__(self, layer: int, batch: Batch, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`queries [n, heads, head_dim]`, `keys` and `values [n, kv_heads, head_dim]` to `[n, heads * head_dim]`."""
        cache = self.cache
        used = len(queries) - batch.padding
        cache.write(layer, batch.addresses, keys[:used], values[:used])
        outputs = []
        for band in batch.bands:
            rows = slice(band.first, band.last)
            grouped = queries[rows].reshape(-1, cache.heads, self.groups, cache.head_dim)
            seen_keys = cache.keys[layer][rows, :, : band.reach]
            seen_values = cache.values[layer][rows, :, : band.reach]
            outputs.append(self.decode(grouped, seen_keys, seen_values, band.mask).flatten(1))
        for piece in batch.pieces:
            row = slice(piece.slot, piece.slot + 1)
            answer = functional.scaled_dot_product_attention(
                queries[piece.first : piece.first + piece.count].transpose(0, 1)[None],
                cache.keys[layer][row, :, : piece.end],
                cache.values[layer][row, :, : piece.end],
                attn_mask=piece.mask,
                is_causal=piece.mask is None,
                enable_gqa=self.groups > 1,
            )
            outputs.append(answer[0].transpose(0, 1).flatten(1))
        if batch.padding:
            outputs.append(torch.zeros_like(queries[used:]).flatten(1))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def decode_by_sdpa(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """`queries [rows, kv_heads, group, head_dim]` over `keys`, `values [rows, kv_heads, reach, head_dim]`.

    The heads that share keys are taken as so many queries of one head: no mask between them is needed.
    """
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def decode_by_matmul(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The same by two products; about twice as fast in bf16 on processors without matrix units (AMX)."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(2, 3)
    wide = scores.float() if scores.dtype == torch.bfloat16 else scores
    weights = torch.softmax(wide + mask, -1)
    return weights.to(values.dtype) @ values


def is_sdpa_slow(dtype: torch.dtype, device: torch.device) -> bool:
    """Decided by what the machine has, not by timing, so that equal machines give equal answers."""
    if device.type != "cpu" or dtype != torch.bfloat16:
        return False
    return not torch.cpu.get_capabilities().get("amx_bf16", False)
