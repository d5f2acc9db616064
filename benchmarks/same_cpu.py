"""Two local nodes on this one CPU against one: what `run --strategy auto` makes of them.

    python benchmarks/same_cpu.py                     about 7 minutes
    python benchmarks/same_cpu.py --long-pairs 5      also runs in which auto measures: about 12 minutes a pair

The model is a small GPT-2 (4 layers of 512) with random weights and the tokenizer of the demo. Requests are the same
in all runs, greedy, in fp32, so all answers must be equal. Each round plays these runs, in random order:

- one: one node, as it likes. This is the best single choice that `auto` is compared with;
- auto: `--strategy auto` with two nodes and no verdict from before, in a run too short to measure;
- auto, verdict kept: the same, beside the verdict of `tokenmill nodes check --together`, which is asked for once;
- both: `--together yes`, which is what a rule that counts two nodes as two machines would do.

With `--long-pairs`, also pairs of one and auto with so many requests that `auto` measures: a run has to last 200 of
its first turn, into which the loading of the nodes counts, so that is minutes. Printed for each against one: the ratio
of makespans with the t interval of its mean logarithm. It fails if the interval of an `auto` lies wholly above 1.03, if
answers differ, or if a short run doesn't say that it was not measured. Figures hold for the machine they were taken on.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from statistics import fmean, median, stdev
from typing import Any

import torch
import transformers

import tokenmill
from tokenmill.driver.verdicts import VERDICTS
from tokenmill.stats.student import t_95

DEMO = Path(tokenmill.__file__).parent / "demo"
SHAPE = {"n_layer": 4, "n_head": 8, "n_embd": 512, "n_positions": 1024}
SEED = 20261121
ONE, AUTO, STORED, BOTH, LONG_ONE, LONG = "one", "auto", "auto, verdict kept", "both", "one, long", "auto, long"
#: Each way to run against the one it is compared with, and whether that is judged.
PAIRS = [(AUTO, ONE, True), (STORED, ONE, True), (BOTH, ONE, False), (LONG, LONG_ONE, True)]
ALLOWED = 1.03
TOO_SHORT = "not measured: run too short"


@dataclass(frozen=True)
class Measured:
    """One run; seconds by its certificate, with and without loading. `said`: its notes on nodes, `texts`: answers."""

    way: str
    round: int
    makespan: float
    without_loading: float
    said: list[str]
    texts: dict[str, str]


@dataclass(frozen=True)
class Ratio:
    """Makespan of `way` over that of `over`: mean and 95 % interval, None with fewer than two pairs."""

    way: str
    over: str
    pairs: int
    mean: float
    low: float | None
    high: float | None
    judged: bool

    @property
    def holds(self) -> bool:
        return not self.judged or self.low is None or self.low <= ALLOWED


def write_model(folder: Path) -> None:
    """Random weights, by the family's own initialisation; no end token, so that every answer has all its tokens."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, folder)
    vocab = json.loads((DEMO / "config.json").read_text())["vocab_size"]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(SEED)
    config = transformers.GPT2Config(**SHAPE, vocab_size=vocab, eos_token_id=None, bos_token_id=None, pad_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)  # it names end tokens of another vocabulary


def write_rows(path: Path, count: int) -> Path:
    rng = Random(SEED)
    words = [f"number {rng.randrange(1_000_000)}" for _ in range(count)]
    lines = (json.dumps({"custom_id": f"id-{n}", "prompt": f"Tell me about {word}."}) for n, word in enumerate(words))
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass(frozen=True)
class Bench:
    """Where things lie: the model, the folder for runs, and how long answers are."""

    folder: Path
    tokens: int

    @property
    def node(self) -> str:
        return f"local:{self.folder / 'model'}"

    def command(self, *words: str) -> dict[str, Any]:
        """What a command says as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "tokenmill", *words, "--json"], stdout=subprocess.PIPE, check=False
        )
        if done.returncode:
            raise SystemExit(f"tokenmill {words[0]} ended with {done.returncode}; its words are above")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def check(self) -> str:
        """Measures both nodes apart from any run, and keeps the verdict for the runs that go by it."""
        found = self.command("nodes", "check", "--together", self.node, self.node, "--runs-dir", str(self.runs(STORED)))
        shutil.copy(self.runs(STORED) / VERDICTS, self.folder / VERDICTS)
        return str(found["together"][0]["words"])

    def runs(self, way: str, number: int = 0) -> Path:
        """A verdict holds for all runs of a folder, so a way that knows none gets a fresh one each time."""
        return self.folder / (way if way == STORED else f"{way}-{number}").replace(", ", "-")

    def run(self, way: str, number: int, source: Path) -> Measured:
        nodes = ["--node", self.node] * (1 if way in (ONE, LONG_ONE) else 2)
        chosen = [] if way in (ONE, LONG_ONE) else ["--strategy", "auto"]
        chosen += ["--together", "yes"] if way == BOTH else []
        output, runs = self.folder / "answers.jsonl", self.runs(way, number)
        if way == STORED:  # a run that contradicts the verdict doesn't keep it, but each round is to start from it
            shutil.copy(self.folder / VERDICTS, runs)
        rest = ["--runs-dir", str(runs), "-o", str(output), "--max-tokens", str(self.tokens), "--quiet"]
        facts = self.command("run", str(source), *nodes, *chosen, *rest)
        metrics = facts["certificate"]["metrics"]
        one = Measured(
            way=way,
            round=number,
            makespan=metrics["makespan"]["value"],
            without_loading=metrics["makespan_without_loading"]["value"],
            said=facts["notes"],
            texts=texts(output),
        )
        notes = "; ".join(one.said)
        print(f"  {way}: {one.makespan:.2f} s, {one.without_loading:.2f} without loading. {notes}", flush=True)
        output.unlink()
        return one


def texts(path: Path) -> dict[str, str]:
    """The answers by id; whatever else a run writes depends on its options."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["custom_id"]] = json.dumps(row["response"]["body"]["choices"])
    return found


def compare(runs: Iterable[Measured], way: str, over: str, *, judged: bool) -> Ratio | None:
    """The ratio of the two ways by round; None if they weren't run."""
    seconds = {(one.way, one.round): one.makespan for one in runs}
    logs = [log(seconds[way, n] / seconds[over, n]) for name, n in seconds if name == way]
    if not logs:
        return None
    middle, low, high = fmean(logs), None, None
    if len(logs) > 1:
        reach = t_95(len(logs) - 1) * stdev(logs) / sqrt(len(logs))
        low, high = exp(middle - reach), exp(middle + reach)
    return Ratio(way=way, over=over, pairs=len(logs), mean=exp(middle), low=low, high=high, judged=judged)


def play(bench: Bench, rounds: int, ways: list[str], source: Path, rng: Random) -> list[Measured]:
    found = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        order = rng.sample(ways, len(ways))
        found += [bench.run(way, number, source) for way in order]
        if any(one.texts != found[0].texts for one in found):
            raise SystemExit("answers differ between runs of the same requests; nothing can be compared")
    return found


def show(runs: list[Measured], ratios: list[Ratio]) -> None:
    print()
    for way in dict.fromkeys(one.way for one in runs):
        spans = [one.makespan for one in runs if one.way == way]
        loading = median(one.makespan - one.without_loading for one in runs if one.way == way)
        spread = f"{min(spans):.2f} to {max(spans):.2f}"
        print(f"{way:>20}: {median(spans):.2f} s (median of {len(spans)}, {spread}), of which {loading:.2f} s loading")
    for ratio in ratios:
        interval = "no interval" if ratio.low is None else f"95 % interval {ratio.low:.3f} to {ratio.high:.3f}"
        verdict = ("pass" if ratio.holds else "fail") if ratio.judged else "    "
        target = f" (fails if wholly above {ALLOWED})" if ratio.judged else ""
        print(f"  {verdict}  {ratio.way} over {ratio.over}: {ratio.mean:.3f}, {interval}, {ratio.pairs} pairs{target}")
    both = next(ratio.mean for ratio in ratios if ratio.way == BOTH)
    print(
        'A rule by address runs in parallel if it counts two. Named as "127.0.0.1" and by its address in the network,\n'
        f"this machine counts as two, and the rule uses both nodes: {both:.2f} of one node's makespan. Named by one\n"
        "address it counts as one, and the rule uses one node, as it would on a machine with two GPUs."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="rounds of short runs")
    parser.add_argument("--rows", type=int, default=1000, help="requests of a short run")
    parser.add_argument("--long-pairs", type=int, default=0, help="rounds of runs in which auto measures")
    parser.add_argument("--long-rows", type=int, default=100_000, help="requests of such a run")
    parser.add_argument("--max-tokens", type=int, default=16, help="tokens of each answer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as JSON too")
    given = parser.parse_args()
    rng = Random(SEED)
    with tempfile.TemporaryDirectory(prefix="tokenmill-same-cpu-") as temporary:
        bench = Bench(Path(temporary), given.max_tokens)
        write_model(bench.folder / "model")
        source = write_rows(bench.folder / "rows.jsonl", given.rows)
        checked = bench.check()
        print(f"nodes check --together: {checked}", flush=True)
        runs = play(bench, given.pairs, [ONE, AUTO, STORED, BOTH], source, rng)
        long = write_rows(bench.folder / "long.jsonl", given.long_rows)
        runs += play(bench, given.long_pairs, [LONG_ONE, LONG], long, rng)
    ratios = [found for way, over, judged in PAIRS if (found := compare(runs, way, over, judged=judged)) is not None]
    show(runs, ratios)
    facts = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    print(f"{given.rows} requests of {given.max_tokens} tokens; {facts}; {datetime.datetime.now(datetime.UTC).date()}")
    if given.json:
        kept = [{k: v for k, v in dataclasses.asdict(one).items() if k != "texts"} for one in runs]
        results = {
            "machine": facts,
            "check": checked,
            "ratios": [dataclasses.asdict(one) for one in ratios],
            "runs": kept,
        }
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    unsaid = [one for one in runs if one.way == AUTO and not any(TOO_SHORT in note for note in one.said)]
    if unsaid:
        print(f"  fail  {len(unsaid)} short runs without a verdict from before didn't say {TOO_SHORT!r}")
    if unsaid or not all(ratio.holds for ratio in ratios):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
