"""Models that are big enough to be struck while they answer, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.acts import Act, build_model


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> bytes:
    """What one process answers."""
    act = Act(tmp_path_factory.mktemp("alone"), llama)
    code, said = act.play(act.run())
    assert code == 0, said
    return act.output.read_bytes()
