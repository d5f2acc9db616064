"""The batcher: who runs in the next pass, within the memory there is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tokenmill.engine.local.batcher import Batcher, Move, Pass

END = frozenset({9})


def finish(batcher: Batcher, token: int = 1) -> list[Pass]:
    """Runs the batcher until nothing is left, every pass producing `token`."""
    passes = []
    while (decided := batcher.plan()) is not None:
        passes.append(decided)
        batcher.record(decided, [token] * len(decided.producing), END)
    return passes


def keys(decided: Pass | None) -> list[int]:
    assert decided is not None
    return [sequence.key for sequence in decided.decoding] + [piece.sequence.key for piece in decided.pieces]


def test_a_prompt_is_read_then_continued_to_its_limit() -> None:
    """A sequence gets one token from the pass that completes its prompt and one from each later pass."""
    batcher = Batcher(tokens=64, slots=1, context=64)
    batcher.add(7, [1, 2, 3], limit=6)

    passes = finish(batcher)

    assert [(len(one.decoding), [piece.count for piece in one.pieces]) for one in passes] == [
        (0, [3]),
        (1, []),
        (1, []),
    ]
    assert not batcher.has_work


def test_an_end_token_ends_an_answer_and_is_not_kept() -> None:
    """The token that ends an answer is reported as a stop and added to nothing."""
    batcher = Batcher(tokens=64, slots=1, context=64)
    batcher.add(7, [1, 2], limit=60)
    decided = batcher.plan()
    assert decided is not None

    [(sequence, why)] = batcher.record(decided, [9], END)

    assert (sequence.tokens, why) == ([1, 2], "stop")


def test_a_slot_is_refilled_by_the_pass_after_its_sequence_ended() -> None:
    """The row of an ended sequence belongs to the next in the queue one pass later."""
    batcher = Batcher(tokens=640, slots=2, context=64)
    for key, limit in ((0, 3), (1, 9), (2, 9)):
        batcher.add(key, [1, 1], limit)
    first = batcher.plan()
    assert first is not None
    batcher.record(first, [1, 1], END)

    second = batcher.plan()

    assert keys(first) == [0, 1]
    assert second is not None
    assert keys(second) == [1, 2]
    assert second.moves == [Move(source=1, target=0, length=2)]


def test_a_long_prompt_is_read_in_pieces_while_others_go_on() -> None:
    """No pass reads more prompt tokens than its limit, and a sequence that decodes gets a token from each."""
    batcher = Batcher(tokens=400, slots=2, context=200, prefill_tokens=30)
    batcher.add(0, [1, 1], limit=20)
    batcher.add(1, [1] * 70, limit=71)

    passes = finish(batcher)

    assert [[piece.count for piece in one.pieces] for one in passes[:4]] == [[2, 28], [30], [12], []]
    assert [len(one.decoding) for one in passes[:4]] == [0, 1, 1, 1]


def test_rows_stretch_for_a_long_sequence_and_shrink_when_it_is_gone() -> None:
    """A prompt longer than an equal share gets a long row; once it has ended, all slots can be used again."""
    batcher = Batcher(tokens=1024, slots=8, context=1024)
    batcher.add(0, [1] * 600, limit=602)
    for key in range(1, 9):
        batcher.add(key, [1] * 8, limit=100)

    passes = finish(batcher)

    assert passes[0].stride >= 600
    assert max(one.width for one in passes[:2]) == 1
    assert max(one.width for one in passes) == 8


def test_the_youngest_gives_way_when_memory_runs_out() -> None:
    """If two answers grow beyond the memory, the older one goes on and the younger is read again later."""
    batcher = Batcher(tokens=64, slots=2, context=64)
    batcher.add(0, [1] * 30, limit=60)
    batcher.add(1, [1] * 30, limit=60)

    passes = finish(batcher)

    assert all(one.decoding[0].key == 0 for one in passes[1:30])
    read_again = [piece for one in passes[1:] for piece in one.pieces]
    assert [(piece.sequence.key, piece.count) for piece in read_again] == [(1, 33)]


class Batching(RuleBasedStateMachine):
    """Requests come, run, end and are cancelled in any order, in any amount of memory.

    Beside the batcher goes a model of the memory: who owns each place of the arena and how far it is filled.
    """

    @initialize(
        tokens=st.integers(2, 700), slots=st.integers(1, 6), prefill=st.integers(1, 80), longest=st.integers(2, 300)
    )
    def start(self, tokens: int, slots: int, prefill: int, longest: int) -> None:
        context = min(longest, tokens)
        self.batcher = Batcher(tokens=tokens, slots=slots, context=context, prefill_tokens=prefill)
        self.owners: dict[int, tuple[int, int]] = {}
        self.open: dict[int, tuple[int, int]] = {}
        self.made: dict[int, int] = {}
        self.ended: set[int] = set()
        self.number = 0

    @precondition(lambda self: self.batcher.context > 2)
    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        prompt = data.draw(st.integers(1, self.batcher.context - 1))
        limit = data.draw(st.integers(prompt + 1, self.batcher.context))
        self.open[self.number] = (prompt, limit)
        self.made[self.number] = 0
        self.batcher.add(self.number, [0] * prompt, limit)
        self.number += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.open)))
        self.batcher.remove(key)
        self._close(key)

    @rule(ending=st.sets(st.integers(0, 5)), times=st.integers(1, 40))
    def run(self, ending: set[int], times: int) -> None:
        for place in range(times):
            self._step(ending if place == 0 else set())

    def _step(self, ending: set[int]) -> None:
        decided = self.batcher.plan()
        if decided is None:
            assert not self.open
            return
        self._check_memory(decided)
        assert decided.width <= self.batcher.slots
        assert sum(piece.count for piece in decided.pieces) <= self.batcher.prefill_tokens
        tokens = [9 if place in ending else 1 for place in range(len(decided.producing))]
        for sequence, why in self.batcher.record(decided, tokens, END):
            self.made[sequence.key] += why != "stop"
            if why == "length":
                prompt, limit = self.open[sequence.key]
                assert self.made[sequence.key] == limit - prompt
            if why is not None:
                self._close(sequence.key)

    def _close(self, key: int) -> None:
        del self.open[key]
        self.ended.add(key)

    def _check_memory(self, decided: Pass) -> None:
        """Follows the moves: what a sequence relies on must be in its row, and rows must lie within the arena."""
        for move in decided.moves:
            owner, filled = self.owners[move.source]
            assert move.length <= filled
            self.owners[move.target] = owner, move.length
        live = self.batcher.running
        kept = {slot: self.owners.get(slot) for slot in range(len(decided.kept))}
        self.owners = {slot: (owner[0], decided.kept[slot]) for slot, owner in kept.items() if owner is not None}
        assert len(live) * decided.stride <= self.batcher.tokens
        assert [sequence.slot for sequence in live] == list(range(len(live)))
        assert [sequence.slot for sequence in decided.decoding] == list(range(len(decided.decoding)))
        counts = [(sequence, 1) for sequence in decided.decoding]
        for sequence, count in counts + [(piece.sequence, piece.count) for piece in decided.pieces]:
            if sequence.stored:
                assert self.owners[sequence.slot] == (sequence.key, sequence.stored)
            assert sequence.stored + count <= decided.stride
            self.owners[sequence.slot] = sequence.key, sequence.stored + count
        running = {sequence.key for sequence, _ in counts} | {piece.sequence.key for piece in decided.pieces}
        assert running == {sequence.key for sequence in live}
        assert not running & self.ended

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every request that has not ended is either waiting or running, once."""
        there = [sequence.key for sequence in (*self.batcher.waiting, *self.batcher.running)]
        assert sorted(there) == sorted(self.open)

    def teardown(self) -> None:
        """Everything ends; each sequence needs few passes beyond its own tokens, so a bound on passes is safe."""
        for _ in range(200_000):
            if not self.open:
                break
            self._step(set())
        assert not self.open


TestBatching = Batching.TestCase
TestBatching.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_no_slot_is_empty_while_work_waits(lengths: list[int], slots: int) -> None:
    """With memory for all slots, every pass is as wide as slots or remaining requests allow."""
    batcher = Batcher(tokens=slots * 64, slots=slots, context=64, prefill_tokens=1000)
    for key, length in enumerate(lengths):
        batcher.add(key, [1], limit=1 + length)
    left = len(lengths)

    while (decided := batcher.plan()) is not None:
        assert decided.width == min(slots, left)
        results = batcher.record(decided, [1] * len(decided.producing), END)
        left -= sum(why is not None for _, why in results)

    assert left == 0
