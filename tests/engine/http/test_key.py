"""Keys: where they are found, where they go, and that nothing else ever shows them."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from pathlib import Path

import pytest

from engine.http.asking import answer, ask, engine_at, failure, node_at, tell
from engine.http.raw import RawServer, framed
from tokenmill.cluster import EngineOptions
from tokenmill.engine.http.address import address_of
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.engine.http.key import Key, find_key
from tokenmill.errors import EngineError, TokenmillError, UsageError
from tokenmill.testing import Behaviour, Body, Close, FaultServer, Reset, Silent, Status
from tokenmill.testing.fault import AnyFault, HugeHeader, Redirect, WrongChunk, WrongLength

CANARY = "sk-canary-7c1e5f0a2b"


def key_of(engine: str, target: str, environment: dict[str, str], key: str | None = None) -> str | None:
    node = node_at(target, engine, key=key)
    found = find_key(node, address_of(node, environment), environment)
    return None if found is None else found.header()


# -- where keys are found -----------------------------------------------------------------------------------------


def test_a_key_from_a_variable() -> None:
    """`env:NAME` is the key of its node, for any kind and origin."""
    assert key_of("ollama", "http://a:1", {"MINE": f" {CANARY}\n"}, "env:MINE") == f"Bearer {CANARY}"


def test_a_key_from_a_file(tmp_path: Path) -> None:
    """`file:PATH` is read if nobody else may read it, and refused with the remedy if somebody may."""
    path = tmp_path / "key"
    path.write_text(f"{CANARY}\n")
    path.chmod(0o600)
    assert key_of("openai", "http://a:1", {}, f"file:{path}") == f"Bearer {CANARY}"

    path.chmod(0o640)
    with pytest.raises(UsageError, match="has mode 0640, so others may read it; chmod 600 it"):
        key_of("openai", "http://a:1", {}, f"file:{path}")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (CANARY, "named as env:NAME or file:PATH"),
        ("env:", "named as env:NAME or file:PATH"),
        ("env:MISSING", "the variable MISSING, which is not set"),
        ("env:BROKEN", "holds blanks"),
        ("file:/no/such/file", "can't be read"),
        ("file:/", "can't be read|no regular file"),
    ],
)
def test_keys_that_are_refused(key: str, words: str) -> None:
    """A key written out, missing, or unfit for a header is refused without being repeated."""
    with pytest.raises(UsageError, match=words) as caught:
        key_of("openai", "http://a:1", {"BROKEN": f"{CANARY}\r\nX-Other: 1"}, key)

    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "target", "base", "sent"),
    [
        ("openai", "", "", True),
        ("openai", "https://api.openai.com/v1", "", True),
        ("openai", "", "http://10.1.1.1:8000/v1", True),
        ("http", "//10.1.1.1:8000", "http://10.1.1.1:8000/v1", True),
        ("openai", "http://10.1.1.1:8001", "http://10.1.1.1:8000/v1", False),
        ("openai", "https://10.1.1.1:8000", "http://10.1.1.1:8000/v1", False),
        ("openai", "http://api.openai.com", "", False),
        ("openai", "https://api.openai.com.evil.example", "", False),
        ("openai", "https://evil.example/api.openai.com", "", False),
        ("ollama", "https://api.openai.com", "", False),
    ],
)
def test_the_key_of_openai_goes_to_openai(kind: str, target: str, base: str, sent: bool) -> None:
    """OPENAI_API_KEY goes to OpenAI's own origin or that of OPENAI_BASE_URL, to the port, and nowhere else."""
    environment = {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": base}

    assert (key_of(kind, target, environment) is not None) is sent


# -- what shows of them ---------------------------------------------------------------------------------------------


def test_a_key_prints_as_stars() -> None:
    """However a key is printed or stored, it is not there."""
    key = Key(CANARY)

    assert [str(key), repr(key), f"{key}", f"{[key]}", key.scrub(f"no {CANARY}!")] == ["****"] * 3 + [
        "[****]",
        "no ****!",
    ]
    with pytest.raises(TypeError):
        pickle.dumps(key)


def shown(error: BaseException) -> str:
    """All that a log could hold of an error: its own words, its arguments, and those of everything behind it."""
    told = ["".join(traceback.TracebackException.from_exception(error).format())]
    behind: BaseException | None = error
    while behind is not None:
        told += [str(behind), repr(behind), repr(behind.args), repr(vars(behind))]
        behind = behind.__cause__ or behind.__context__
    return "\n".join(told)


def values_behind(error: BaseException) -> str:
    """What a traceback that shows values would show of our frames and those of the HTTP library."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return repr([frame.f_locals for frame in frames if "/tests/" not in frame.f_code.co_filename])


FAULTS: dict[str, AnyFault] = {
    **{str(status): Status(status=status, echo_key=True) for status in (400, 401, 403, 404, 413, 422, 429, 500, 503)},
    "redirect": Redirect(to="http://127.0.0.1:9"),
    "reset-head": Reset(at="head"),
    "reset-body": Reset(at="body"),
    "closed-head": Close(at="head"),
    "html": Body(what="html"),
    "error": Body(what="error"),
    "cut": Body(what="cut_character"),
    "length": WrongLength(length="two"),
    "chunk": WrongChunk(),
    "header": HugeHeader(size=1 << 20),
    "silent": Silent(),
}


@pytest.mark.parametrize("name", FAULTS)
def test_no_error_shows_a_key(api: str, name: str) -> None:
    """Whatever goes wrong, even a server that quotes the key: no message, argument or cause of the error holds it."""
    with FaultServer(Behaviour(key=CANARY)) as server:
        clocks = {"TOKENMILL_FIRST_TOKEN_TIMEOUT": "0.5"}
        node = node_at(server.url, api, key="env:NODE_KEY")
        engine = ServerEngine(node, EngineOptions(), environment={"NODE_KEY": CANARY, **clocks})

        async def body(engine: ServerEngine) -> EngineError:
            assert (await answer(engine))[0]
            server.behave(fault=(FAULTS[name],))
            return await failure(engine)

        found = tell(engine, body)

    assert CANARY not in shown(found)
    assert name.isdigit() or CANARY not in values_behind(found)  # what a server quotes is in what was read
    assert CANARY not in repr(engine)


def test_no_refusal_before_the_run_shows_a_key(api: str) -> None:
    """A server that quotes the key it refuses while the run is prepared shows it to nobody either."""
    with FaultServer(Behaviour(key="another", fault=(Status(status=401, echo_key=True, path="."),))) as server:
        engine = engine_at(server.url, api, key="env:NODE_KEY", environment={"NODE_KEY": CANARY})
        for work in (engine.survey, lambda: asyncio.run(engine.open())):
            with pytest.raises(
                TokenmillError, match=r"HTTP 401.*; give it a key: `tokenmill nodes add NAME URL --key env:VARIABLE`"
            ) as caught:
                work()
            assert CANARY not in shown(caught.value)


def test_a_quoted_key_in_a_long_message() -> None:
    """A key that straddles the place where a message is cut is gone before it is cut."""

    async def story() -> list[EngineError]:
        found = []
        for filling in range(350, 400, 3):
            text = f'{{"error": {{"message": "{"x" * filling}{CANARY}{"y" * 600}"}}}}'.encode()
            async with RawServer([framed(b"data: " + text + b"\n\n")]) as server:
                engine = engine_at(server.url, key="env:NODE_KEY", environment={"NODE_KEY": CANARY})
                await engine.open()
                found.append(await failure(engine, ask()))
                await engine.close()
        return found

    for error in asyncio.run(story()):
        assert "canary" not in shown(error)


def test_a_wrong_key_stops_the_node(api: str) -> None:
    """A node that refuses its key can't serve the run, and says which node and what it answered."""
    with FaultServer(Behaviour(key="the right one")) as server:
        engine = engine_at(server.url, api, key="env:NODE_KEY", environment={"NODE_KEY": CANARY})
        with pytest.raises(UsageError, match=rf"node '{api}-0' at .*HTTP 401") as caught:
            engine.survey()

    assert type(caught.value) is UsageError
