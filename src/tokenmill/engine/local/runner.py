"""Does what the batcher decided: a pass in plain ints becomes tensors, one forward pass and tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenmill.engine.local.attention import Attention, Band, Batch, PromptPiece, is_sdpa_slow
from tokenmill.engine.local.batcher import BUCKET, Pass
from tokenmill.engine.local.cache import Cache
from tokenmill.engine.local.models import Model
from tokenmill.engine.local.order import Order, Prompt, make_order
from tokenmill.engine.local.sampling import Draw, choose
from tokenmill.model.config import ModelConfig

#: A pass that reads prompts is filled up to a multiple of this: each number of tokens that a linear sees for the first
#: time costs the CPU library milliseconds to prepare for, and prompts would bring a new one with every pass.
PADDING = 16

#: What one more call of attention costs, in places of a row that could be read in the same time.
CALL_COST = 128


class Runner:
    """Owns the model and the cache."""

    def __init__(self, config: ModelConfig, model: Model, cache: Cache) -> None:
        self.model = model
        self.cache = cache
        self.window = config.sliding_window
        self.dtype = cache.arena.dtype
        self.device = cache.arena.device
        self.attention = Attention(cache, config.heads, is_sdpa_slow(self.dtype, self.device))

    def run(self, decided: Pass, draws: dict[int, Draw]) -> list[int]:
        """A token for each of `decided.producing`; `draws` are the rows of those that sample."""
        return self.obey(make_order(decided), draws)

    @torch.inference_mode()
    def obey(self, order: Order, draws: dict[int, Draw]) -> list[int]:
        """A token for each row that the order makes one for, on the rank that has the logits; none on the others."""
        self.cache.move(order.moves)
        if order.stride != self.cache.stride:
            self.cache.restride(order.stride, order.kept)
        logits = self.model(self._pack(order), self.attention)
        return choose(logits, draws) if len(logits) else []

    def _pack(self, order: Order) -> Batch:
        rows = len(order.tokens)
        tokens, positions = list(order.tokens), list(order.positions)
        slots = list(range(rows))
        last = list(range(rows))
        pieces = []
        for prompt in order.prompts:
            pieces.append(self._prompt_piece(prompt, len(tokens)))
            tokens += prompt.tokens
            positions += range(prompt.start, prompt.start + len(prompt.tokens))
            slots += [prompt.slot] * len(prompt.tokens)
            if prompt.completes:
                last.append(len(tokens) - 1)
        padding = -len(tokens) % PADDING if pieces else 0
        where = self._ints(positions + [0] * padding)
        return Batch(
            tokens=self._ints(tokens + [0] * padding),
            positions=where,
            padding=padding,
            addresses=self.cache.addresses(self._ints(slots), where[: len(slots)]),
            bands=[self._band(band, where) for band in split_rows(order.positions, order.stride)],
            pieces=pieces,
            last=self._ints(last),
        )

    def _band(self, rows: tuple[int, int, int], positions: Tensor) -> Band:
        first, last, reach = rows
        return Band(first, last, reach, self._hide(positions[first:last, None], reach)[:, None, None])

    def _prompt_piece(self, prompt: Prompt, first: int) -> PromptPiece:
        start, count = prompt.start, len(prompt.tokens)
        end = start + count
        plain = start == 0 and (self.window is None or end <= self.window)
        mask = None if plain else self._hide(torch.arange(start, end, device=self.device)[:, None], end)
        return PromptPiece(prompt.slot, first, count, end, mask)

    def _hide(self, positions: Tensor, reach: int) -> Tensor:
        """0 for the places that tokens at `positions [n, 1]` may see, minus infinity for others; `[n, reach]`."""
        places = torch.arange(reach, device=self.device)
        hidden = places > positions
        if self.window is not None:
            hidden |= places <= positions - self.window
        return torch.zeros(hidden.shape, dtype=self.dtype, device=self.device).masked_fill_(hidden, -torch.inf)

    def _ints(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.device)


def split_rows(positions: list[int], stride: int) -> list[tuple[int, int, int]]:
    """Neighbouring rows that attend in one call, as (first, last, reach): all must read as far as the longest.

    Rows of very different lengths are kept apart, or one long sequence would make all others read to its end. Lengths
    are rounded up so that shapes change seldom.
    """
    bands: list[tuple[int, int, int]] = []
    for row, position in enumerate(positions):
        reach = min(stride, -(-(position + 1) // BUCKET) * BUCKET)
        if bands:
            first, _, before = bands[-1]
            joined = (first, row + 1, max(before, reach))
            if _cost([joined]) <= _cost([bands[-1], (row, row + 1, reach)]):
                bands[-1] = joined
                continue
        bands.append((row, row + 1, reach))
    together = [(0, len(positions), max((reach for _, _, reach in bands), default=0))]
    return bands if _cost(bands) < _cost(together) else together


def _cost(bands: list[tuple[int, int, int]]) -> int:
    return sum((last - first) * reach + CALL_COST for first, last, reach in bands)
