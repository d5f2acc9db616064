"""Whether a node reads long prompts whole is found out before rows are trusted to it: C7 of the fault list."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.http.asking import PATIENT, answer, ask, failure, node_at, settled
from tokenmill.cluster import EngineFacts, EngineOptions
from tokenmill.engine.http.canary import LEAST, MOST, is_beyond, judge, length_of_trial, trial_of
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.errors import EngineError
from tokenmill.testing import Behaviour, FaultServer, NoUsage, Silent, Status

LONG = 4000
#: Room for 1200 tokens; what is longer is cut to 602, whatever it is told.
CUTTING = Behaviour(overflow="silent", heeds_truncate=False, context=1200, default_context=1200)
ROOMY = Behaviour(context=65536, default_context=65536)


def engine(server: FaultServer, kind: str, **options: Any) -> ServerEngine:
    options = {"longest": LONG} | options
    return ServerEngine(node_at(server.url, kind), EngineOptions(**options), clocks=PATIENT, environment={})


def opened(engine: ServerEngine) -> EngineFacts:
    async def story() -> EngineFacts:
        try:
            return await engine.open()
        finally:
            await engine.close()

    return asyncio.run(story())


# -- what is sent ----------------------------------------------------------------------------------------------------


def test_no_trial_where_nothing_can_be_cut() -> None:
    """Short rows, a context of twice the longest row, a hosted API and a user who says no are reasons not to ask."""
    auto = EngineOptions(longest=LONG)

    assert length_of_trial(auto, None, is_hosted=False) == LONG
    assert length_of_trial(auto, 2 * LONG - 1, is_hosted=False) == LONG
    assert length_of_trial(auto, 2 * LONG, is_hosted=False) == 0
    assert length_of_trial(auto, None, is_hosted=True) == 0
    assert length_of_trial(EngineOptions(longest=LEAST - 1), None, is_hosted=False) == 0
    assert length_of_trial(EngineOptions(longest=LONG, canary="no"), None, is_hosted=False) == 0
    assert length_of_trial(EngineOptions(longest=10 * MOST), None, is_hosted=False) == MOST


def test_a_trial_that_is_asked_for_is_made() -> None:
    """Who says yes is obeyed, also where rows are short, the context is large and the API costs money."""
    asked = EngineOptions(longest=20, canary="yes")

    assert length_of_trial(asked, 65536, is_hosted=True) == 20
    assert length_of_trial(EngineOptions(canary="yes"), None, is_hosted=False) == 0


@given(st.integers(min_value=1, max_value=500), st.text("abcdef0123456789", min_size=1, max_size=16))
def test_a_trial_has_its_length_and_begins_like_no_other(length: int, name: str) -> None:
    """A trial of N words begins with its own name, is the same for the same name, and asks for one token."""
    trial = trial_of(length, name, raw=False)

    assert trial.prompt is not None
    assert len(trial.prompt.split()) == length
    assert trial.prompt.split()[0] == name
    assert trial == trial_of(length, name, raw=False)
    assert trial.sampling.max_tokens == 1


# -- what it means ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reported", "reads"), [(4100, None), (4000, None), (3800, None), (3799, 3799), (2, 2)])
def test_fewer_tokens_than_words_show_a_cut(reported: int, reads: int | None) -> None:
    """Every word is a token at least, so a lower count is a cut; what is told names the count and the way out."""
    found = judge("node 'x'", LONG, reported)

    assert found.reads == reads
    assert bool(found.caution) == (reads is not None)
    assert reads is None or f"node 'x' read {reads} tokens" in found.caution
    assert reads is None or "num_ctx" in found.caution


@pytest.mark.parametrize("reported", [None, 0])
def test_without_a_count_nothing_is_claimed(reported: int | None) -> None:
    """A node that reports nothing can't be checked, and that is what is said."""
    found = judge("node 'x'", LONG, reported)

    assert found.reads is None
    assert "can't be checked" in found.caution


def test_a_prompt_beyond_what_a_node_holds() -> None:
    """A node holds at most twice of what it leaves of a prompt; only words are counted, so nothing fits less."""
    assert not is_beyond(ask("a " * 1204), 602)
    assert is_beyond(ask("a " * 1205), 602)


# -- over sockets ----------------------------------------------------------------------------------------------------


def test_c7_a_node_that_cuts_is_found_out(api: str) -> None:
    """One request of one token shows to how much the node cuts, on both APIs."""
    with FaultServer(CUTTING) as server:
        facts = opened(engine(server, api))
        state = settled(server)

    assert "read 602 tokens of a trial prompt that has at least 4000" in facts.caution
    assert (state.asked, state.output_tokens) == (1, 1)


def test_c7_a_node_that_reads_it_whole_has_no_caution(api: str) -> None:
    """A node with room, and one that refuses what is too long, are trusted."""
    for behaviour in (ROOMY, Behaviour(context=1200, default_context=1200)):
        with FaultServer(behaviour) as server:
            assert opened(engine(server, api, canary="yes")).caution == ""
            assert server.state().by_path[f"/{'api/chat' if api == 'ollama' else 'v1/chat/completions'}"] == 1


def test_c7_rows_are_judged_by_the_trial(api: str) -> None:
    """A count just like that of the trial is a cut where the estimate alone would not have shown it; one that is
    certainly too long isn't even sent; shorter ones are answered."""
    with FaultServer(CUTTING) as server:

        async def story() -> tuple[str, EngineError, EngineError, int, int]:
            node = engine(server, api)
            await node.open()
            try:
                text, _ = await answer(node, ask("of " * 300))
                cut = await failure(node, ask("of " * 1203))
                before = server.state().asked
                unsent = await failure(node, ask("of " * 1300))
                return text, cut, unsent, before, server.state().asked
            finally:
                await node.close()

        text, cut, unsent, before, after = asyncio.run(story())

    assert text
    assert (cut.kind, unsent.kind) == ("cut", "cut")
    assert "as many as of its trial" in cut.message
    assert "not sent" in unsent.message
    assert "--context" in unsent.message
    assert before == after


@pytest.mark.parametrize("zero", [False, True])
def test_c7_a_node_without_counts_can_not_be_checked(api: str, zero: bool) -> None:
    """That there is no count is told, and nothing else changes."""
    with FaultServer(Behaviour(fault=(NoUsage(zero=zero),))) as server:
        assert "can't be checked" in opened(engine(server, api)).caution


def test_c7_a_trial_that_fails_stops_nothing(api: str) -> None:
    """A trial that meets a fault leaves the node as it was, and says why nothing was found out."""
    with FaultServer(Behaviour(fault=(Status(status=500, numbers=(1,)),))) as server:
        assert "couldn't be checked" in opened(engine(server, api)).caution


def test_c7_a_node_is_tried_once(api: str) -> None:
    """A node that is opened again in one run isn't tried again, and what was found still holds."""
    with FaultServer(CUTTING) as server:

        async def story() -> tuple[str, str, EngineError]:
            node = engine(server, api)
            first = await node.open()
            await node.close()
            second = await node.open()
            try:
                return first.caution, second.caution, await failure(node, ask("of " * 1300))
            finally:
                await node.close()

        first, second, found = asyncio.run(story())
        asked = server.state().asked

    assert first == second != ""
    assert found.kind == "cut"
    assert asked == 1


def test_a_mute_node_is_not_waited_for_longer_than_its_clock(server: FaultServer, api: str) -> None:
    """The clock of the first token watches the trial too."""
    server.behave(fault=(Silent(numbers=(server.state().asked + 1,)),))
    options = EngineOptions(longest=LONG, canary="yes")
    clocks = replace(PATIENT, first_token=0.2)
    node = ServerEngine(node_at(server.url, api), options, clocks=clocks, environment={})

    assert "clock `whole`" in opened(node).caution
