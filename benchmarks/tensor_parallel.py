"""Tokens a second of a tensor parallel group beside one process on the same cores, in turns, on equal work.

    python benchmarks/tensor_parallel.py                     GPT-2 124M in fp32, two ranks against two threads
    python benchmarks/tensor_parallel.py --batch 1 --rounds 12
    python benchmarks/tensor_parallel.py --model DIR --tp 4 --threads 2

Both sides stay loaded; the one that isn't asked waits and takes no processor time. Each rank is bound to cores of its
own, one process to all of them. The order of the two is drawn anew for each round. A model with random weights is
written to a temporary folder unless one is named. Whatever is true is printed: on one machine's cores, ranks compute no
more than threads do, and pay for two sums in every layer. Tokens of the two sides must be equal, or the figure is void.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from random import Random
from statistics import median
from typing import IO

import msgspec
from msgspec import Struct

from tokenmill.engine.local.environment import worker_environment
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.machine import physical_cores
from tokenmill.engine.local.memory import plan_memory
from tokenmill.engine.local.wire import Load
from tokenmill.request import Sampling
from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import paired_ratio

SEED = 11
PROMPT = 16


class Reading(Struct, frozen=True, array_like=True):
    """One answer of the whole workload: seconds, tokens written, and a digest of all tokens."""

    seconds: float
    tokens: int
    digest: int


class Side:
    """The processes of one side; the first of them is asked."""

    def __init__(self, load: Load, batch: int, limit: int, cores: list[list[int]]) -> None:
        said = {"TOKENMILL_WORKER_TOKEN": secrets.token_hex(16), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        given = json.dumps({"load": msgspec.to_builtins(load), "batch": batch, "limit": limit})
        self._processes = [
            subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--rank", given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=worker_environment(os.environ, load.threads)
                | said
                | {
                    "TOKENMILL_TP": str(len(cores)),
                    "WORLD_SIZE": str(len(cores)),
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "BENCH_CPUS": ",".join(str(cpu) for cpu in cpus),
                },
            )
            for rank, cpus in enumerate(cores)
        ]

    def ask(self) -> Reading:
        """One reading."""
        first = self._processes[0]
        assert first.stdin is not None
        assert first.stdout is not None
        print("go", file=first.stdin, flush=True)
        return msgspec.json.decode(next_report(first.stdout), type=Reading)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def next_report(output: IO[str]) -> str:
    for line in output:
        if line.startswith("["):
            return line
    sys.exit("a rank ended; what it wrote is above")


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def serve(given: str) -> None:
    """One rank: answers the workload each time it is asked."""
    os.sched_setaffinity(0, {int(cpu) for cpu in os.environ["BENCH_CPUS"].split(",")})
    from tokenmill.engine.local.group import Group, follow
    from tokenmill.engine.local.session import load_session

    asked = json.loads(given)
    load: Load = msgspec.convert(asked["load"], Load)
    group = Group.join(os.environ)
    if group is not None and not group.leads:
        follow(group)
    core = load_session(load, group)._core
    draw = Random(SEED)
    vocab = ModelFolder(Path(load.folder)).config.vocab
    prompts = [[draw.randrange(vocab) for _ in range(PROMPT)] for _ in range(asked["batch"])]
    for _ in sys.stdin:
        start, tokens = time.perf_counter(), []
        for key, prompt in enumerate(prompts):
            core.submit(key, prompt, Sampling(max_tokens=asked["limit"]), 0)
        while core.has_work:
            tokens += [(output.key, output.token) for output in core.step().outputs]
        seconds = time.perf_counter() - start
        digest = hash(tuple(sorted(tokens, key=lambda pair: pair[0])))
        print(json.dumps([seconds, len(tokens), digest]), flush=True)


def write_gpt2(folder: Path) -> Path:
    """GPT-2 124M with random weights; the tokenizer is the smallest that a folder may have."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def make_load(path: Path, options: argparse.Namespace, tp: int, threads: int) -> Load:
    folder = ModelFolder(path)
    context = PROMPT + options.tokens
    plan = plan_memory(folder.config, options.dtype, options.batch, context, 1 << 40, tp)
    return Load(
        folder=str(path),
        digest=folder.digest,
        dtype=options.dtype,
        device="cpu",
        threads=threads,
        slots=options.batch,
        context=context,
        kv_memory=plan.kv_bytes,
        tp=tp,
    )


def measure(path: Path, options: argparse.Namespace) -> None:
    tp, threads = options.tp, options.threads
    cores = physical_cores()
    if tp * threads > len(cores):
        sys.exit(f"{tp} ranks of {threads} threads are more than the {len(cores)} cores here; give fewer")
    shares = [list(chain(*cores[rank * threads : (rank + 1) * threads])) for rank in range(tp)]
    group = Side(make_load(path, options, tp, threads), options.batch, options.tokens, shares)
    one = Side(make_load(path, options, 1, tp * threads), options.batch, options.tokens, [list(chain(*shares))])
    seconds: dict[str, list[float]] = {"group": [], "one": []}
    digests, tokens = set(), 0
    order = Random(SEED)
    try:
        for side in (group, one):
            side.ask()  # the first passes prepare kernels for their shapes
        for _ in range(options.rounds):
            turn = [("group", group), ("one", one)]
            order.shuffle(turn)
            for name, side in turn:
                reading = side.ask()
                seconds[name].append(reading.seconds)
                digests.add(reading.digest)
                tokens = reading.tokens
    finally:
        group.end()
        one.end()
    for name, label in (
        ("one", f"one process, {tp * threads} threads"),
        ("group", f"tp {tp}, {threads} thread(s) a rank"),
    ):
        print(f"{label}: {tokens / median(seconds[name]):.1f} tokens/s, median of {options.rounds}")
    if len(digests) > 1:
        sys.exit("void: the tokens of the two sides differ")
    ratio = paired_ratio(seconds["one"], seconds["group"])
    print(f"tp {tp} against one process, batch {options.batch}, tokens equal: {Claim(ratio=ratio)}")
    if ratio.value is not None and ratio.low is not None and ratio.high is not None:
        print(f"ratio of tokens/s {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder or GGUF file; by default GPT-2 124M with random weights")
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24, help="that each request writes")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        serve(options.rank)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(options.model or write_gpt2(Path(folder)), options)


if __name__ == "__main__":
    main()
