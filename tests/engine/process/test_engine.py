"""Engine `local` with a real worker and a real, tiny model."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from engine.process.local_stories import LONG, OPTIONS, Told, answer, ask, make_engine, opened, stream, worker_of
from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.engine.local.session import load_session
from tokenmill.engine.local.settings import make_plan
from tokenmill.engine.local.wire import Submit
from tokenmill.errors import EngineError, TokenmillError
from tokenmill.request import Message, Request, Sampling

PROMPTS = [f"prompt {'x' * number}" for number in range(9)]


def test_many_at_once_answer_as_each_alone(model_folder: Path) -> None:
    """Requests share forward passes, and nothing of their answers shows it."""

    async def story() -> tuple[list[Told], list[Told]]:
        async with opened(model_folder) as engine:
            alone = [await answer(engine, ask(prompt)) for prompt in PROMPTS]
            together = await asyncio.gather(*(answer(engine, ask(prompt)) for prompt in PROMPTS))
            return alone, list(together)

    alone, together = asyncio.run(story())

    assert [told.text for told in together] == [told.text for told in alone]
    assert {chunk.step_width for told in alone for chunk in told.chunks} == {1}
    assert max(chunk.step_width for told in together for chunk in told.chunks) == OPTIONS.slots
    for prompt, told in zip(PROMPTS, together, strict=True):
        assert (told.end.finish_reason, told.end.usage.prompt_tokens) == ("length", len(prompt))
        assert sum(chunk.tokens for chunk in told.chunks) == told.end.usage.output_tokens == 24


def test_a_stop_string_ends_an_answer_before_it(model_folder: Path) -> None:
    """The text is cut before the stop string, and the tokens after it are never generated."""

    async def story() -> tuple[Told, Told, str]:
        async with opened(model_folder) as engine:
            whole = await answer(engine, ask("tell", 40))
            stop = whole.text[10:12]
            return whole, await answer(engine, ask("tell", 40, stop=(stop,))), stop

    whole, cut, stop = asyncio.run(story())

    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.end.finish_reason == "stop"
    assert cut.end.usage.output_tokens < whole.end.usage.output_tokens


def test_sampled_answers_repeat(model_folder: Path) -> None:
    """A drawn answer depends on the request, not on the worker or on what runs beside it."""

    async def story(beside: int) -> str:
        async with opened(model_folder) as engine:
            requests = [ask(f"r{number}", temperature=1.0) for number in range(1 + beside)]
            return (await asyncio.gather(*(answer(engine, request) for request in requests)))[0].text

    assert asyncio.run(story(0)) == asyncio.run(story(3))


def test_closing_the_iterator_frees_the_slot(model_folder: Path) -> None:
    """Nobody waits for a cancelled answer, so it leaves the batch, and the next one runs alone."""

    async def story() -> Told:
        async with opened(model_folder) as engine:
            left = stream(engine, ask("long", LONG))
            await anext(left)
            await left.aclose()
            return await answer(engine, ask("next", 50))

    widths = [chunk.step_width for chunk in asyncio.run(story()).chunks]

    assert widths[-40:] == [1] * 40


def test_cancelling_the_task_frees_the_slot(model_folder: Path) -> None:
    """A cancelled attempt is the same as a closed one; with one slot, the next would otherwise never start."""

    async def story() -> list[int]:
        async with opened(model_folder, EngineOptions(slots=1, threads=1, kv_memory=64 << 20)) as engine:
            started = asyncio.Event()

            async def endless() -> None:
                async for _ in engine.generate(ask("long", LONG)):
                    started.set()

            task = asyncio.create_task(endless())
            await started.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return [chunk.step_width for chunk in (await answer(engine, ask("next", 5))).chunks]

    assert asyncio.run(story()) == [1] * 5


UNANSWERABLE = [
    (ask("x" * 5000), "too_long", "5000 tokens"),
    (ask("a", stop=("",)), "refused", "empty stop string"),
    (ask("a", 0), "refused", "max_tokens 0"),
    (ask("\ud800"), "refused", "Unicode"),
    (Request(row=0, custom_id="a", messages=(Message("user", "hi"),)), "refused", "template"),
    (Request(row=0, custom_id="a", prompt="a", sampling=Sampling(seed=2**70)), "refused", "64 bits"),
]


def test_a_request_that_cant_be_answered_fails_alone(model_folder: Path) -> None:
    """A refusal names its class and its reason; the engine and the requests beside it go on."""

    async def story() -> tuple[list[EngineError], Told]:
        async with opened(model_folder) as engine:
            beside = asyncio.create_task(answer(engine, ask("beside")))
            errors = []
            for request, _, _ in UNANSWERABLE:
                with pytest.raises(EngineError) as caught:
                    await answer(engine, request)
                errors.append(caught.value)
            return errors, await beside

    errors, beside = asyncio.run(story())

    assert [error.kind for error in errors] == [kind for _, kind, _ in UNANSWERABLE]
    for error, (_, _, words) in zip(errors, UNANSWERABLE, strict=True):
        assert words in error.message
    assert beside.end.usage.output_tokens == 24


def test_survey_and_count_need_no_worker(model_folder: Path) -> None:
    """What validation asks for comes without loading, and opening confirms it."""

    async def story() -> tuple[EngineFacts, int, EngineFacts]:
        engine = make_engine(model_folder)
        surveyed, counted = engine.survey(), engine.count(ask("12345"))
        assert psutil.Process().children() == []
        async with opened(model_folder) as other:
            return surveyed, counted, await other.open()

    surveyed, counted, facts = asyncio.run(story())

    assert (surveyed, counted) == (facts, 5)
    assert (facts.slots, facts.look_ahead, facts.context, facts.device) == (4, 4, 4096, "cpu")
    assert facts.digest.endswith("-fp32")


def test_closing_leaves_no_process(model_folder: Path) -> None:
    """A closed engine has no worker, not even a dead one; what was in flight is told."""

    async def story() -> tuple[int, EngineError, EngineError]:
        async with opened(model_folder) as engine:
            worker = worker_of(os.getpid())
            running = stream(engine, ask("long", LONG))
            await anext(running)
            await engine.close()
            await engine.close()
            with pytest.raises(EngineError) as in_flight:
                async for _ in running:
                    pass
            with pytest.raises(EngineError) as later:
                await answer(engine, ask("later"))
            return worker, in_flight.value, later.value

    worker, in_flight, later = asyncio.run(story())

    assert not psutil.pid_exists(worker)
    assert (in_flight.kind, later.kind) == ("crash", "crash")
    assert "closed" in in_flight.message


def test_opening_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    """What is missing is named before any process is started."""
    engine = make_engine(tmp_path)

    with pytest.raises(TokenmillError, match=r"config\.json"):
        asyncio.run(engine.open())


def test_a_model_that_changed_before_loading_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """What was surveyed is what is loaded, or the run doesn't start; the reason comes from the worker."""
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    async def story() -> None:
        engine = make_engine(tmp_path)
        engine.survey()
        (tmp_path / "generation_config.json").write_text("{}")
        try:
            await engine.open()
        finally:
            await engine.close()

    with pytest.raises(TokenmillError, match="has changed since it was looked at"):
        asyncio.run(story())
    assert psutil.Process().children() == []


def test_one_step_is_one_message(model_folder: Path) -> None:
    """However many answers a forward pass goes on with, the caller is told once."""
    load = make_plan(Node(name="one", engine="local", target=str(model_folder)), OPTIONS).load
    session = load_session(load)
    requests = [ask(f"a{number}", 3) for number in range(3)]

    refusals = [session.submit(Submit(key, request, 0)) for key, request in enumerate(requests)]
    steps = []
    while session.has_work:
        steps.append(session.step())

    assert refusals == [None] * 3
    assert [(step.width, [piece.key for piece in step.pieces]) for step in steps] == [(3, [0, 1, 2])] * 3
    assert [piece.finish for piece in steps[-1].pieces] == ["length"] * 3
