"""The next token of each row of logits.

The random number of a token depends on the seed of its request and the number of the token, on nothing else, so what
a request draws doesn't depend on what else is in the batch, on when it started or on whether it was preempted.
Rows are treated alike whoever shares the batch: those without a filter are drawn by inverse distribution in the
order of the vocabulary (no sort), those with one in the order of falling probability.
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Tensor

#: Candidates looked at before a `top_p` without `top_k` falls back to sorting the whole vocabulary.
CANDIDATES = 256
_WORD = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


class Draw(Struct, frozen=True):
    """How one row is drawn; `uniform` is in [0, 1)."""

    temperature: float
    top_k: int
    top_p: float
    uniform: float

    @property
    def is_filtered(self) -> bool:
        return self.top_k > 0 or self.top_p < 1.0


def uniform(seed: int, number: int) -> float:
    """The `number`-th random number of `seed`, in [0, 1): two rounds of the SplitMix64 finisher over a counter."""
    return (_mix(_mix(seed & _WORD) + number * _STEP) >> 11) / (1 << 53)


def _mix(word: int) -> int:
    word = (word + _STEP) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def choose(logits: Tensor, draws: dict[int, Draw]) -> list[int]:
    """A token for each row of `logits [rows, vocab]`: drawn for the rows in `draws`, else the most likely.

    `max` over floats is used because `argmax` over bf16, or over floats, is several times slower on a CPU.
    """
    wide = logits.float() if logits.dtype == torch.bfloat16 else logits
    tokens = wide.max(-1).indices
    for filtered, draw_rows in ((False, _draw_plainly), (True, _draw_filtered)):
        rows = [row for row, draw in draws.items() if draw.is_filtered is filtered]
        if rows:
            index = torch.tensor(rows, device=logits.device)
            tokens[index] = draw_rows(wide[index], [draws[row] for row in rows])
    return tokens.tolist()  # the one transfer of a step


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _scale(logits: Tensor, draws: list[Draw]) -> Tensor:
    """`logits` over the temperature; the largest of a row becomes 0, so a tiny temperature can't overflow."""
    shifted = logits - logits.amax(-1, keepdim=True)
    return shifted / _column([draw.temperature for draw in draws], logits)


def _draw_plainly(logits: Tensor, draws: list[Draw]) -> Tensor:
    return _invert(torch.exp(_scale(logits, draws)), draws)


def _invert(weights: Tensor, draws: list[Draw]) -> Tensor:
    """The index in each row of `weights [rows, n]`, unnormalised, at which their running sum passes the uniform."""
    sums = weights.cumsum(-1, dtype=_precise(weights))
    targets = _column([draw.uniform for draw in draws], sums) * sums[:, -1:]
    return torch.searchsorted(sums, targets, right=True).clamp_(max=weights.shape[-1] - 1)[:, 0]


def _precise(tensor: Tensor) -> torch.dtype:
    """Sums over a vocabulary are made in double precision where the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _draw_filtered(logits: Tensor, draws: list[Draw]) -> Tensor:
    scaled = _scale(logits, draws)
    most = max(draw.top_k for draw in draws)
    return _draw_sorted(scaled, draws, min(logits.shape[-1], max(CANDIDATES, most)))


def _draw_sorted(scaled: Tensor, draws: list[Draw], count: int) -> Tensor:
    """Draws among the `count` best; rows whose `top_p` reaches beyond them are drawn among all."""
    vocab = scaled.shape[-1]
    values, ids = torch.topk(scaled, count) if count < vocab else torch.sort(scaled, descending=True, stable=True)
    weights = torch.exp(values)
    ranks = torch.arange(count, device=scaled.device)
    top_k = torch.tensor([draw.top_k or vocab for draw in draws], device=scaled.device)[:, None]
    weights = weights.masked_fill(ranks >= top_k, 0.0)
    limited = torch.tensor([draw.top_k > 0 for draw in draws], device=scaled.device)[:, None]
    total = torch.where(limited, weights.sum(-1, keepdim=True), torch.exp(scaled).sum(-1, keepdim=True))
    sums = weights.cumsum(-1, dtype=_precise(weights))
    nucleus = _column([draw.top_p for draw in draws], sums) * total
    tokens = ids.gather(-1, _invert(weights.masked_fill(sums - weights >= nucleus, 0.0), draws)[:, None])[:, 0]
    if count < vocab:
        open_rows = (~limited & (sums[:, -1:] < nucleus))[:, 0].nonzero()[:, 0].tolist()
        if open_rows:
            tokens[open_rows] = _draw_sorted(scaled[open_rows], [draws[row] for row in open_rows], vocab)
    return tokens
