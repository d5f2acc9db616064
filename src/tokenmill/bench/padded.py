"""A static padded batch on the engine's own kernels: what a `generate` call with padding does.

All prompts of a group are read as if they were as long as the longest, and all sequences take part in every pass until
the last of them has ended, their own end notwithstanding. What is computed for nothing is really computed and then
thrown away. Padding stands behind a prompt: tokens never look ahead, so it changes no answer, and the answer's own
tokens take its places later. It therefore needs no mask beyond the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence as Listed

import torch

from tokenmill.bench.pipelines import Ledger
from tokenmill.engine.local.batcher import Pass, Piece, Sequence
from tokenmill.engine.local.cache import Cache
from tokenmill.engine.local.core import DTYPES
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.models import build_model
from tokenmill.engine.local.runner import Runner
from tokenmill.engine.local.stream import AnswerStream
from tokenmill.engine.local.weights import load_weights
from tokenmill.engine.local.wire import Load
from tokenmill.engine.local.wire import Piece as Answered
from tokenmill.request import Request


class PaddedBatch:
    """A model that answers a group at a time. `computed` and `used` count places: tokens that took part in a pass."""

    def __init__(self, folder: ModelFolder, load: Load, ledger: Ledger) -> None:
        dtype, device = DTYPES[load.dtype], torch.device(load.device)
        torch.set_num_threads(load.threads)
        with torch.inference_mode():
            model = build_model(folder.config, load_weights(folder.index, dtype, load.device))
            cache = Cache(folder.config, load.slots * load.context, load.context, dtype, device)
        self._folder = folder
        self._ends = frozenset(folder.config.eos_ids)
        self._runner = Runner(folder.config, model, cache)
        self._ledger = ledger
        self.computed = self.used = 0

    @property
    def wasted(self) -> float:
        """The share of what was computed that was thrown away."""
        return 1 - self.used / self.computed if self.computed else 0.0

    def generate(self, requests: Listed[Request]) -> list[str]:
        """The answers of one group, each cut at its own end."""
        self._ledger.hand(requests)
        prompts = [self._folder.encode_request(request) for request in requests]
        rows = [_Row(slot, *each, self._folder) for slot, each in enumerate(zip(requests, prompts, strict=True))]
        self._read(rows, max(map(len, prompts)) - 1)
        sequences = [row.sequence for row in rows]
        while not all(row.has_ended for row in rows):
            tokens = self._pass(sequences, [])
            for row, token in zip(rows, tokens, strict=True):
                row.sequence.stored += 1
                row.sequence.tokens.append(token)
                if not row.has_ended:
                    self._ledger.add(row.request, len(rows), row.add(token, is_end=token in self._ends))
                    self.used += 1
        return [row.text for row in rows]

    def _read(self, rows: Listed[_Row], longest: int) -> None:
        """All prompts but for their last tokens, which the first pass of the answers takes in, padded alike."""
        sequences = [row.sequence for row in rows]
        self.used += sum(len(sequence.tokens) - 1 for sequence in sequences)
        if longest:
            padded = [_padded(sequence, longest) for sequence in sequences]
            self._pass([], [Piece(sequence, longest) for sequence in padded])
        for sequence in sequences:
            sequence.stored = len(sequence.tokens) - 1

    def _pass(self, decoding: list[Sequence], pieces: list[Piece]) -> list[int]:
        self.computed += len(decoding) + sum(piece.count for piece in pieces)
        stride = self._runner.cache.stride
        return self._runner.run(Pass(stride, stride, [], [], decoding, pieces), {})


class _Row:
    """One request of a group."""

    def __init__(self, slot: int, request: Request, prompt: list[int], folder: ModelFolder) -> None:
        self.request = request
        self.sequence = Sequence(slot, list(prompt), len(prompt), 0, slot=slot)
        self._left = request.sampling.max_tokens or 1
        self._stream = AnswerStream(slot, folder.decoder(), (), len(prompt))
        self._pieces: list[str] = []
        self.has_ended = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, token: int, *, is_end: bool) -> Answered:
        self._left -= 1
        finish = "stop" if is_end else "length" if not self._left else None
        self.has_ended = finish is not None
        piece = self._stream.add(token, finish)
        self._pieces.append(piece.text)
        return piece


def _padded(sequence: Sequence, longest: int) -> Sequence:
    """Its first `longest` places, and one that isn't read, so that the pass is none that ends with a token."""
    tokens = sequence.tokens + [0] * (longest + 1 - len(sequence.tokens))
    return Sequence(sequence.key, tokens, len(tokens), 0, slot=sequence.slot)
