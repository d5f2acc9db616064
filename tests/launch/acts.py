"""Real runs on workers that a launcher started: played with the command line, struck in the middle, looked at after."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from tokenmill.footprint import ProcessUse
from tokenmill.record.store import Record
from tokenmill.resources.roster import DRIVER

PATIENCE = 240.0
ROWS = 40
TOKENS = 60


def write_prompts(path: Path, rows: int = ROWS) -> Path:
    """Prompts of mixed lengths, each with an id of its own."""
    lines = [{"custom_id": f"row-{row}", "prompt": f"{row} " + "word " * (row % 7)} for row in range(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def build_model(folder: Path, family: str = "llama", **sizes: int) -> Path:
    """A model folder with random weights, big enough to be struck while it answers.

    The first tokens are the bytes, which prompts are made of; where there are more, each has a text of its own.
    """
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    vocabulary |= {f"t{number}": number for number in range(len(alphabet), sizes.get("vocab_size", 0))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    torch.manual_seed(5)
    ends = {"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3}
    if family == "gpt2":
        shape = {"vocab_size": 256, "n_positions": 256, "n_embd": 96, "n_layer": 3, "n_head": 6} | sizes
        transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **ends)).save_pretrained(folder)
        return folder
    shape = {
        "vocab_size": 256,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
    } | sizes
    config = transformers.LlamaConfig(**shape, **ends, tie_word_embeddings=True)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Act:
    """One command line in a folder of its own, where the run is called `x` and its answers `out.jsonl`."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.model = model
        folder.mkdir(parents=True, exist_ok=True)
        write_prompts(folder / "prompts.jsonl")

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    def run(self, *more: str, tokens: int = TOKENS) -> list[str]:
        words = ["run", "prompts.jsonl", "--model", str(self.model), "--run-id", "x", "-o", "out.jsonl"]
        return [*words, "--max-tokens", str(tokens), "--slots", "2", "--dtype", "fp32", "--quiet", *more]

    @contextmanager
    def playing(self, words: list[str]) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs; killed at the end if it still does."""
        environment = os.environ | {"TOKENMILL_RUNS": str(self.folder / "runs")}
        process = subprocess.Popen(
            [sys.executable, "-m", "tokenmill", *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def play(self, words: list[str]) -> tuple[int, str]:
        """The command to its end: exit code, and all it said."""
        with self.playing(words) as process:
            said, _ = process.communicate(timeout=PATIENCE)
            return process.returncode, said

    def answered(self) -> int:
        """Answers in the record so far."""
        path = self.folder / "runs" / "x" / "record.db"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as record:
            return int(record.execute("SELECT count(*) FROM answer").fetchone()[0])

    def at_work(self) -> list[int]:
        """The nodes with requests in flight, by number."""
        path = self.folder / "runs" / "x" / "record.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as record:
            return [node for (node,) in record.execute("SELECT DISTINCT node FROM attempt WHERE outcome IS NULL")]

    def attempts(self) -> Counter[str]:
        """How the attempts of the run ended, by word."""
        path = self.folder / "runs" / "x" / "record.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as record:
            return Counter(state for (state,) in record.execute("SELECT coalesce(outcome, 'open') FROM attempt"))

    def took(self) -> dict[str, ProcessUse]:
        """What each process of the run took in its last session, by name; but for the driver."""
        record = Record(self.folder / "runs" / "x" / "record.db")
        with closing(record):
            last = max(record.footprints().items())[1]
        return {each.name: each for each in last.processes if each.name != DRIVER}

    def is_whole(self) -> bool:
        """Each row once, each with an answer: none lost, none repeated."""
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        ids = [line["custom_id"] for line in lines]
        return ids == [f"row-{row}" for row in range(ROWS)] and all(line["error"] is None for line in lines)


def ranks_of(driver: int) -> list[psutil.Process]:
    """The rank processes below a driver, those that torchrun started too, in the order in which they were started."""
    ranks = [each for each in below(driver) if "tokenmill.launch.rank" in each.cmdline()[-3:]]
    return sorted(ranks, key=lambda each: (each.create_time(), each.pid))


def below(pid: int) -> list[psutil.Process]:
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        try:
            if each.cmdline():
                found.append(each)
        except psutil.Error:
            continue
    return found


def wait_until(is_true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Looks until it is; a command that ended meanwhile will never make it true."""
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline, "it never came to that"
        assert process is None or process.poll() is None, process.communicate()[0] if process else ""
        time.sleep(0.02)


def wait_for_ends(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still live after some seconds."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    return [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def strike(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
