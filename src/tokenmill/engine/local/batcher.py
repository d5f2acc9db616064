"""Which sequences run in the next forward pass: plain ints, no tensors, no clock.

The KV memory is one arena of `tokens` places. It is cut into rows of equal length, the *stride*, and a running
sequence owns one row: `running * stride <= tokens` holds at every moment, so the budget can't be exceeded. Rows of
live sequences are in front (`slot` 0, 1, ...), which lets attention read one slice of the arena instead of gathering
blocks; gathering would copy the whole KV memory in each layer of each step, and on a CPU that copy costs as much as
the attention itself. The stride starts at an equal share for every slot. A longer sequence stretches all rows, at the
price of fewer of them; when the long ones are gone and others wait, the rows shrink back.

Space is given for what a sequence has, not for what it might become, because most end before their limit. If the rows
of all have to be longer than the arena allows, the youngest sequence gives up its row, goes back to the front of
the queue and is computed again later from its prompt and the tokens it already has. The oldest always goes on, so
every sequence ends.

Each step is one pass over one token of every decoding sequence and up to `prefill_tokens` prompt tokens. At most
one prompt is partly read, the last slot's: others start only while the step has room for prompt tokens.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

#: Row lengths and key lengths are multiples of this, so that shapes change seldom.
BUCKET = 64


class Sequence(Struct):
    """One request on its way: `tokens` is the prompt and what was generated; `stored` of them are in KV memory.

    `limit` is the number of tokens at which it ends. `slot` is its row, -1 while it waits. `age` counts admissions
    before its own; it keeps that when it is preempted.
    """

    key: int
    tokens: list[int]
    prompt_tokens: int
    limit: int
    stored: int = 0
    slot: int = -1
    age: int = -1

    @property
    def is_decoding(self) -> bool:
        return self.slot >= 0 and self.stored == len(self.tokens) - 1 and self.stored > 0


class Move(Struct, frozen=True, array_like=True):
    """Copy the first `length` places of row `source` over row `target`."""

    source: int
    target: int
    length: int


class Piece(Struct, frozen=True):
    """The next `count` prompt tokens of a sequence, of which `sequence.stored` were read before."""

    sequence: Sequence
    count: int

    @property
    def completes(self) -> bool:
        return self.sequence.stored + self.count == len(self.sequence.tokens)


class Pass(Struct, frozen=True):
    """One forward pass, and what to do to the KV memory before it.

    First the `moves` in order, rows being `old_stride` long; then, if `stride` differs, the rows in `kept` (stored
    tokens of each live row) are laid out anew. `decoding` are in slot order and occupy the first slots.
    """

    old_stride: int
    stride: int
    moves: list[Move]
    kept: list[int]
    decoding: list[Sequence]
    pieces: list[Piece]

    @property
    def width(self) -> int:
        return len(self.decoding) + len(self.pieces)

    @property
    def producing(self) -> list[Sequence]:
        """The sequences that get a token, in the order of the rows of logits."""
        return self.decoding + [piece.sequence for piece in self.pieces if piece.completes]


class Batcher:
    """The waiting and the running; `tokens` places of KV memory, `slots` and `prefill_tokens` are never exceeded."""

    def __init__(self, *, tokens: int, slots: int, context: int, prefill_tokens: int = 512) -> None:
        assert tokens >= context >= 2, "the memory plan must come first"
        assert min(slots, prefill_tokens) >= 1, "a pass needs room for something"
        self.tokens = tokens
        self.slots = slots
        self.context = context
        self.prefill_tokens = prefill_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.stride = self.equal_share
        self._admitted = 0

    @property
    def equal_share(self) -> int:
        return max(1, min(self.context, self.tokens // self.slots))

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, key: int, prompt: list[int], limit: int) -> None:
        """Queues a sequence that ends at `limit` tokens, prompt included."""
        assert 0 < len(prompt) < limit <= self.context, f"limit {limit} of sequence {key} was not checked"
        self.waiting.append(Sequence(key, list(prompt), len(prompt), limit))

    def remove(self, key: int) -> None:
        """Forgets a sequence, running or waiting; its row is free in the next pass. Unknown keys are ended ones."""
        self.running = [sequence for sequence in self.running if sequence.key != key]
        self.waiting = deque(sequence for sequence in self.waiting if sequence.key != key)

    def plan(self) -> Pass | None:
        """Decides the next pass, or None if nothing is left to do."""
        old_stride = self.stride
        self._grow()
        moves = self._compact()
        kept = [sequence.stored for sequence in self.running]
        pieces = self._prefill()
        if not self.running:
            return None
        decoding = [sequence for sequence in self.running if sequence.is_decoding]
        return Pass(old_stride, self.stride, moves, kept, decoding, pieces)

    def record(self, done: Pass, tokens: list[int], ends: frozenset[int]) -> list[tuple[Sequence, str | None]]:
        """Takes in the tokens of a pass; says of each producing sequence whether and why it ended.

        `ends` are the tokens that end an answer; such a token isn't added.
        """
        for sequence in done.decoding:
            sequence.stored += 1
        results: list[tuple[Sequence, str | None]] = []
        producing = done.producing
        for piece in done.pieces:
            piece.sequence.stored += piece.count
        for sequence, token in zip(producing, tokens, strict=True):
            finish = "stop" if token in ends else None
            if finish is None:
                sequence.tokens.append(token)
                finish = "length" if len(sequence.tokens) >= sequence.limit else None
            if finish is not None:
                self.running = [other for other in self.running if other is not sequence]
            results.append((sequence, finish))
        return results

    def _grow(self) -> None:
        """Makes rows long enough for the tokens that are there, preempting the youngest while that doesn't fit."""
        while self.running:
            needed = max(len(sequence.tokens) for sequence in self.running)
            if needed <= self.stride:
                return
            roomy = self._roomy(self.running)
            for stride in (roomy, min(self.context, _bucketed(needed)), needed):
                if len(self.running) * stride <= self.tokens:
                    self.stride = stride
                    return
            self._preempt()

    def _preempt(self) -> None:
        youngest = max(self.running, key=lambda sequence: sequence.age)
        self.running = [sequence for sequence in self.running if sequence is not youngest]
        youngest.slot, youngest.stored = -1, 0
        self.waiting.appendleft(youngest)

    def _compact(self) -> list[Move]:
        """Fills the holes in front with rows from behind; the partly read prompt, if any, becomes the last row."""
        partial = [sequence for sequence in self.running if not sequence.is_decoding]
        decoding = sorted((s for s in self.running if s.is_decoding), key=lambda sequence: sequence.slot)
        taken = {sequence.slot for sequence in decoding}
        holes = [slot for slot in range(len(decoding)) if slot not in taken]
        moves = []
        for hole in holes:
            sequence = max(decoding, key=lambda sequence: sequence.slot)
            moves.append(Move(sequence.slot, hole, sequence.stored))
            sequence.slot = hole
        for sequence in partial:
            if sequence.slot != len(decoding):
                moves.append(Move(sequence.slot, len(decoding), sequence.stored))
                sequence.slot = len(decoding)
        self.running = sorted(decoding, key=lambda sequence: sequence.slot) + partial
        return moves

    def _prefill(self) -> list[Piece]:
        """Goes on with the partly read prompt, then starts others while slots, memory and this pass have room."""
        room = self.prefill_tokens
        pieces = []
        for sequence in self.running:
            if not sequence.is_decoding:
                pieces.append(Piece(sequence, min(room, len(sequence.tokens) - sequence.stored)))
                room -= pieces[-1].count
        while room and self.waiting and self._make_place(self.waiting[0]):
            sequence = self.waiting.popleft()
            sequence.slot = len(self.running)
            self.running.append(sequence)
            if sequence.age < 0:
                sequence.age = self._admitted
                self._admitted += 1
            pieces.append(Piece(sequence, min(room, len(sequence.tokens))))
            room -= pieces[-1].count
        return pieces

    def _make_place(self, newcomer: Sequence) -> bool:
        """Whether one more row can be had for `newcomer`, stretching or shrinking the rows if that makes it so."""
        rows = len(self.running) + 1
        if rows > self.slots:
            return False
        if len(newcomer.tokens) <= self.stride and rows * self.stride <= self.tokens:
            return True
        stride = max(self.equal_share, self._roomy([*self.running, newcomer]))
        if rows * stride > self.tokens:
            return False
        self.stride = stride
        return True

    def _roomy(self, sequences: list[Sequence]) -> int:
        """A row length that lets each of them grow by a quarter before the rows have to be stretched again."""
        return max(min(sequence.limit, _bucketed(len(sequence.tokens) * 5 // 4)) for sequence in sequences)


def _bucketed(length: int) -> int:
    return -(-length // BUCKET) * BUCKET
