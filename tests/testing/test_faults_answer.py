"""Faults of the answer itself: well-formed replies that say too little, or the wrong thing."""

from __future__ import annotations

import pytest

from testing.asking import ask, ask_json, chat, events, native_lines, native_text
from testing.conftest import Strike
from tokenmill.testing import (
    Behaviour,
    Change,
    Empty,
    FaultServer,
    Finish,
    Loop,
    NoUsage,
    PromptCut,
    ReasoningOnly,
    Say,
    Swapped,
    ToolCall,
)

CHAT, SSE = "/api/chat", "/v1/chat/completions"
P = "Give me 2 sentences about it"


def both(server: FaultServer, prompt: str = P, **fields: object) -> tuple[dict, dict]:  # type: ignore[type-arg]  # JSON
    native = ask_json(server.url, CHAT, chat(prompt, stream=False, **fields))
    return native, ask_json(server.url, SSE, chat(prompt, **fields))


def test_b15_the_answer_of_another_prompt(struck: Strike) -> None:
    """A swapped answer is the one given before, or that of a prompt the script names."""
    with struck(Swapped(match="second"), Swapped(match="third", prompt="first")) as server:
        first, second, third = (
            native_text(ask(server.url, CHAT, chat(name))[2]) for name in ("first", "second", "third")
        )
    assert first == second == third


@pytest.mark.parametrize("stream", [True, False])
def test_c7_a_prompt_cut_in_silence(stream: bool, struck: Strike) -> None:
    """Fewer prompt tokens are reported than were sent, and nothing else tells of it."""
    with struck(PromptCut(keep=0.25)) as server:
        last = native_lines(ask(server.url, CHAT, chat("word " * 100, truncate=False, stream=stream))[2])[-1]
    assert (last["prompt_eval_count"], last["done_reason"]) == (25, "stop")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_c8_another_reason(reason: str, struck: Strike) -> None:
    """Half an answer ends for the reason the script names."""
    with struck(Finish(reason=reason)) as server:
        native, other = both(server)
        streamed = events(ask(server.url, SSE, chat(P, stream=True))[2])
    assert native["done_reason"] == other["choices"][0]["finish_reason"] == reason
    assert streamed[-2]["choices"][0]["finish_reason"] == reason
    assert native["eval_count"] == other["usage"]["completion_tokens"] == 11


def test_c8_empty_and_reasoning_only(struck: Strike) -> None:
    """An empty answer and one whose text is all in the reasoning both end with `stop`."""
    with struck(Empty(match="empty"), ReasoningOnly(match="think")) as server:
        empty, thought = both(server, "empty"), both(server, "think")
    assert (empty[0]["message"]["content"], empty[0]["done_reason"]) == ("", "stop")
    assert (empty[1]["choices"][0]["message"]["content"], empty[1]["usage"]["completion_tokens"]) == ("", 0)
    assert (thought[0]["message"]["content"], bool(thought[0]["message"]["thinking"])) == ("", True)
    message = thought[1]["choices"][0]["message"]
    assert (message["content"], bool(message["reasoning_content"])) == ("", True)


def test_c8_a_tool_nobody_offered(struck: Strike) -> None:
    """A call comes instead of text."""
    with struck(ToolCall(name="launch")) as server:
        native, other = both(server)
        streamed = events(ask(server.url, SSE, chat(P, stream=True))[2])
    assert native["message"]["tool_calls"][0]["function"]["name"] == "launch"
    choice = other["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "launch"
    calls = [event["choices"][0]["delta"].get("tool_calls") for event in streamed[:-1]]
    assert any(calls)


def test_c8_text_of_the_scripts_choice(struck: Strike) -> None:
    """Whatever the script wants said is said, such as JSON that misses its schema."""
    with struck(Say(text='{"age":\n  "old"}')) as server:
        native, other = both(server)
    assert native["message"]["content"] == other["choices"][0]["message"]["content"] == '{"age":\n  "old"}'


def test_c9_one_word_until_the_limit(struck: Strike) -> None:
    """A loop goes on until the limit of the request and says `length`."""
    with struck(Loop()) as server:
        native = ask_json(server.url, CHAT, chat(P, stream=False, options={"num_predict": 300}))
        other = ask_json(server.url, SSE, chat(P, max_tokens=20))
        unlimited = ask_json(server.url, CHAT, chat(P, stream=False))
    assert (native["done_reason"], native["message"]["content"].split()) == ("length", ["again"] * 300)
    assert other["choices"][0]["message"]["content"].split() == ["again"] * 20
    assert unlimited["eval_count"] == 512


def test_counts_can_be_left_out_or_zero(struck: Strike) -> None:
    """Token counts are absent, or 0, as on a cache hit."""
    with struck(NoUsage(match="absent"), NoUsage(match="zero", zero=True)) as server:
        absent, zero = both(server, "absent"), both(server, "zero")
        body = chat("absent", stream=True, stream_options={"include_usage": True})
        streamed = events(ask(server.url, SSE, body)[2])
    assert not {"prompt_eval_count", "eval_count"} & absent[0].keys()
    assert "usage" not in absent[1]
    assert all(event == "[DONE]" or not event["usage"] for event in streamed)
    assert (zero[0]["prompt_eval_count"], zero[1]["usage"]["completion_tokens"]) == (0, 0)


def test_c6_the_model_is_swapped_under_its_name() -> None:
    """At a request of the script's choice the digest changes, in every listing that shows it."""
    with FaultServer(Behaviour(change=(Change(request=1, set={"digest": "0" * 64}),))) as server:
        before = ask_json(server.url, "/api/tags")["models"][0]
        ask(server.url, CHAT, chat(P))
        after, running = ask_json(server.url, "/api/tags")["models"][0], ask_json(server.url, "/api/ps")["models"][0]
    assert before["name"] == after["name"]
    assert before["digest"] != after["digest"] == running["digest"] == "0" * 64


def test_a_faulty_run_answers_like_a_calm_one() -> None:
    """Attempts that succeed give the same text, whichever server and however many failures came before."""
    prompts = [f"prompt {number}" for number in range(30)]
    with FaultServer() as server:
        calm = [native_text(ask(server.url, CHAT, chat(prompt))[2]) for prompt in prompts]
    faults = (Empty(share=0.3, times=3), Finish(share=0.3, times=3))
    with FaultServer(Behaviour(fault=faults), Behaviour(fault=faults)) as server:
        survived = 0
        for number, prompt in enumerate(prompts):
            for _ in range(4):
                lines = native_lines(ask(server.urls[number % 2], CHAT, chat(prompt))[2])
                text = "".join(line["message"]["content"] for line in lines)
                if text and lines[-1]["done_reason"] == "stop":
                    break
            assert text == calm[number]
            survived += server.prompts(number % 2)[prompt].faults > 0
    assert 5 < survived < 30
