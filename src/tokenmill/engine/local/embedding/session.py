"""The texts inside one worker: from what was asked to the vectors of each request, batch by batch.

All requests that wait when a round begins are computed together, so small requests of several callers share batches.
What arrives meanwhile waits for the next round, which is why no request waits for ever behind shorter ones.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from msgspec import Struct

from tokenmill.engine.local.embedding.batches import Batch, cut_batches
from tokenmill.engine.local.embedding.bert import SentenceEncoder
from tokenmill.engine.local.embedding.folder import EncoderFolder
from tokenmill.engine.local.session import is_available
from tokenmill.engine.local.weights import load_weights
from tokenmill.engine.local.wire import Embed, Embedded, LoadEmbedder, Refused
from tokenmill.errors import TokenmillError, UsageError

if TYPE_CHECKING:
    from tokenmill.engine.embedding import Vectors

#: Texts of one round. A few thousand are enough to find company of one's length.
ROUND = 4096


class Asked(Struct):
    """One request on its way: its texts as tokens, their vectors, and how many are still to come."""

    key: int
    texts: list[list[int]]
    vectors: Vectors
    missing: int


class EmbeddingSession:
    """An encoder and the requests that wait for it. Not thread-safe."""

    def __init__(self, folder: EncoderFolder, encoder: SentenceEncoder) -> None:
        self._tokenizer = folder.tokenizer
        self._longest = folder.longest
        self._dimensions = folder.config.hidden
        self._encoder = encoder
        self._waiting: deque[Asked] = deque()
        self._known: dict[int, Asked] = {}
        self._round: list[tuple[Asked, int]] = []
        self._batches: deque[Batch] = deque()

    @property
    def has_work(self) -> bool:
        return bool(self._batches or self._waiting)

    def submit(self, message: Embed) -> Refused | None:
        """Queues a request, or says why it can't be answered."""
        try:
            texts = self._tokenizer.encode(message.texts)
        except TokenmillError as error:
            return Refused(message.key, "refused", str(error))
        vectors = np.empty((len(texts), self._dimensions), dtype="<f4")
        asked = Asked(message.key, texts, vectors, len(texts))
        self._known[message.key] = asked
        self._waiting.append(asked)
        return None

    def cancel(self, key: int) -> None:
        """Forgets a request; nothing more is computed for it."""
        asked = self._known.pop(key, None)
        if asked is not None and asked in self._waiting:
            self._waiting.remove(asked)

    def step(self) -> list[Embedded]:
        """Computes one batch, and gives the requests that it completes."""
        if not self._batches:
            self._begin_round()
        batch = self._batches.popleft()
        parts = [part for part in (self._round[text] for text in batch.texts) if part[0].key in self._known]
        if not parts:
            return []
        found = self._encoder.embed([asked.texts[place] for asked, place in parts], batch.width).numpy()
        done = []
        for (asked, place), vector in zip(parts, found, strict=True):
            asked.vectors[place] = vector
            asked.missing -= 1
            if not asked.missing:
                del self._known[asked.key]
                done.append(Embedded(asked.key, asked.vectors.tobytes()))
        return done

    def _begin_round(self) -> None:
        self._round = []
        while self._waiting and (not self._round or len(self._round) + len(self._waiting[0].texts) <= ROUND):
            asked = self._waiting.popleft()
            self._round += [(asked, place) for place in range(len(asked.texts))]
        self._batches.extend(cut_batches([len(asked.texts[place]) for asked, place in self._round], self._longest))


def load_embedding(load: LoadEmbedder) -> EmbeddingSession:
    """Loads the encoder; refuses one that isn't the one the caller looked at."""
    folder = EncoderFolder(Path(load.folder))
    if folder.digest != load.digest:
        raise UsageError(f"{load.folder} has changed since it was looked at; start again to use what is there now")
    if not is_available(load.device):
        raise UsageError(f"device {load.device!r} isn't there, or this build of torch can't use it; use device cpu")
    _ = folder.tokenizer  # what can't be read must fail here, before the weights are loaded
    torch.set_num_threads(load.threads)
    weights = load_weights(folder.index, torch.float32, load.device)
    return EmbeddingSession(folder, SentenceEncoder(folder.config, folder.recipe, weights))
