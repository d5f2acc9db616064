"""A run that stays open, for requests that come as they please."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from driver.runs import script
from tokenmill.driver.api import chosen_options
from tokenmill.driver.stream import Stream
from tokenmill.errors import NodeGone, UsageError
from tokenmill.event import Answer, SetAside
from tokenmill.request import Request, Sampling


def stream(node: str, **options: object) -> Stream:
    chosen, settings = chosen_options((), None, [node], {}, dict(options))
    return Stream(chosen, settings)


def asked(*prompts: str) -> list[Request]:
    sampling = Sampling(max_tokens=20)
    return [Request(row=0, custom_id=each, prompt=each, sampling=sampling) for each in prompts]


def test_what_comes_later_joins_what_is_there() -> None:
    """Two calls at the same time share the engine's passes, and a third finds it still loaded."""

    async def story() -> tuple[list[Answer | SetAside], list[Answer | SetAside], list[Answer | SetAside]]:
        open_ended = stream("local:demo")
        try:
            rivers = asked(*(f"Give me {n} sentences about rivers." for n in (1, 2, 3)))
            lakes = asked(*(f"Give me {n} sentences about lakes." for n in (1, 2, 3)))
            first, second = await asyncio.gather(open_ended.answer(rivers), open_ended.answer(lakes))
            return first, second, await open_ended.answer(rivers)
        finally:
            await open_ended.close()

    first, second, third = asyncio.run(story())
    answers = [word for word in (*first, *second) if isinstance(word, Answer)]
    assert len(answers) == 6
    assert max(answer.width_max for answer in answers) > 3
    assert [word.text for word in third if isinstance(word, Answer)] == [answer.text for answer in answers[:3]]


def test_a_poisonous_request_costs_itself(tmp_path: Path) -> None:
    """Whoever asked for it hears why; those who asked at the same time have their answers."""
    node = script(tmp_path, 'answer = "fine"\n[[rule]]\nmatch = "poison"\ncrash = true')

    async def story() -> list[Answer | SetAside]:
        open_ended = stream(node)
        try:
            return await open_ended.answer(asked("a", "poison", "b"))
        finally:
            await open_ended.close()

    first, poison, last = asyncio.run(story())
    assert isinstance(poison, SetAside)
    assert poison.kind == "poison"
    assert isinstance(first, Answer)
    assert isinstance(last, Answer)


def test_who_waits_hears_of_the_end(tmp_path: Path) -> None:
    """Closing fails what is still asked for, and what is asked for afterwards."""
    node = script(tmp_path, "first_token = 60.0")

    async def story() -> None:
        open_ended = stream(node)
        waiting = asyncio.create_task(open_ended.answer(asked("a")))
        await asyncio.sleep(0)  # lets it ask
        await open_ended.close()
        with pytest.raises(NodeGone, match="closed"):
            await waiting
        with pytest.raises(NodeGone, match="make a new one"):
            await open_ended.answer(asked("b"))

    asyncio.run(story())


def test_a_budget_needs_a_record() -> None:
    """What was spent isn't kept, so it can't be limited."""
    with pytest.raises(UsageError, match="budget"):
        stream("scripted:", budget_tokens=5)
