"""Redirects, TLS, proxies, late answers and answers to others: B12 to B15 of the fault list.

The certificates beside this file are valid for 127.0.0.1 until 2126, for another name, and until 2021; all are signed
by their own key, which protects nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.http.asking import APIS, PATIENT, QUICK, answer, ask, engine_at, failure, failure_of, settled, tell
from engine.http.raw import RawServer, chat_answer, framed
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.errors import EngineError, UsageError
from tokenmill.testing import Behaviour, FaultServer, Late
from tokenmill.testing.fault import Redirect, Surplus

CANARY = "sk-canary-0123456789"
CERTIFICATES = Path(__file__).parent / "certificates"


# -- B12 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_b12_redirects_are_not_followed(api: str, status: int) -> None:
    """A redirect stops the node by name, and the place it leads to never sees a request or the key."""
    with FaultServer(Behaviour(), Behaviour()) as servers:
        to = servers.urls[1]
        redirect = Redirect(to=to, status=status, path="chat")  # type: ignore[arg-type]  # one of the five
        servers.behave(fault=(redirect,))
        engine = engine_at(servers.url, api, key="env:NODE_KEY", environment={"NODE_KEY": CANARY})

        found = failure_of(engine)

        assert found.kind == "misconfigured"
        assert "a redirect to http://127.0.0.1; name the final URL" in found.message
        assert servers.state(1).requests == 0


def test_b12_a_loop_of_redirects(server: FaultServer, api: str) -> None:
    """A redirect to itself is refused before the run, after one request."""
    server.behave(fault=(Redirect(path="."),))
    before = server.state().requests

    with pytest.raises(UsageError, match="a redirect to"):
        engine_at(server.url, api).survey()

    assert server.state().requests == before + 1


# -- B13 -------------------------------------------------------------------------------------------------------------


def secured(name: str) -> FaultServer:
    return FaultServer(
        Behaviour(certificate=str(CERTIFICATES / f"{name}.pem"), private_key=str(CERTIFICATES / "key.pem"))
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [("expired", "certificate has expired"), ("elsewhere", "IP address mismatch"), ("right", "self.signed")],
    ids=["expired", "other-name", "unknown-signer"],
)
def test_b13_certificates(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    """A certificate that expired, is another's or has an unknown signer is refused in words, and nothing is sent."""
    if name != "right":
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / f"{name}.pem"))
    with secured(name) as server, pytest.raises(UsageError, match=f"its certificate is refused.*{words}") as caught:
        engine_at(server.url, "openai").survey()

    assert type(caught.value) is UsageError


def test_b13_a_trusted_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a certificate that is trusted, answers come over TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "right.pem"))
    with secured("right") as server:
        assert server.url.startswith("https:")
        assert tell(engine_at(server.url, "https"), answer)[0]


def test_b13_tls_where_there_is_none(server: FaultServer, api: str) -> None:
    """An https URL of a server that speaks plain HTTP is refused with a hint at scheme and port."""
    with pytest.raises(UsageError, match=r"no TLS connection .* check scheme and port"):
        engine_at(server.url.replace("http:", "https:"), api).survey()


def test_b13_proxies_are_not_taken_from_the_environment(
    server: FaultServer, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxy variables, set for other programs, don't divert requests."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    assert tell(engine_at(server.url, api), answer)[0]


# -- B14 -------------------------------------------------------------------------------------------------------------


def test_b14_a_late_answer_meets_nobody(server: FaultServer, api: str) -> None:
    """An answer that comes after its clock ran out goes to nobody: the next request gets its own."""
    server.behave(fault=(Late(seconds=0.6, match="late"),))
    prompts = [f"Prompt number {number}" for number in range(4)]

    async def body(engine: ServerEngine) -> tuple[EngineError, list[str]]:
        found = await failure(engine, ask("this one is late"))
        return found, [(await answer(engine, ask(prompt)))[0] for prompt in prompts]

    found, texts = tell(engine_at(server.url, api, clocks=QUICK), body)

    assert found.kind == "timeout"
    server.behave(fault=())

    async def calmly(engine: ServerEngine) -> list[str]:
        return [(await answer(engine, ask(prompt)))[0] for prompt in prompts]

    assert texts == tell(engine_at(server.url, api), calmly)


# -- B15 -------------------------------------------------------------------------------------------------------------


def test_b15_an_unasked_second_answer(server: FaultServer, api: str) -> None:
    """A second answer that follows the first on its connection is not taken for that to the next request."""
    prompts = [f"Count to {number}" for number in range(6)]

    async def body(engine: ServerEngine) -> list[str]:
        texts = []
        for prompt in prompts:
            try:
                texts.append((await answer(engine, ask(prompt)))[0])
            except EngineError as error:
                texts.append(error.kind)
            await asyncio.to_thread(settled, server)
        return texts

    calm = tell(engine_at(server.url, api), body)
    server.behave(fault=(Surplus(),))
    texts = tell(engine_at(server.url, api), body)

    assert all(text in (right, "transient") for text, right in zip(texts, calm, strict=True))
    assert texts != ["transient"] * len(prompts)


def test_b15_bytes_on_an_idle_connection() -> None:
    """Bytes that come on a connection between two requests close it, whatever they are."""
    whole = framed(chat_answer("right"))

    async def story() -> tuple[list[str], int]:
        async with RawServer([whole + framed(chat_answer("wrong"))], [whole], [whole]) as server:
            engine = engine_at(server.url, clocks=PATIENT)
            await engine.open()
            try:
                return [(await answer(engine))[0] for _ in range(3)], server.connections
            finally:
                await engine.close()

    texts, _ = asyncio.run(story())

    assert texts == ["right"] * 3


def test_b15_late_bytes_on_an_idle_connection() -> None:
    """An answer that nobody asked for, sent while the connection is idle, is not given to the next request."""
    whole = framed(chat_answer("right"))

    async def story() -> list[str]:
        async with RawServer([whole], [whole]) as server:
            engine = engine_at(server.url, clocks=PATIENT)
            await engine.open()
            try:
                texts = [(await answer(engine))[0]]
                await server.say(framed(chat_answer("wrong")))
                await server.heard_nothing()
                texts.append((await answer(engine))[0])
                return texts
            finally:
                await engine.close()

    assert asyncio.run(story()) == ["right"] * 2


def test_a_kept_connection_that_was_given_up() -> None:
    """A request that meets a connection which the node is just closing is sent again on a fresh one, once."""

    async def story() -> tuple[str, EngineError, int]:
        async with RawServer() as server:
            engine = engine_at(server.url, clocks=PATIENT)
            await engine.open()
            try:
                await answer(engine)
                server.hang_up = 1
                text = (await answer(engine))[0]
                server.hang_up = 2
                return text, await failure(engine), len([head for head in server.heads if head.startswith(b"POST")])
            finally:
                await engine.close()

    text, found, posts = asyncio.run(story())

    assert text == "right"
    assert (found.kind, posts) == ("transient", 5)


def test_b15_the_name_of_another_request() -> None:
    """A server that echoes the names of requests shows when it gives one the answer to another."""

    async def story() -> EngineError:
        async with RawServer() as server:
            server.echo = lambda name: name.rpartition("-")[0] + "-999"
            engine = engine_at(server.url, clocks=PATIENT)
            await engine.open()
            try:
                return await failure(engine)
            finally:
                await engine.close()

    found = asyncio.run(story())

    assert found.kind == "transient"
    assert "the answer to another request" in found.message


def test_b15_an_echo_of_its_own_name() -> None:
    """The echo of the request's own name, or a name of the server's making, is fine."""

    async def story(echo: str) -> str:
        async with RawServer() as server:
            server.echo = lambda name: echo or name
            engine = engine_at(server.url, clocks=PATIENT)
            await engine.open()
            try:
                return (await answer(engine))[0]
            finally:
                await engine.close()

    assert asyncio.run(story("")) == asyncio.run(story("req-7f3a")) == "right"


@pytest.fixture(params=APIS)
def crowd(request: pytest.FixtureRequest) -> Iterator[ServerEngine]:
    with FaultServer(Behaviour(slots=4, rate=400.0)) as server:
        yield engine_at(server.url, request.param, slots=4)


def test_b15_many_left_in_the_middle(crowd: ServerEngine) -> None:
    """Requests that are left in the middle never leave a part of their answers to those that follow."""
    prompts = [f"Give me {2 + number % 3} sentences about place {number}" for number in range(12)]

    async def leave(engine: ServerEngine, prompt: str) -> None:
        parts = engine.generate(ask(prompt))
        await anext(parts)
        await parts.aclose()

    async def body(engine: ServerEngine) -> None:
        calm = [(await answer(engine, ask(prompt)))[0] for prompt in prompts]
        left = (leave(engine, f"other {prompt}") for prompt in prompts)
        mixed = await asyncio.gather(*(answer(engine, ask(prompt)) for prompt in prompts), *left)
        assert [each[0] for each in mixed[: len(prompts)]] == calm  # type: ignore[index]  # an answer each

    tell(crowd, body)
