"""Output tokens/s of the local engine against transformers, on the same weights, in one run.

Thirty ragged requests (prompts of 8 to 64 tokens, 10 to 300 new tokens each, greedy, the end token ignored) are
answered by a model of GPT-2's 124M shape with random weights in bf16, by three engines in turn:

- transformers, one request after the other: `generate` with its key-value cache;
- transformers, its own continuous batching, each request with its own limit;
- tokenmill's core with a slot for each request.

Loading and warming up are left out for all. An engine that returns another number of tokens than asked is an error.
Each measurement is written to a file of the cache folder when it is done, so a run that was interrupted goes on
where it stopped; delete the file to measure the same state of the source again.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import logging
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import platformdirs
import torch
import transformers
from rich.console import Console
from rich.table import Table

from kept import keep, kept_file, read_kept
from tokenmill.engine.local.core import Core
from tokenmill.engine.local.machine import has_fast_bf16, usable_cores
from tokenmill.engine.local.weights import plain_name
from tokenmill.model.config import ModelConfig, read_config
from tokenmill.request import Sampling

ONE_BY_ONE = "transformers one by one"
CONTINUOUS = "transformers continuous batching"
OURS = "tokenmill local engine"
#: How many times faster than each the local engine has to be.
TARGETS = {ONE_BY_ONE: 9.0, CONTINUOUS: 1.5}
SHAPES = {
    "124m": {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257, "n_positions": 1024},
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": 512, "n_positions": 512},
}
KV_MEMORY = 2 << 30
SEED = 20

Requests = list[tuple[list[int], int]]
Engine = Callable[[Requests], float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One engine answering all requests once, in seconds."""

    engine: str
    repeat: int
    tokens: int
    seconds: float
    load: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How many times faster than `peer`; the middle, least and largest of the repeats, each compared in itself."""

    peer: str
    target: float
    ratio: float
    least: float
    largest: float
    outcome: str


def make_requests(vocab: int, count: int, longest: int) -> Requests:
    """Ragged prompts and limits: short limits are somewhat more frequent than long ones."""
    source = random.Random(SEED)
    limits = [10 + round((longest - 10) * (place / (count - 1)) ** 1.5) for place in range(count)]
    source.shuffle(limits)
    return [([source.randrange(vocab) for _ in range(source.randint(8, 64))], limit) for limit in limits]


def check(answered: dict[Any, int], requests: Requests) -> None:
    """Every request must have its tokens, no more and no less; engines log errors and go on."""
    wanted = dict(enumerate(limit for _, limit in requests))
    if answered != wanted:
        wrong = [key for key in wanted if answered.get(key) != wanted[key]]
        raise SystemExit(f"requests {wrong} got another number of tokens than asked for; nothing can be compared")


def one_by_one(model: Any) -> Engine:
    def run(requests: Requests) -> float:
        answered: dict[Any, int] = {}
        started = time.perf_counter()
        for key, (prompt, limit) in enumerate(requests):
            tokens = torch.tensor([prompt])
            out = model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=limit, do_sample=False, use_cache=True
            )
            answered[key] = out.shape[1] - len(prompt)
        seconds = time.perf_counter() - started
        check(answered, requests)
        return seconds

    return run


def continuous(model: Any) -> Engine:
    """A manager for each measurement, started and used before the clock starts: idle, it would disturb the others.

    Left alone it takes nine tenths of the machine's memory and is slower; with these limits it holds all requests too.
    """
    settings = transformers.GenerationConfig(do_sample=False, eos_token_id=None, pad_token_id=0)
    limits = transformers.ContinuousBatchingConfig(num_blocks=128, max_batch_tokens=512)

    def answer(manager: Any, requests: Requests) -> dict[Any, int]:
        names = {manager.add_request(prompt, max_new_tokens=limit): key for key, (prompt, limit) in enumerate(requests)}
        answered: dict[Any, int] = {}
        while len(answered) < len(requests):
            result = manager.get_result(timeout=600)
            if result is None:
                raise SystemExit("continuous batching of transformers stopped answering; see its log above")
            if result.is_finished():
                answered[names[result.request_id]] = len(result.generated_tokens)
        return answered

    def run(requests: Requests) -> float:
        with model.continuous_batching_context_manager(
            generation_config=settings, continuous_batching_config=limits
        ) as manager:
            answer(manager, [(requests[0][0], 4)])
            started = time.perf_counter()
            answered = answer(manager, requests)
            seconds = time.perf_counter() - started
        check(answered, requests)
        return seconds

    return run


def ours(model: Any, config: ModelConfig, slots: int, threads: int) -> Engine:
    weights = ((plain_name(name), tensor) for name, tensor in model.state_dict().items())
    core = Core(config, weights, slots=slots, kv_memory=KV_MEMORY, dtype="bf16", threads=threads)

    def run(requests: Requests) -> float:
        answered = dict.fromkeys(range(len(requests)), 0)
        started = time.perf_counter()
        for key, (prompt, limit) in enumerate(requests):
            core.submit(key, prompt, Sampling(max_tokens=limit), 0)
        while core.has_work:
            for output in core.step().outputs:
                answered[output.key] += 1
        seconds = time.perf_counter() - started
        check(answered, requests)
        return seconds

    return run


def make_engines(shape: str, slots: int, threads: int, folder: Path) -> dict[str, Engine]:
    """All engines over one set of random weights; the configuration goes through the loader like a user's."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    described = transformers.GPT2Config(**SHAPES[shape], eos_token_id=None, bos_token_id=None, pad_token_id=0)
    model = transformers.GPT2LMHeadModel(described).to(torch.bfloat16).eval()
    described.save_pretrained(folder)
    config = msgspec.structs.replace(read_config(folder), eos_ids=())
    return {ONE_BY_ONE: one_by_one(model), CONTINUOUS: continuous(model), OURS: ours(model, config, slots, threads)}


def measure(
    engines: dict[str, Engine], requests: Requests, repeats: int, kept: Path, say: Console
) -> list[Measurement]:
    """Engines in turn, the first of each repeat another one; measurements found in `kept` aren't made again."""
    done = {(one.engine, one.repeat): one for one in (Measurement(**data) for data in read_kept(kept))}
    warm = set()
    order = list(engines)
    for repeat, place in itertools.product(range(repeats), range(len(order))):
        name = order[(place + repeat) % len(order)]
        if (name, repeat) in done:
            continue
        if name not in warm:
            engines[name]([(prompt, 4) for prompt, _ in requests[:4]])
            warm.add(name)
        seconds = engines[name](requests)
        one = Measurement(
            engine=name,
            repeat=repeat,
            tokens=sum(limit for _, limit in requests),
            seconds=seconds,
            load=os.getloadavg()[0],
        )
        done[name, repeat] = one
        keep(kept, dataclasses.asdict(one))
        say.print(f"repeat {repeat + 1} of {repeats}: {name}: {one.rate:.0f} tokens/s", highlight=False)
    return [one for (_, repeat), one in sorted(done.items()) if repeat < repeats]


def judge(measurements: list[Measurement], excuse: str) -> list[Verdict]:
    """Compares repeat by repeat, so that what slows the machine for a while slows both sides."""
    rates = {(one.engine, one.repeat): one.rate for one in measurements}
    repeats = sorted({one.repeat for one in measurements})
    verdicts = []
    for peer, target in TARGETS.items():
        ratios = [rates[OURS, repeat] / rates[peer, repeat] for repeat in repeats]
        ratio = statistics.median(ratios)
        outcome = f"n/a: {excuse}" if excuse else "pass" if ratio >= target else "fail"
        verdicts.append(
            Verdict(peer=peer, target=target, ratio=ratio, least=min(ratios), largest=max(ratios), outcome=outcome)
        )
    return verdicts


def find_excuse(shape: str, threads: int) -> str:
    """Why the targets say nothing here, or nothing."""
    if shape != "124m":
        return "not the shape the targets are for"
    if threads < 2 or usable_cores() < 2:
        return "the targets are for 2 threads on 2 cores"
    return "" if has_fast_bf16() else "this CPU emulates bf16"


def describe_machine(threads: int) -> dict[str, str]:
    """What the figures hold for."""
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    units = ", ".join(unit for unit in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(unit))
    return {
        "machine": f"{name}, {usable_cores()} cores, {units or 'no bf16 units'}",
        "threads": str(threads),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def show(measurements: list[Measurement], verdicts: list[Verdict], facts: dict[str, str], say: Console) -> None:
    judged = {verdict.peer: verdict for verdict in verdicts}
    table = Table("engine", "tokens/s", "least to most", "ours over it", "least to most", "target", "")
    for name in (ONE_BY_ONE, CONTINUOUS, OURS):
        rates = [one.rate for one in measurements if one.engine == name]
        row = [name, f"{statistics.median(rates):.0f}", f"{min(rates):.0f} to {max(rates):.0f}"]
        if verdict := judged.get(name):
            spread = f"{verdict.least:.1f} to {verdict.largest:.1f}"
            row += [f"{verdict.ratio:.1f}x", spread, f"{verdict.target:g}x", verdict.outcome]
        table.add_row(*row)
    say.print(table)
    load = max(one.load for one in measurements)
    facts = facts | {"repeats": str(len({one.repeat for one in measurements})), "highest load": f"{load:.1f}"}
    say.print("; ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)


@click.command(help=__doc__)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="124m", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for finished measurements.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def main(repeats: int, threads: int, shape: str, cache: Path | None, as_json: bool) -> None:
    console = Console(stderr=True)
    folder = cache or platformdirs.user_cache_path("tokenmill") / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    transformers.logging.set_verbosity_error()
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    count, longest = (30, 300) if shape == "124m" else (6, 40)
    requests = make_requests(SHAPES[shape]["vocab_size"], count, longest)
    versions = f"torch-{torch.__version__}-transformers-{transformers.__version__}"
    kept = kept_file(f"local-engine-{shape}-{threads}-threads-{versions}", [Path(__file__)], folder)
    measurements = measure(make_engines(shape, count, threads, folder), requests, repeats, kept, console)
    verdicts = judge(measurements, find_excuse(shape, threads))
    facts = describe_machine(threads) | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    if as_json:
        found = {"measurements": measurements, "verdicts": verdicts}
        print(json.dumps({"facts": facts} | msgspec.to_builtins(found), indent=1))
    else:
        show(measurements, verdicts, facts, Console(width=130))
    if any(verdict.outcome == "fail" for verdict in verdicts):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
