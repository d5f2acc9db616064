"""One pass in plain ints: all that a runner needs to know of what the batcher decided.

It names rows and tokens, not requests, so it can be handed to other ranks as it is; a row that decodes costs about
five bytes there. The tokens chosen in one pass are those that the next one's decoding rows bring along.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from tokenmill.engine.local.batcher import Move, Pass


class Prompt(Struct, frozen=True, array_like=True):
    """Prompt tokens for row `slot`, of which `start` were read before; `completes`: they are its last ones."""

    slot: int
    start: int
    tokens: list[int]
    completes: bool


class Order(Struct, frozen=True, array_like=True):
    """What to do to the KV memory, then which tokens to read.

    First the `moves`; then, if `stride` differs from the one before, rows are laid out anew, `kept` tokens of each.
    Decoding rows 0, 1, ... get `tokens` at `positions`.
    """

    stride: int
    moves: list[Move]
    kept: list[int]
    tokens: list[int]
    positions: list[int]
    prompts: list[Prompt]


def make_order(decided: Pass) -> Order:
    """The pass without its sequences."""
    prompts = []
    for piece in decided.pieces:
        sequence = piece.sequence
        tokens = sequence.tokens[sequence.stored : sequence.stored + piece.count]
        prompts.append(Prompt(sequence.slot, sequence.stored, tokens, piece.completes))
    return Order(
        stride=decided.stride,
        moves=decided.moves,
        kept=decided.kept,
        tokens=[sequence.tokens[-1] for sequence in decided.decoding],
        positions=[sequence.stored for sequence in decided.decoding],
        prompts=prompts,
    )


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Order)


def pack(order: Order) -> bytes:
    """The order as bytes for other ranks."""
    return _ENCODER.encode(order)


def unpack(body: bytes) -> Order:
    """The order that `pack` made bytes of; raises `msgspec.DecodeError` for anything else."""
    return _DECODER.decode(body)
