"""Train the demo model and write it as a Hugging Face folder.

    python models/demo/train.py --out src/tokenmill/demo

The seed decides the text, its order and the first weights. The loss counts completions only. Batches are padded on the
right and hold samples of like length, so causal attention alone keeps the padding out and no mask is needed.
"""

import argparse
import json
import math
import platform
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from corpus import Corpus
from safetensors.torch import save
from tokenizer import end_id, prompt_text, train_tokenizer, write_tokenizer
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

CONTEXT = 1024
POOL = 400  # samples sorted by length at a time
IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that decides a training run; `tokens` is the padded size of a batch."""

    seed: int = 20261120
    steps: int = 2400
    tokens: int = 4096
    entries: int = 1600
    tokenizer_samples: int = 20000
    rate: float = 2.5e-3
    warmup: int = 100
    decay: float = 0.05
    # The first token says which answer comes and, for a count, how long: one token in hundreds, so it weighs more.
    first_weight: float = 4.0
    threads: int = 2
    hidden: int = 192
    inner: int = 512
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """ids, labels and weights are [samples, length]; labels are shifted: labels[:, i] follows ids[:, i]."""

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


def build_config(settings: Settings, end: int) -> dict[str, Any]:
    """config.json of the model, in the spelling that both old and new readers of Llama folders know."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": settings.entries,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.inner,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "head_dim": settings.hidden // settings.heads,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": end,
        "torch_dtype": "bfloat16",
    }


def encoded(corpus: Corpus, tokenizer: Tokenizer, seed: int) -> Iterator[tuple[list[int], int]]:
    """Samples as token ids with the length of their prompt; the few that exceed the context are left out."""
    end = end_id(tokenizer)
    for sample in corpus.samples(random.Random(f"training {seed}")):
        prompt = tokenizer.encode(prompt_text(sample)).ids
        ids = [*prompt, *tokenizer.encode(sample.completion).ids, end]
        if len(ids) <= CONTEXT:
            yield ids, len(prompt)


def pad(rows: list[tuple[list[int], int]], end: int, first_weight: float) -> Batch:
    """Rows as one batch; prompts and padding carry no label."""
    length = max(len(ids) for ids, _ in rows) - 1
    ids = torch.full((len(rows), length), end)
    labels = torch.full((len(rows), length), IGNORED)
    weights = torch.zeros((len(rows), length))
    for row, (tokens, prompt) in enumerate(rows):
        ids[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        labels[row, prompt - 1 : len(tokens) - 1] = torch.tensor(tokens[prompt:])
        weights[row, prompt - 1 : len(tokens) - 1] = 1.0
        weights[row, prompt - 1] = first_weight
    return Batch(ids=ids, labels=labels, weights=weights)


def batches(corpus: Corpus, tokenizer: Tokenizer, settings: Settings) -> Iterator[Batch]:
    """Batches of at most `tokens` padded tokens, without end."""
    end = end_id(tokenizer)
    rows = encoded(corpus, tokenizer, settings.seed)
    draw = random.Random(f"order {settings.seed}")
    while True:
        groups: list[list[tuple[list[int], int]]] = [[]]
        for row in sorted(islice(rows, POOL), key=lambda row: len(row[0])):
            # Sorted by length, so the newest row is the longest of its group.
            if (len(groups[-1]) + 1) * len(row[0]) > settings.tokens:
                groups.append([])
            groups[-1].append(row)
        draw.shuffle(groups)
        for group in groups:
            yield pad(group, end, settings.first_weight)


def rate_at(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < settings.warmup:
        return settings.rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention in fp32: forward and backward with heads of 32 took 51 ms on 2 cores where bf16 took 73 ms."""
    assert mask is None
    assert module.training
    with torch.autocast("cpu", enabled=False):
        result = functional.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), is_causal=True, scale=scaling, enable_gqa=True
        )
    return result.transpose(1, 2).contiguous(), None


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Weighted mean loss of the completion tokens; matrix products of the layers in bf16, the rest in fp32."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(batch.ids, use_cache=False).last_hidden_state
        kept = batch.labels != IGNORED
        logits = model.lm_head(hidden[kept])
    losses = functional.cross_entropy(logits.float(), batch.labels[kept], reduction="none")
    weights = batch.weights[kept]
    return (losses * weights).sum() / weights.sum()


class Log:
    """Writes train.log.jsonl: the settings, a line for every hundred steps, a summary."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
        versions = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        self.write(settings=asdict(settings), versions=versions)

    def write(self, **values: object) -> None:
        self.file.write(json.dumps(values) + "\n")
        self.file.flush()

    def progress(self, step: int, tokens: int, loss: float, rate: float) -> None:
        seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.cpu_began
        self.write(
            step=step,
            loss=round(loss, 5),
            rate=round(rate, 7),
            tokens=tokens,
            seconds=round(seconds, 1),
            cpu_seconds=round(cpu, 1),
            tokens_per_second=round(tokens / seconds),
        )


def fit(model: LlamaForCausalLM, source: Iterator[Batch], settings: Settings, log: Log) -> None:
    """Run all steps; norms and embeddings take no weight decay."""
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=True)
    tokens, since = 0, 0.0
    for step, batch in enumerate(islice(source, settings.steps)):
        rate = rate_at(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += batch.ids.numel()
        since += loss.item()
        if (step + 1) % 100 == 0 or step + 1 == settings.steps:
            log.progress(step + 1, tokens, since / (step % 100 + 1), rate)
            since = 0.0


def write_model(model: LlamaForCausalLM, config: dict[str, Any], folder: Path) -> None:
    """Weights rounded to bf16, without the output layer: it is the embedding."""
    state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    state.pop("lm_head.weight", None)
    # Written by us, as save_file leaves a file that only its owner can read.
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    generation = {"do_sample": False, "eos_token_id": config["eos_token_id"], "pad_token_id": config["pad_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", "utf-8")


def train(settings: Settings, folder: Path) -> None:
    """Tokenizer, model, log: everything in `folder` but the model card."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    log = Log(folder / "train.log.jsonl", settings)
    corpus = Corpus(settings.seed)
    tokenizer = train_tokenizer(corpus, settings.entries, settings.tokenizer_samples)
    write_tokenizer(tokenizer, folder, CONTEXT)
    config = build_config(settings, end_id(tokenizer))
    AttentionInterface.register("plain", attend)
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="plain")).float().train()
    log.write(parameters=sum(p.numel() for p in model.parameters()), tokenizer_entries=tokenizer.get_vocab_size())
    fit(model, batches(corpus, tokenizer, settings), settings, log)
    write_model(model, config, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=Settings.__dataclass_fields__["steps"].default)
    parser.add_argument("--seed", type=int, default=Settings.__dataclass_fields__["seed"].default)
    arguments = parser.parse_args()
    train(Settings(steps=arguments.steps, seed=arguments.seed), arguments.out)


if __name__ == "__main__":
    main()
