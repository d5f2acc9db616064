"""Whatever workers a run has, its greedy tokens are those of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.acts import TOKENS, Act, build_model

WAYS = {
    "processes": ("--on", "processes:2"),
    "dealt": ("--on", "processes:2", "--strategy", "static"),
    "torchrun": ("--on", "torchrun:2"),
    "torchrun dealt": ("--on", "torchrun:2", "--strategy", "static"),
    "divided": ("--on", "processes:1", "--tp", "2"),
    "torchrun divided": ("--on", "torchrun:1", "--tp", "2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_llama(tmp_path: Path, llama: Path, alone: bytes, way: str) -> None:
    """Pulled or dealt, in processes or under torchrun, whole or divided: the same file, byte for byte."""
    act = Act(tmp_path, llama)

    code, said = act.play(act.run(*WAYS[way]))

    assert code == 0, said
    assert act.is_whole()
    assert act.output.read_bytes() == alone


@pytest.mark.slow
def test_gpt2(tmp_path: Path, gpt2: Path) -> None:
    """The same for GPT-2, on two processes and on one of two ranks."""
    assert len(answers(tmp_path, gpt2, ("--on", "processes:2"), ("--on", "processes:1", "--tp", "2"))) == 1


@pytest.mark.slow
def test_gpt2_of_124m(tmp_path: Path) -> None:
    """The shape of the real one, with random weights."""
    sizes = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
    model = build_model(tmp_path / "model", "gpt2", **sizes)

    given = answers(tmp_path, model, ("--on", "processes:2"), ("--on", "torchrun:1", "--tp", "2"), limit=8)

    assert len(given) == 1


def answers(folder: Path, model: Path, *ways: tuple[str, ...], limit: int | None = None) -> set[bytes]:
    """The different files that one process and all these ways give."""
    given = set()
    for number, way in enumerate(((), *ways)):
        act = Act(folder / str(number), model)
        more = () if limit is None else ("--limit", str(limit))
        code, said = act.play(act.run(*way, *more, tokens=TOKENS if limit is None else 12))
        assert code == 0, said
        given.add(act.output.read_bytes())
    return given
