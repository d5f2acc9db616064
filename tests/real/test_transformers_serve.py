"""Against a real server that is not ours: `transformers serve`, from PyPI, with models made here.

The command, with a folder of a model in Hugging Face form:

    transformers serve MODEL --device cpu --dtype float32 --port 8123
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import tokenmill
from tokenmill.request import Request

DEMO = Path(tokenmill.__file__).parent / "demo"
PROMPTS = [f"Give me {count} sentences about the University of Chicago" for count in (3, 1, 2, 5)]


def model_folder(folder: Path, *, trained: bool) -> Path:
    """The demo model, or one of its shape with random weights."""
    folder.mkdir()
    for path in DEMO.iterdir():
        if path.suffix in (".json", ".safetensors"):
            shutil.copy(path, folder)
    if not trained:
        import torch
        from safetensors.torch import load_file, save_file

        torch.manual_seed(5)
        weights = {
            name: torch.randn_like(each) * 0.05 for name, each in load_file(folder / "model.safetensors").items()
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended before it answered"
        try:
            with urlopen(f"{url}/v1/models", timeout=5):
                return
        except URLError:
            time.sleep(0.2)
    raise AssertionError("the server did not come up")


class Server:
    """A running `transformers serve` and the folder it serves."""

    def __init__(self, folder: Path, url: str, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.url, self.process = folder, url, process


@pytest.fixture(scope="module", params=["trained", "random"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("serve")
    folder = model_folder(place / "model", trained=request.param == "trained")
    (place / "hub").mkdir()
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "hub"), "OMP_NUM_THREADS": "1"}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(url, process)
        yield Server(folder, url, process)
    finally:
        process.terminate()
        process.wait(30)


def run(server: Server, place: Path, prompts: list[Any], **options: Any) -> tokenmill.Answers:
    nodes = [f"openai:{server.url}"]
    return tokenmill.run(prompts, model=str(server.folder), nodes=nodes, runs_dir=place / "runs", **options)


def test_its_answers_are_those_of_our_own_engine(server: Server, tmp_path: Path) -> None:
    """The same weights give the same greedy text, finish reasons and token counts through HTTP as in our engine."""
    served = run(server, tmp_path, PROMPTS, max_tokens=60)
    local = tokenmill.run(PROMPTS, nodes=[f"local:{server.folder}"], runs_dir=tmp_path / "own", max_tokens=60)
    assert served.texts == local.texts
    for ours, theirs in zip(local, served, strict=True):
        assert (theirs.finish_reason, theirs.prompt_tokens) == (ours.finish_reason, ours.prompt_tokens)
        assert abs((theirs.output_tokens or 0) - (ours.output_tokens or 0)) <= 1  # the end token may count


def test_one_at_a_time_is_named_as_such(server: Server, tmp_path: Path) -> None:
    """Four in flight at a server that answers them one after the other are sequential in disguise."""
    certificate = run(server, tmp_path, PROMPTS * 3, max_tokens=40).certificate
    assert certificate is not None
    assert certificate.audit.verdict == "sequential in disguise"


def test_a_model_it_does_not_have_is_named(server: Server, tmp_path: Path) -> None:
    """Asked for another model, nothing is sent and the error names it."""
    with pytest.raises(tokenmill.TokenmillError, match="no-such-model"):
        tokenmill.run(PROMPTS, model="no-such-model", nodes=[f"openai:{server.url}"], runs_dir=tmp_path / "runs")


def test_a_server_that_is_killed_loses_no_answer(server: Server, tmp_path: Path) -> None:
    """Killed after its first answer and given up, it leaves a run that keeps this answer and can be resumed."""

    def kill(request: Request, text: str) -> list[str]:
        server.process.kill()
        return []

    kept = run(server, tmp_path, PROMPTS * 2, max_tokens=40, follow=kill, remove_after=1, slots=1)
    answered = [text for text in kept.texts if text is not None]
    assert not kept.is_complete
    assert len(answered) == 1
    assert kept.failed == {}
