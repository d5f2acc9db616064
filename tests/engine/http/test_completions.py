"""Prompts that go to the model as they stand: `/v1/completions`, and `raw` of Ollama's own API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from openai.types import Completion

import tokenmill
from engine.http.asking import answer, ask, engine_at, failure_of, node_at, settled, tell
from tokenmill.cluster import EngineOptions
from tokenmill.driver.options import Options, Settings, make_engine
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.testing import Behaviour, Body, FaultServer
from tokenmill.testing.fault import Finish
from tokenmill.workload import Spec

PATHS = {"openai": "/v1/completions", "ollama": "/api/generate"}
CHATS = {"openai": "/v1/chat/completions", "ollama": "/api/chat"}
RAW = replace(ask("Once upon a time"), raw=True)
BATCH = [
    {"custom_id": f"c{number}", "method": "POST", "url": "/v1/completions", "body": {"prompt": f"Say {number}."}}
    for number in range(3)
]


@pytest.fixture(scope="module")
def honest() -> Iterator[FaultServer]:
    with FaultServer(Behaviour(honest="local:demo", models=("demo",), slots=2)) as server:
        yield server


def test_a_raw_prompt_is_asked_for_as_a_completion(server: FaultServer, api: str) -> None:
    """Text and counts are read as those of a chat, by another path."""
    before = server.state().by_path.get(PATHS[api], 0)
    text, end = tell(engine_at(server.url, api), lambda engine: answer(engine, RAW))
    same, _ = tell(engine_at(server.url, api), answer_to_chat)

    assert text == same
    assert (end.finish_reason, end.usage.prompt_tokens) == ("stop", 4)
    assert server.state().by_path[PATHS[api]] - before == 1 + (api == "ollama") * 2  # it loads the model by that path


async def answer_to_chat(engine: ServerEngine) -> Any:
    return await answer(engine, replace(RAW, raw=False))


def test_the_model_continues_a_raw_prompt(honest: FaultServer, api: str) -> None:
    """Without the chat template the model reads fewer tokens, the same that it reads itself of a raw prompt."""
    ends = [
        tell(engine_at(honest.url, api), lambda engine, raw=raw: answer(engine, replace(RAW, raw=raw)))[1]  # type: ignore[misc]
        for raw in (True, False)
    ]
    local = make_engine(node_at("demo", "local"), Options(workload=Spec(source="-")), Settings())

    assert ends[0].usage.prompt_tokens == local.count(RAW) < ends[1].usage.prompt_tokens


def test_an_error_in_a_completion_is_one(server: FaultServer, api: str) -> None:
    """An error object amid the stream, and an unknown reason, fail a completion as they fail a chat."""
    server.behave(fault=(Body(what="error", pieces=1),))
    assert failure_of(engine_at(server.url, api), RAW).kind == "transient"
    server.behave(fault=(Finish(reason="abort"),))
    assert failure_of(engine_at(server.url, api), RAW).kind == "transient"


def test_the_nodes_own_questions_are_completions_too(server: FaultServer, api: str) -> None:
    """A model without a chat template can't be probed by a chat, so where rows are raw the probe is."""
    node = node_at(server.url, api)
    engine = ServerEngine(node, EngineOptions(raw=True), environment={})
    before = server.state().by_path.get(CHATS[api], 0)

    tell(engine, lambda engine: engine.probe())

    assert settled(server).by_path.get(CHATS[api], 0) == before


def test_an_unlisted_model_is_asked_for_by_the_runs_endpoint(server: FaultServer) -> None:
    """A server that lists another name is asked for one token of a completion."""
    before = settled(server).by_path
    engine = ServerEngine(node_at(server.url), EngineOptions(raw=True, model="llama3.2"), environment={})

    tell(engine, lambda engine: answer(engine, RAW))

    now = settled(server).by_path
    assert now[PATHS["openai"]] - before.get(PATHS["openai"], 0) == 2
    assert now.get(CHATS["openai"], 0) == before.get(CHATS["openai"], 0)


def run(folder: Path, server: FaultServer, rows: Any, **options: Any) -> tokenmill.Answers:
    options = {"nodes": [f"openai:{server.url}"], "output": folder / "out.jsonl"} | options
    return tokenmill.run(rows, runs_dir=folder / "runs", durability="process", **options)


def bodies(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "out.jsonl").read_text().splitlines()
    return [json.loads(line)["response"]["body"] for line in lines]


def test_batch_lines_of_completions(tmp_path: Path, server: FaultServer) -> None:
    """Lines that ask for completions get them, in the shape that the client's type has."""
    before = server.state().by_path
    answers = run(tmp_path, server, BATCH)

    assert answers.failed == {}
    assert server.state().by_path[PATHS["openai"]] - before.get(PATHS["openai"], 0) == len(BATCH)
    for body, text in zip(bodies(tmp_path), answers.texts, strict=True):
        assert Completion.model_validate(body).choices[0].text == text
        assert (body["object"], body["id"][:5]) == ("text_completion", "cmpl-")


def test_the_endpoint_is_part_of_the_meaning(tmp_path: Path, server: FaultServer) -> None:
    """Plain prompts may be completions, which makes another run of them, and none that goes on as a chat."""
    chat = run(tmp_path, server, ["Say 1."], run_id="chat")
    plain = run(tmp_path, server, ["Say 1."], run_id="plain", endpoint="completions")

    assert (chat.is_complete, plain.is_complete) == (True, True)
    assert bodies(tmp_path)[0]["object"] == "text_completion"
    with pytest.raises(tokenmill.TokenmillError, match=r"workload\.endpoint: 'completions' -> None"):
        run(tmp_path, server, ["Say 1."], run_id="plain", resume=True)


def test_rows_born_of_completions_are_completions(tmp_path: Path, server: FaultServer) -> None:
    """What follows an answer is asked for as the answer was."""
    before = server.state().by_path
    answers = run(tmp_path, server, BATCH[:1], follow=lambda request, _: ["More."] if request.row == 0 else [])

    assert len(answers) == 2
    assert server.state().by_path[PATHS["openai"]] - before.get(PATHS["openai"], 0) == 2
    assert server.state().by_path.get(CHATS["openai"], 0) == before.get(CHATS["openai"], 0)


def test_an_interrupted_run_goes_on_with_its_endpoint(tmp_path: Path, server: FaultServer) -> None:
    """The endpoint that the rows settled holds for later sessions."""
    before = server.state().by_path
    first = run(tmp_path, server, BATCH, run_id="a", budget_tokens=20, slots=1, strategy="pull")
    assert not first.is_complete
    again = run(tmp_path, server, BATCH, run_id="a", resume=True)

    assert again.is_complete
    assert server.state().by_path.get(CHATS["openai"], 0) == before.get(CHATS["openai"], 0)
