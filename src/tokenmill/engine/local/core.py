"""Prompts in, tokens out: the synchronous heart of the local engine.

`Core` joins the batcher, which decides with plain ints, and the runner, which holds the tensors. One call of `step`
is one decision, one forward pass and one choice of tokens; whoever calls it owns the loop, the text and the clock.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from msgspec import Struct
from torch import Tensor

from tokenmill.engine.local.batcher import Batcher, Sequence
from tokenmill.engine.local.cache import Cache
from tokenmill.engine.local.group import Group
from tokenmill.engine.local.memory import MemoryPlan, plan_memory
from tokenmill.engine.local.models import build_model
from tokenmill.engine.local.order import make_order, pack
from tokenmill.engine.local.runner import Runner
from tokenmill.engine.local.sampling import Draw, uniform
from tokenmill.engine.local.sharding import share_config, share_weights
from tokenmill.errors import EngineError
from tokenmill.model.config import ModelConfig
from tokenmill.request import Sampling

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


class Output(Struct, frozen=True):
    """One new token of a request. `finish` is None while it goes on.

    With `stop` the token is the one that ended the answer and not part of it; with `length` it is the last one.
    """

    key: int
    token: int
    finish: str | None


class Step(Struct, frozen=True):
    """One forward pass of `width` sequences; 0 if there was nothing to do. Prompts still being read give no output."""

    width: int
    outputs: list[Output]


class Core:
    """A loaded model and the requests in it. Not thread-safe."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Iterable[tuple[str, Tensor]],
        *,
        slots: int,
        kv_memory: int,
        dtype: str = "bf16",
        device: str = "cpu",
        threads: int | None = None,
        context: int | None = None,
        group: Group | None = None,
    ) -> None:
        """`weights` have the precision `dtype` and lie on `device`; `kv_memory` is in bytes.

        `threads` is set for the whole process. With a `group` this is its lead: `weights` are those of the whole model,
        of which it takes its share, and the followers compute what it decides.
        """
        ranks = group.size if group else 1
        self.plan: MemoryPlan = plan_memory(config, dtype, slots, context, kv_memory, ranks)
        if threads is not None:
            torch.set_num_threads(threads)
        self._group = group
        self._ends = frozenset(config.eos_ids)
        self._vocab = config.vocab
        self._draws: dict[int, tuple[Sampling, int]] = {}
        self._batcher = Batcher(tokens=self.plan.kv_tokens, slots=self.plan.slots, context=self.plan.context)
        self._runner = make_runner(config, weights, self.plan, dtype, device, group)

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values as allocated; equal to `plan.kv_bytes`."""
        return self._runner.cache.nbytes

    @property
    def has_work(self) -> bool:
        return self._batcher.has_work

    def submit(self, key: int, prompt: list[int], sampling: Sampling, seed: int) -> None:
        """Queues a request; `key` names it in outputs. A prompt that leaves no room for an answer is refused."""
        limit = find_limit(prompt, sampling, self._vocab, self.plan)
        if sampling.temperature > 0:
            self._draws[key] = sampling, seed
        self._batcher.add(key, prompt, limit)

    def cancel(self, key: int) -> None:
        """Forgets a request; no output of it follows. Unknown keys are those that ended."""
        self._batcher.remove(key)
        self._draws.pop(key, None)

    def step(self) -> Step:
        """Decides, runs one forward pass and chooses a token for every sequence that is due one."""
        decided = self._batcher.plan()
        if decided is None:
            return Step(0, [])
        order = make_order(decided)
        if self._group is not None:
            self._group.tell(pack(order))
        tokens = self._runner.obey(order, self._drawn(decided.producing))
        results = self._batcher.record(decided, tokens, self._ends)
        outputs = []
        for (sequence, finish), token in zip(results, tokens, strict=True):
            outputs.append(Output(sequence.key, token, finish))
            if finish is not None:
                self._draws.pop(sequence.key, None)
        return Step(decided.width, outputs)

    def _drawn(self, producing: list[Sequence]) -> dict[int, Draw]:
        """How to draw, by row of logits, for the requests that aren't greedy."""
        if not self._draws:
            return {}
        draws = {}
        for row, sequence in enumerate(producing):
            if sequence.key in self._draws:
                sampling, seed = self._draws[sequence.key]
                number = len(sequence.tokens) - sequence.prompt_tokens
                draws[row] = Draw(sampling.temperature, sampling.top_k, sampling.top_p, uniform(seed, number))
        return draws


def find_limit(prompt: list[int], sampling: Sampling, vocab: int, plan: MemoryPlan) -> int:
    """The tokens, prompt included, at which an answer ends; an `EngineError` for a prompt that has no place."""
    if not prompt:
        raise EngineError("refused", "the prompt has no tokens; at least one is needed to continue from")
    if not all(0 <= token < vocab for token in prompt):
        raise EngineError("refused", f"the prompt holds a token outside the vocabulary of {vocab}")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise EngineError("refused", f"max_tokens {sampling.max_tokens}: at least 1 is needed")
    if len(prompt) + 1 > plan.context:
        raise EngineError(
            "too_long",
            f"the prompt has {len(prompt)} tokens and {plan.context} fit with the answer "
            f"(KV memory holds {plan.kv_tokens}); shorten it, or raise the context or the KV memory",
        )
    return plan.context if sampling.max_tokens is None else min(plan.context, len(prompt) + sampling.max_tokens)


def make_runner(
    config: ModelConfig,
    weights: Iterable[tuple[str, Tensor]],
    plan: MemoryPlan,
    dtype: str,
    device: str,
    group: Group | None,
) -> Runner:
    """A loaded model with the KV memory of `plan`; one rank's share of both in a group."""
    if group is not None:
        weights = share_weights(config, weights, group.rank, group.size)
        config = share_config(config, group.size)
    stride = Batcher(tokens=plan.kv_tokens, slots=plan.slots, context=plan.context).stride
    with torch.inference_mode():
        model = build_model(config, weights, group)
        cache = Cache(config, plan.kv_tokens, stride, DTYPES[dtype], torch.device(device))
    return Runner(config, model, cache)
