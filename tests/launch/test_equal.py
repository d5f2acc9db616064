"""Whatever workers a run has, its greedy tokens are those of one process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launch.acts import TOKENS, Act, build_model
from requirements import deepspeed_place, require

WAYS = {
    "processes": ("--on", "processes:2"),
    "dealt": ("--on", "processes:2", "--strategy", "static"),
    "torchrun": ("--on", "torchrun:2"),
    "torchrun dealt": ("--on", "torchrun:2", "--strategy", "static"),
}
DIVIDED = (("--on", "processes:1", "--tp", "2"), ("--on", "torchrun:1", "--tp", "2"))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_llama(tmp_path: Path, llama: Path, alone: bytes, way: str) -> None:
    """Pulled or dealt, in processes or under torchrun: the same file, byte for byte."""
    act = Act(tmp_path, llama)

    code, said = act.play(act.run(*WAYS[way]))

    assert code == 0, said
    assert act.is_whole()
    assert act.output.read_bytes() == alone
    check_took(act, ("rank 0", "rank 1", "torchrun") if "torchrun" in way else ("worker-0", "worker-1"))


@pytest.mark.slow
def test_a_divided_llama(tmp_path: Path, llama: Path) -> None:
    """Two ranks that hold half of it each, started by us or by torchrun: the same file too."""
    assert len(answers(tmp_path, llama, *DIVIDED, limit=12, tokens=TOKENS)) == 1


@pytest.mark.slow
def test_a_llama_divided_by_deepspeed(tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --on` with `--tp-engine deepspeed`: DeepSpeed's two ranks give the same file."""
    require("deepspeed")
    paths = [str(deepspeed_place()), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    way = (*DIVIDED[0], "--tp-engine", "deepspeed")

    assert len(answers(tmp_path, llama, way, limit=4, tokens=8)) == 1


@pytest.mark.slow
def test_gpt2(tmp_path: Path, gpt2: Path) -> None:
    """The same for GPT-2, on two processes and on one of two ranks."""
    assert len(answers(tmp_path, gpt2, WAYS["processes"], DIVIDED[0], limit=12, tokens=TOKENS)) == 1


@pytest.mark.slow
def test_gpt2_of_124m(tmp_path: Path) -> None:
    """The shape of the real one, with random weights."""
    sizes = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
    model = build_model(tmp_path / "model", "gpt2", **sizes)

    assert len(answers(tmp_path, model, WAYS["processes"], DIVIDED[1], limit=6, tokens=8)) == 1


def answers(folder: Path, model: Path, *ways: tuple[str, ...], limit: int, tokens: int) -> set[bytes]:
    """The different files that one process and all these ways give."""
    given = set()
    for number, way in enumerate(((), *ways)):
        act = Act(folder / str(number), model)
        code, said = act.play(act.run(*way, "--limit", str(limit), tokens=tokens))
        assert code == 0, said
        assert all(each.peak_rss and each.cpu_seconds for each in act.took().values())
        given.add(act.output.read_bytes())
    return given


def check_took(act: Act, names: tuple[str, ...]) -> None:
    """Each process is named with its cores, and the kernel has said what it took, up to its end."""
    took = sorted(act.took().items())

    assert [name.partition(" on core")[0] for name, _ in took] == list(names)
    for name, use in took:
        assert use.peak_rss is not None, (name, use.peak_reason)
        assert use.cpu_seconds, name
