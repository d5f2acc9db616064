"""Tensor parallelism by DeepSpeed's AutoTP, over a model of transformers: the named alternative to our own.

AutoTP replaces linears inside a model and knows neither of our cache nor of our batches, so sequences run as people
run them there: a static batch, padded in front, which takes in nobody until its last sequence has ended. Tokens are
chosen by the same sampler as everywhere, and the lead tells the others what to read as in a group of our own engine.
"""

from __future__ import annotations

import logging
import os
from collections import deque

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from tokenmill.engine.local.core import DTYPES, Output, Step, find_limit
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.group import Group
from tokenmill.engine.local.memory import MemoryPlan, plan_memory
from tokenmill.engine.local.sampling import Draw, choose, uniform
from tokenmill.engine.local.wire import Load
from tokenmill.errors import UsageError
from tokenmill.request import Sampling

#: An operator that is compiled at its first use and takes the process down where ranks are on several hosts, or where
#: a variable of DeepSpeed's own launcher isn't set. Without it sums go over torch, with the same result.
SHM_OPERATOR = "deepspeed_shm_comm"


class Words(Struct, frozen=True, array_like=True):
    """What a batch reads next: whole prompts if it is `fresh`, else one token a row."""

    fresh: bool
    rows: list[list[int]]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Words)


def read_words(body: bytes) -> Words:
    """What the lead sent."""
    return _DECODER.decode(body)


class Divided:
    """One rank's share of a model of transformers, and the keys and values of the batch that runs."""

    def __init__(self, folder: ModelFolder, load: Load) -> None:
        if load.device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        import deepspeed
        from transformers import AutoModelForCausalLM

        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        operators = deepspeed.ops.__compatible_ops__
        if SHM_OPERATOR not in operators:
            raise UsageError(f"this DeepSpeed has no operator {SHM_OPERATOR!r} to switch off; take 0.19.8")
        operators[SHM_OPERATOR] = False
        torch.set_num_threads(load.threads)
        dtype = DTYPES[load.dtype]
        model = AutoModelForCausalLM.from_pretrained(
            folder.path, dtype=dtype, local_files_only=True, trust_remote_code=False
        )
        engine = deepspeed.init_inference(
            model.eval(), tensor_parallel={"tp_size": load.tp}, dtype=dtype, replace_with_kernel_inject=False
        )
        self._model = engine.module
        self._device = torch.device(load.device)
        self._seen = torch.empty(0)
        self._past: object = None

    @torch.inference_mode()
    def obey(self, words: Words) -> Tensor:
        """Logits `[rows, vocab]` of the last token of each row."""
        width = max(len(row) for row in words.rows)
        tokens = torch.tensor([[0] * (width - len(row)) + row for row in words.rows], device=self._device)
        here = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in words.rows], device=self._device)
        if words.fresh:
            from transformers import DynamicCache

            self._past = DynamicCache(config=self._model.config)
            self._seen = here
        else:
            self._seen = torch.cat((self._seen, here), 1)
        positions = (self._seen.cumsum(1) - 1).clamp_(min=0)[:, -width:]
        found = self._model(
            input_ids=tokens,
            attention_mask=self._seen,
            position_ids=positions,
            past_key_values=self._past,
            use_cache=True,
            logits_to_keep=1,
        )
        return found.logits[:, -1]  # type: ignore[no-any-return]  # transformers has no types


class Row(Struct):
    """One request; it ends at `limit` tokens. `finished` ones stay in their batch as dead weight."""

    key: int
    tokens: list[int]
    prompt_tokens: int
    limit: int
    sampling: Sampling
    seed: int
    finished: bool = False

    def draw(self) -> Draw:
        sampling, number = self.sampling, len(self.tokens) - self.prompt_tokens
        return Draw(sampling.temperature, sampling.top_k, sampling.top_p, uniform(self.seed, number))


class PaddedCore:
    """The lead: batches of requests one after the other, told to the other ranks word by word."""

    def __init__(self, folder: ModelFolder, load: Load, group: Group) -> None:
        self.plan: MemoryPlan = plan_memory(
            folder.config, load.dtype, load.slots, load.context, load.kv_memory, load.tp
        )
        self._vocab = folder.config.vocab
        self._ends = frozenset(folder.config.eos_ids)
        self._group = group
        self._waiting: deque[Row] = deque()
        self._batch: list[Row] = []
        self._divided = Divided(folder, load)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting) or not all(row.finished for row in self._batch)

    def submit(self, key: int, prompt: list[int], sampling: Sampling, seed: int) -> None:
        """Queues a request; `EngineError` for a prompt that leaves no room for an answer."""
        limit = find_limit(prompt, sampling, self._vocab, self.plan)
        self._waiting.append(Row(key, list(prompt), len(prompt), limit, sampling, seed))

    def cancel(self, key: int) -> None:
        """Forgets a request; its row goes on unseen until its batch is over."""
        self._waiting = deque(row for row in self._waiting if row.key != key)
        for row in self._batch:
            row.finished = row.finished or row.key == key

    def step(self) -> Step:
        """One pass of the batch, or the first of a new one once all of the last have ended."""
        fresh = all(row.finished for row in self._batch)
        if fresh:
            self._batch = self._take()
        if not self._batch:
            return Step(0, [])
        words = Words(fresh, [row.tokens if fresh else row.tokens[-1:] for row in self._batch])
        self._group.tell(_ENCODER.encode(words))
        logits = self._divided.obey(words)
        draws = {
            number: row.draw()
            for number, row in enumerate(self._batch)
            if row.sampling.temperature > 0 and not row.finished
        }
        with torch.inference_mode():
            chosen = choose(logits, draws)
        outputs = []
        for row, token in zip(self._batch, chosen, strict=True):
            ended = row.finished
            row.tokens.append(token)
            if not ended:
                finish = self._finish(row, token)
                row.finished = finish is not None
                outputs.append(Output(row.key, token, finish))
        return Step(len(self._batch), outputs)

    def _finish(self, row: Row, token: int) -> str | None:
        if token in self._ends:
            return "stop"
        return "length" if len(row.tokens) >= row.limit else None

    def _take(self) -> list[Row]:
        """Those that waited longest, as many as the slots and the KV memory have room for until all have ended."""
        batch: list[Row] = []
        prompt = answer = 0
        while self._waiting and len(batch) < self.plan.slots:
            row = self._waiting[0]
            prompt, answer = max(prompt, row.prompt_tokens), max(answer, row.limit - row.prompt_tokens)
            if batch and (len(batch) + 1) * (prompt + answer) > self.plan.kv_tokens:
                break
            batch.append(self._waiting.popleft())
        return batch
