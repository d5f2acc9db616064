"""Nodes that work and are not what they seem: C5 to C8 of the fault list, and the server's view of slots."""

from __future__ import annotations

import asyncio

import pytest

from engine.http.asking import answer, ask, engine_at, failure, failure_of, settled, tell
from tokenmill.engine.http.clocks import Clocks
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.errors import EngineError
from tokenmill.request import Completion
from tokenmill.testing import Behaviour, Change, FaultServer, Silent
from tokenmill.testing.fault import (
    Empty,
    Finish,
    Loop,
    NoUsage,
    PromptCut,
    ReasoningOnly,
    ToolCall,
)

WORDS = ("river", "old", "bridges", "carry", "people", "and", "stones", "across", "slow", "water")
COLD = Clocks(connect=5.0, first_token=20.0, gap=0.2, whole=30.0)


# -- C1 --------------------------------------------------------------------------------------------------------------


def test_c1_the_api_answers_and_the_engine_is_dead(server: FaultServer, api: str) -> None:
    """A node whose lists answer while no token moves fails its probe; one that works passes it."""
    clocks = Clocks(connect=5.0, first_token=0.3, gap=0.3, whole=20.0)

    async def body(engine: ServerEngine) -> EngineError:
        await engine.probe()
        server.behave(fault=(Silent(),))
        with pytest.raises(EngineError) as caught:
            await engine.probe()
        return caught.value

    found = tell(engine_at(server.url, api, clocks=clocks), body)

    assert found.kind == "timeout"


def test_a_probe_asks_for_one_token(server: FaultServer, api: str) -> None:
    """A probe costs the node one token."""
    before = server.state().output_tokens

    tell(engine_at(server.url, api), lambda engine: engine.probe())

    assert settled(server).output_tokens == before + 1


# -- C5, C6 ----------------------------------------------------------------------------------------------------------


def test_c5_a_cold_load_has_the_long_clock(api: str) -> None:
    """A model that loads for longer than any gap may last is waited for, and answers."""
    with FaultServer(Behaviour(load=0.6, loaded=False)) as server:
        text, end = tell(engine_at(server.url, api, clocks=COLD), answer)

    assert text
    assert "reloaded" not in end.flags


def test_c5_a_model_that_was_unloaded(api: str) -> None:
    """A model that left memory during the run is waited for; Ollama tells of the load, and the answer is flagged."""
    with FaultServer(Behaviour(load=0.6)) as server:

        async def body(engine: ServerEngine) -> list[Completion]:
            ends = [(await answer(engine))[1]]
            server.change(Change(unload=True))
            ends += [(await answer(engine))[1], (await answer(engine))[1]]
            return ends

        ends = tell(engine_at(server.url, api, clocks=COLD), body)

    assert [("reloaded" in end.flags) for end in ends] == [False, api == "ollama", False]


def test_c6_a_model_that_was_swapped() -> None:
    """Other weights under the same name are noticed by the load they cost, and their answer is not taken."""
    with FaultServer(Behaviour(load=0.3)) as server:

        async def body(engine: ServerEngine) -> list[EngineError]:
            await answer(engine)
            server.behave(digest="f" * 64)
            server.change(Change(unload=True))
            found = [await failure(engine)]
            with pytest.raises(EngineError) as caught:
                await engine.probe()
            return [*found, caught.value]

        found = tell(engine_at(server.url, "ollama"), body)

    assert [each.kind for each in found] == ["misconfigured"] * 2
    assert "another model under the name 'llama3.2:latest'" in found[0].message


def test_c6_a_node_that_returns_with_another_model() -> None:
    """A node that is opened again tells the digest that it has now, so the run can refuse it."""
    with FaultServer(Behaviour()) as server:

        async def story() -> tuple[str, str]:
            engine = engine_at(server.url, "ollama")
            before = await engine.open()
            await engine.close()
            server.behave(digest="f" * 64)
            after = await engine.open()
            await engine.close()
            return before.digest, after.digest

        before, after = asyncio.run(story())

    assert before != after == "ollama-" + "f" * 64


# -- C7 --------------------------------------------------------------------------------------------------------------


def long_prompt(words: int) -> str:
    return " ".join(WORDS[number % len(WORDS)] for number in range(words))


@pytest.mark.parametrize("keep", [0.02, 0.1])
def test_c7_a_prompt_of_which_little_was_read(api: str, keep: float) -> None:
    """A count far below anything the prompt can have fails where it is certain, and is flagged where it may be."""
    with FaultServer(Behaviour(fault=(PromptCut(keep=keep),), context=65536, default_context=65536)) as server:

        async def body(engine: ServerEngine) -> str:
            try:
                return ",".join((await answer(engine, ask(long_prompt(4000))))[1].flags)
            except EngineError as error:
                return error.kind

        found = tell(engine_at(server.url, api), body)

    assert found == ("cut" if api == "openai" else "prompt_cut_suspected")


def test_c7_a_whole_prompt_is_not_suspected(server: FaultServer, api: str) -> None:
    """A long prompt that was read whole has no flag."""
    server.behave(context=65536, default_context=65536)

    _, end = tell(engine_at(server.url, api, context=65536), lambda engine: answer(engine, ask(long_prompt(4000))))

    assert end.flags == ()


# -- C8, C9 ----------------------------------------------------------------------------------------------------------


def test_c8_cut_at_its_length(server: FaultServer, api: str) -> None:
    """An answer that ended at its limit says so."""
    server.behave(fault=(Finish(reason="length"),))

    assert tell(engine_at(server.url, api), answer)[1].finish_reason == "length"


def test_c8_filtered(server: FaultServer) -> None:
    """An answer that a content filter ended is no answer, and is not asked for again."""
    server.behave(fault=(Finish(reason="content_filter"),))

    assert failure_of(engine_at(server.url)).kind == "filtered"


def test_c8_an_unknown_reason(server: FaultServer, api: str) -> None:
    """An answer that ended for a reason nobody knows is not taken as whole."""
    server.behave(fault=(Finish(reason="abort"),))

    found = failure_of(engine_at(server.url, api))

    assert found.kind == "transient"
    assert "'abort'" in found.message


def test_c8_empty(server: FaultServer, api: str) -> None:
    """An answer without text comes as such; the acceptance checks name it."""
    server.behave(fault=(Empty(),))

    text, end = tell(engine_at(server.url, api), answer)

    assert (text, end.finish_reason) == ("", "stop")


def test_c8_reasoning_only(server: FaultServer, api: str) -> None:
    """Reasoning is no part of the answer; that there was nothing else is flagged."""
    server.behave(fault=(ReasoningOnly(),))

    text, end = tell(engine_at(server.url, api), answer)

    assert text == ""
    assert set(end.flags) >= {"reasoning", "reasoning_only"}


def test_c8_reasoning_before_the_answer(api: str) -> None:
    """Reasoning before an answer is flagged, and the answer is the same as without."""
    with FaultServer(Behaviour(reasoning=5), Behaviour(name="a")) as server:
        text, end = tell(engine_at(server.url, api), answer)

    assert text
    assert end.flags == ("reasoning",)


def test_c8_a_tool_nobody_offered(server: FaultServer, api: str) -> None:
    """A call of a tool instead of text is flagged by name."""
    server.behave(fault=(ToolCall(),))

    text, end = tell(engine_at(server.url, api), answer)

    assert text == ""
    assert "tool_calls" in end.flags


def test_c9_a_loop_until_the_limit(server: FaultServer, api: str) -> None:
    """One word over and over arrives whole, as an answer that ended at its limit; the acceptance checks name it."""
    server.behave(fault=(Loop(word="again", limit=64),))

    text, end = tell(engine_at(server.url, api), answer)

    assert text.split() == ["again"] * 64
    assert end.finish_reason == "length"


# -- what is unknown -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [False, True])
def test_usage_that_is_absent_is_estimated(server: FaultServer, api: str, zero: bool) -> None:
    """Counts that a node leaves out or reports as 0 are estimated from the pieces that came, and flagged."""
    right = tell(engine_at(server.url, api), answer)[1].usage
    server.behave(fault=(NoUsage(zero=zero),))

    _, end = tell(engine_at(server.url, api), answer)

    assert set(end.flags) == {"prompt_tokens_estimated", "usage_estimated"}
    assert end.usage.output_tokens == right.output_tokens
    assert end.usage.prompt_tokens > 0


def test_leaving_frees_the_slot(api: str) -> None:
    """An answer that is left in the middle is cancelled at the server."""
    with FaultServer(Behaviour(slots=1, rate=5.0)) as server:

        async def body(engine: ServerEngine) -> None:
            parts = engine.generate(ask("Give me 9 sentences about rivers"))
            await anext(parts)
            await parts.aclose()
            state = await asyncio.to_thread(settled, server)
            assert (state.cancelled, state.running) == (1, 0)

        tell(engine_at(server.url, api), body)
