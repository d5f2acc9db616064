"""Texts a second of a local embedding model in batches, beside the same model asked for one text after the other.

    python benchmarks/embeddings.py                     the shape of all-MiniLM-L6-v2, texts of one sentence
    python benchmarks/embeddings.py --words 40 --texts 500
    python benchmarks/embeddings.py --model DIR --device cuda

Two sides are calls of one embedder with one worker process: one call with all texts, or one call for each, awaited
before the next is made. The others run in this process: a loop around transformers, and if it is installed (`pip
install sentence-transformers==6.2.0`) a loop around `encode` of sentence-transformers, and one call of it with all
texts. Their order is drawn anew for each round, no two texts are alike, and all vectors must be equal to 1e-5, or the
figure is void. Processor times are those of this process and the worker; they say what remains of a gain on a machine
that others use too. A model with random weights is written to a temporary folder unless one is named. Whatever is true
is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import psutil
import torch

from tokenmill.cluster import Node
from tokenmill.engine.embedding import Embedder, EmbedderOptions, make_embedder
from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import paired_ratio
from tokenmill.workload import words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tokenmill.engine.embedding import Vectors

SEED = 11
TARGET = 5.0
VOCAB = 30522
LOOP, PEER = "loop around sentence-transformers", "sentence-transformers in batches"

Side: TypeAlias = "Callable[[Embedder, list[str]], Awaitable[Vectors]]"


def write_minilm(folder: Path) -> Path:
    """A BERT of the shape of all-MiniLM-L6-v2 with random weights, whose tokenizer knows the words of the texts."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    transformers.BertModel(config).save_pretrained(folder)
    draw = Random(SEED)
    known = sorted({word.strip(".").lower() for _ in range(2000) for word in words.sentence(draw).split()})
    signs = [*"0123456789.", *(f"##{digit}" for digit in range(10))]
    vocab = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *signs, *known])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    kinds = [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")]
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [{"idx": at, "name": str(at), "path": paths[at], "type": kind} for at, kind in enumerate(kinds)]
    for path in paths[1:]:
        (folder / path).mkdir()
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind | special))
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256}))
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def make_texts(count: int, most_words: int) -> list[str]:
    draw = Random(SEED)
    return [f"{words.text(draw, draw.randint(1, most_words))} {number}" for number in range(count)]


async def one_by_one(embedder: Embedder, texts: list[str]) -> Vectors:
    return np.concatenate([await embedder.embed([text]) for text in texts])


async def together(embedder: Embedder, texts: list[str]) -> Vectors:
    return await embedder.embed(texts)


def transformers_side(path: Path, longest: int) -> Side:
    """What a loop around transformers does: the mean of the last states, with a norm of one."""
    import transformers

    model = transformers.BertModel.from_pretrained(path).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))

    @torch.inference_mode()
    def vector(text: str) -> torch.Tensor:
        tokens = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")["input_ids"]
        mean = model(input_ids=tokens).last_hidden_state[0].mean(0)
        unit: torch.Tensor = mean / mean.norm()
        return unit

    async def side(_embedder: Embedder, texts: list[str]) -> Vectors:
        return torch.stack([vector(text) for text in texts]).numpy()

    return side


def peer_sides(path: Path) -> dict[str, Side]:
    """What its readers are told to write; nothing where it isn't installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        print(f"{LOOP}: n/a, sentence-transformers isn't installed")
        return {}
    model = importlib.import_module("sentence_transformers").SentenceTransformer(str(path), device="cpu")

    async def loop(_embedder: Embedder, texts: list[str]) -> Vectors:
        return np.stack([model.encode(text, show_progress_bar=False) for text in texts])

    async def batches(_embedder: Embedder, texts: list[str]) -> Vectors:
        return np.asarray(model.encode(texts, show_progress_bar=False), np.float32)

    return {LOOP: loop, PEER: batches}


def processor_seconds() -> float:
    """Of this process and its children."""
    return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())


async def measure(path: Path, options: argparse.Namespace) -> None:
    texts = make_texts(options.texts, options.words)
    chosen = EmbedderOptions(device=options.device, threads=options.threads)
    embedder = make_embedder(Node(name="bench", engine="local", target=str(path)), chosen)
    longest = (await embedder.open()).longest
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    sides = {
        "one by one": one_by_one,
        "in batches": together,
        "loop around transformers": transformers_side(path, longest or 512),
        **peer_sides(path),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    computing: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, Vectors] = {}
    order = Random(SEED)
    try:
        for side in sides.values():
            await side(embedder, texts)  # the first passes prepare kernels for their shapes
        for _ in range(options.rounds):
            for name in order.sample(sorted(sides), len(sides)):
                start, busy = time.perf_counter(), processor_seconds()
                found[name] = await sides[name](embedder, texts)
                seconds[name].append(time.perf_counter() - start)
                computing[name].append(processor_seconds() - busy)
    finally:
        await embedder.close()
    tell(found, seconds, computing, len(texts))


def tell(
    found: dict[str, Vectors], seconds: dict[str, list[float]], computing: dict[str, list[float]], count: int
) -> None:
    for name, took in seconds.items():
        busy = 1e3 * median(computing[name]) / count
        print(f"{name:40}{count / median(took):8.0f} texts/s, {busy:.2f} ms of a processor each, median of {len(took)}")
    for name in sorted(found.keys() - {"in batches"}):
        difference = float(np.abs(found[name] - found["in batches"]).max())
        if difference > 1e-5:
            sys.exit(f"void: vectors in batches and of {name} differ by {difference:g}")
        ratio = paired_ratio(seconds[name], seconds["in batches"])
        print(f"in batches against {name}, vectors equal to {difference:.1g}: {Claim(ratio=ratio)}")
        print(f"    processor time: {Claim(ratio=paired_ratio(computing[name], computing['in batches']))}")
        if ratio.low is not None and name != PEER:
            print(f"    target {TARGET:g} x: {'met' if ratio.low >= TARGET else 'not shown'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder; by default the shape of MiniLM with random weights")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--words", type=int, default=10, help="of the longest text, in sentences of 10")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options.model or write_minilm(Path(folder)), options))


if __name__ == "__main__":
    main()
