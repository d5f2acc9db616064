"""Faults of connections and bytes, seen on a raw socket."""

from __future__ import annotations

import gzip
import http.client
import json
from email.utils import parsedate_to_datetime

import pytest

from testing.asking import MODEL, ask, chat, event_text, events, native_lines, native_text, raw, read_until, send, until
from testing.conftest import Strike
from tokenmill.testing import (
    Behaviour,
    Body,
    Change,
    Close,
    Crumbs,
    Down,
    EndlessHeaders,
    FaultServer,
    GzipBomb,
    HugeBody,
    HugeHeader,
    KeepAlive,
    Late,
    Redirect,
    Reset,
    Silent,
    Slow,
    Status,
    Surplus,
    Trickle,
    Unfinished,
    WrongChunk,
    WrongLength,
)

UNREADABLE = (http.client.HTTPException, ValueError, MemoryError, OverflowError)
CHAT, SSE = "/api/chat", "/v1/chat/completions"
P = "Give me 2 sentences about it"


def calm_text() -> str:
    with FaultServer(Behaviour(chunks=4)) as server:
        return native_text(ask(server.url, CHAT, chat(P))[2])


def body_of(got: bytes) -> bytes:
    return got.split(b"\r\n\r\n", 1)[1]


def test_b1_a_server_that_is_down_refuses_and_returns(struck: Strike) -> None:
    """While it is down connections are refused, those there were are reset, and it returns at the same address."""
    with struck(Silent()) as server:
        with send(server.url, CHAT, chat(P)) as sock:
            until(server, lambda state: state.running == 1)
            server.change(Change(down=True))
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        with pytest.raises(ConnectionRefusedError):
            ask(server.url, "/v1/models")
        server.change(Change(down=False))
        assert until(server, lambda state: state.up).cancelled == 1
        assert ask(server.url, "/v1/models")[0] == 200


def test_b1_a_request_can_take_the_server_down(struck: Strike) -> None:
    """The request that strikes is reset; after its time the server is there again."""
    with struck(Down(numbers=(1,), seconds=0.001)) as server:
        assert raw(server.url, CHAT, chat(P)) == (b"", "reset")
        until(server, lambda state: state.up)
        assert ask(server.url, CHAT, chat(P))[0] == 200


def test_c3_a_server_flaps() -> None:
    """Changes that come again and again take it down and up without anybody asking."""
    changes = (Change(at=0.0, every=0.02, down=True), Change(at=0.01, every=0.02, down=False))
    with FaultServer(Behaviour(change=changes)) as server:
        for _ in range(3):
            until(server, lambda state: not state.up)
            until(server, lambda state: state.up)


def test_b3_silent_holds_a_slot_and_says_nothing(struck: Strike) -> None:
    """A request is taken and never answered, until the client leaves."""
    with struck(Silent()) as server:
        with send(server.url, CHAT, chat(P)) as sock:
            until(server, lambda state: state.running == 1)
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
        assert until(server, lambda state: state.cancelled == 1).running == 0


def test_c1_the_engine_is_dead_and_the_listing_is_not(struck: Strike) -> None:
    """While requests for text hang, models are listed with 200."""
    with struck(Silent()) as server, send(server.url, SSE, chat(P)):
        until(server, lambda state: state.running == 1)
        assert ask(server.url, "/v1/models")[0] == 200
        assert ask(server.url, "/api/ps")[0] == 200


def test_b3_trickle_sends_byte_by_byte(struck: Strike) -> None:
    """The right answer, a few bytes at a time."""
    with struck(Trickle(bytes=100, gap=0.001)) as server:
        assert native_text(ask(server.url, CHAT, chat(P))[2]) == calm_text()


@pytest.mark.parametrize(("path", "sign"), [(SSE, b": keep-alive\n\n"), (CHAT, b'"content":""},"done":false}\n')])
def test_b3_keep_alive_without_text(path: str, sign: bytes, struck: Strike) -> None:
    """Comments, or empty pieces, come for ever, and no text."""
    with struck(KeepAlive(gap=0.001)) as server, send(server.url, path, chat(P, stream=True)) as sock:
        got = b""
        for _ in range(5):
            got += read_until(sock, sign)
        assert b'"content":"1' not in got


@pytest.mark.parametrize("path", [CHAT, SSE])
@pytest.mark.parametrize(("fault", "ending"), [(Reset, "reset"), (Close, "closed")])
def test_b4_broken_in_the_head_the_body_and_at_the_end(
    path: str, fault: type[Reset | Close], ending: str, struck: Strike
) -> None:
    """The connection ends where it was told to, before any end mark."""
    for at, pieces in (("head", 0), ("body", 2), ("end", 4)):
        with struck(fault(at=at, pieces=2)) as server:  # type: ignore[arg-type]  # one of the three
            got, how = raw(server.url, path, chat(P, stream=True))
        assert how == ending
        assert (b"\r\n\r\n" in got) == (at != "head")
        assert got.count(b'"content":"') - got.count(b'"content":""') == pieces
        assert b"[DONE]" not in got
        assert b'"done":true' not in got
        assert b'"finish_reason":"stop"' not in got
        assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("at", ["body", "end"])
def test_b4_a_reply_in_one_piece_breaks_too(at: str, struck: Strike) -> None:
    """A body with a length ends before its length."""
    with struck(Reset(at=at)) as server:  # type: ignore[arg-type]  # one of the three
        got, how = raw(server.url, CHAT, chat(P, stream=False))
    promised = int(got.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert how == "reset"
    assert 0 < len(body_of(got)) < promised


@pytest.mark.parametrize(
    ("missing", "has_mark", "has_reason"), [("mark", False, True), ("reason", True, False), ("both", False, False)]
)
def test_b5_a_stream_without_its_end(missing: str, has_mark: bool, has_reason: bool, struck: Strike) -> None:
    """A well-framed stream lacks `[DONE]`, the reason, or both; on the native API its last line."""
    with struck(Unfinished(missing=missing)) as server:  # type: ignore[arg-type]  # one of the three
        found = events(ask(server.url, SSE, chat(P, stream=True))[2])
        lines = native_lines(ask(server.url, CHAT, chat(P))[2])
    assert ("[DONE]" in found) == has_mark
    reasons = [event["choices"][0]["finish_reason"] for event in found if event != "[DONE]"]
    assert (reasons[-1] == "stop") == has_reason
    assert not any(line["done"] for line in lines)


@pytest.mark.parametrize("path", [CHAT, SSE])
@pytest.mark.parametrize("length", ["short", "long", "negative", "words", "two"])
def test_b6_a_wrong_length(path: str, length: str, struck: Strike) -> None:
    """Content-Length is not what follows."""
    with struck(WrongLength(length=length)) as server:  # type: ignore[arg-type]  # one of the five
        got, how = raw(server.url, path, chat(P))
    head = got.partition(b"\r\n\r\n")[0]
    lengths = [line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length")]
    size = len(body_of(got))
    expected = {"short": [size - 7], "long": [size + 7], "negative": [-7], "words": ["many"], "two": [size, size + 7]}
    assert lengths == [str(value).encode() for value in expected[length]]
    assert how == "closed"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("size", ["words", "negative", "huge", "short", "long"])
def test_b6_a_wrong_chunk(size: str, stream: bool, struck: Strike) -> None:
    """A client that reads chunks by the rules meets one that breaks them."""
    with struck(WrongChunk(size=size)) as server, pytest.raises(UNREADABLE):  # type: ignore[arg-type]
        json.loads(ask(server.url, SSE, chat(P, stream=stream))[2])


def test_b6_crumbs_are_the_right_answer(struck: Strike) -> None:
    """Chunks of one byte, and many blank ones before, are a right answer for who has patience."""
    with struck(Crumbs(more=100_000)) as server:
        assert native_text(ask(server.url, CHAT, chat(P))[2]) == calm_text()
        assert event_text(ask(server.url, SSE, chat(P, stream=True))[2]) == calm_text()
        assert server.state().answered == 2


def test_b7_a_gzip_bomb_is_valid_and_large(struck: Strike) -> None:
    """A body of 50 kB becomes 40 MB."""
    with struck(GzipBomb(size=40_000_000)) as server:
        _, headers, body = ask(server.url, CHAT, chat(P))
    assert headers["content-encoding"] == "gzip"
    assert len(body) < 100_000
    assert len(gzip.decompress(body)) == 40_000_000


@pytest.mark.parametrize("lines", [False, True])
def test_b7_a_huge_body_goes_on(lines: bool, struck: Strike) -> None:
    """More comes than anybody wants, and the server stops when the client leaves."""
    with struck(HugeBody(size=1 << 40, lines=lines)) as server:
        got, how = raw(server.url, CHAT, chat(P), most=3 << 20)
        assert how == "enough"
        assert (got.count(b"\n{") > 1000) == lines
        assert until(server, lambda state: state.cancelled == 1).running == 0


def test_b7_huge_and_endless_headers(struck: Strike) -> None:
    """One line of 10 MB, or lines without end."""
    with struck(HugeHeader()) as server:
        got, how = raw(server.url, CHAT, chat(P), most=1 << 30)
    longest = max(len(line) for line in got.split(b"\r\n"))
    assert (longest > 10 << 20, how, native_text(got[got.index(b'{"model"') :].split(b"\r\n")[0])[:2]) == (
        True,
        "closed",
        "1.",
    )
    with struck(EndlessHeaders()) as server:
        got, how = raw(server.url, CHAT, chat(P), most=3 << 20)
        assert (how, b"\r\n\r\n" in got) == ("enough", False)
        until(server, lambda state: state.cancelled == 1)


@pytest.mark.parametrize("path", [CHAT, SSE])
def test_b8_a_200_that_is_no_answer(path: str, struck: Strike) -> None:
    """A page, nothing, an error object, half a character, anything else: all with status 200."""
    found = {}
    for what in ("html", "empty", "error", "cut_character", "text"):
        with struck(Body(what=what, text="[]")) as server:  # type: ignore[arg-type]  # one of the five
            status, headers, body = ask(server.url, path, chat(P, stream=True))
            assert status == 200
            found[what] = body
            assert (headers["content-type"] == "text/html") == (what == "html")
    assert found["html"].startswith(b"<!DOCTYPE html>")
    assert (found["empty"], found["text"]) == (b"", b"[]")
    assert b'"error":' in found["error"]
    with pytest.raises(UnicodeDecodeError):
        found["cut_character"].decode()


@pytest.mark.parametrize("path", [CHAT, SSE])
def test_b8_an_error_object_in_the_middle(path: str, struck: Strike) -> None:
    """After some text comes an error object, and a regular end of the body."""
    with struck(Body(what="error", pieces=2)) as server:
        body = ask(server.url, path, chat(P, stream=True))[2]
    assert body.count(b'"content":"') - body.count(b'"content":""') == 2
    last = body.strip().splitlines()[-1].removeprefix(b"data: ")
    assert "the engine stopped working" in str(json.loads(last)["error"])


@pytest.mark.parametrize("value", ["7", "0", "-1", "99999999999", "soon", None])
def test_b9_retry_after_is_sent_as_it_stands(value: str | None, struck: Strike) -> None:
    """Any value of Retry-After reaches the client, on both APIs, and no slot is used."""
    with struck(Status(status=429, retry_after=value)) as server:
        for path in (CHAT, SSE):
            status, headers, body = ask(server.url, path, chat(P))
            assert (status, headers.get("retry-after")) == (429, value)
            assert json.loads(body)["error"]
        assert server.state().max_running == 0


def test_b9_retry_after_as_a_date(struck: Strike) -> None:
    """`date+5` becomes a date in the form of HTTP."""
    with struck(Status(status=503, retry_after="date+5")) as server:
        assert parsedate_to_datetime(ask(server.url, CHAT, chat(P))[1]["retry-after"]).year > 2000


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 425, 500, 502, 503, 504, 529])
def test_b10_b11_any_status(status: int, struck: Strike) -> None:
    """Each status comes with the error object of its API; a time window makes a storm of it."""
    with struck(Status(status=status, until=1e6)) as server:
        native = ask(server.url, CHAT, chat(P))
        other = ask(server.url, SSE, chat(P))
    assert (native[0], other[0]) == (status, status)
    assert isinstance(json.loads(native[2])["error"], str)
    assert set(json.loads(other[2])["error"]) == {"message", "type", "param", "code"}


def test_b10_an_error_can_echo_the_key(struck: Strike) -> None:
    """Some servers put the key into their message; this one does so when told."""
    with struck(Status(status=401, echo_key=True)) as server:
        assert b"sk-canary" in ask(server.url, SSE, chat(P), Authorization="Bearer sk-canary")[2]


def test_b12_redirects(struck: Strike) -> None:
    """To another host with the path kept, or to itself."""
    with struck(Redirect(to="http://127.0.0.2:9/", status=302)) as server:
        status, headers, _ = ask(server.url, CHAT, chat(P))
        assert (status, headers["location"]) == (302, "http://127.0.0.2:9/api/chat")
    with struck(Redirect()) as server:
        assert ask(server.url, CHAT, chat(P))[1]["location"] == f"{server.url}/api/chat"


def test_b14_c2_late_and_slow_answers_are_right() -> None:
    """A late or slow answer is the calm one, and holds its slot for longer."""
    with FaultServer(
        Behaviour(chunks=4, rate=2000.0, fault=(Late(seconds=0.05, match="2"), Slow(factor=5.0)))
    ) as server:
        assert native_text(ask(server.url, CHAT, chat(P))[2]) == calm_text()
        late = server.state().running_seconds[1]
        last = native_lines(ask(server.url, CHAT, chat("Give me 4 sentences"))[2])[-1]
        assert late >= 0.05
        assert last["eval_duration"] >= 0.99 * 5 * 44 / 2000 * 1e9


def test_b15_more_comes_than_was_asked_for(struck: Strike) -> None:
    """Behind the right answer lies another on the same connection."""
    with struck(Surplus()) as server, send(server.url, CHAT, chat(P), close=False) as sock:
        got = read_until(sock, b"this answers nobody")
        assert got.count(b"HTTP/1.1 200 OK") == 2


def test_faults_strike_other_paths_too() -> None:
    """A fault that names a path of a listing strikes there, and nowhere else."""
    faults = (Status(path="^/api/tags$", status=500), Reset(path="^/v1/models$", at="head"), Body(path="version$"))
    with FaultServer(Behaviour(fault=faults)) as server:
        assert ask(server.url, "/api/tags")[0] == 500
        assert raw(server.url, "/v1/models", {})[1] == "reset"
        assert ask(server.url, "/api/version")[2].startswith(b"<!DOCTYPE")
        assert ask(server.url, CHAT, {**chat(P), "model": MODEL})[0] == 200
        assert server.state().faults == {"status": 1, "reset": 1, "body": 1}


def test_a_fault_may_pass_with_the_first_attempts() -> None:
    """The second attempt at a prompt succeeds, on whichever server of the process it comes."""
    flaky = Behaviour(fault=(Reset(times=1),))
    with FaultServer(flaky, flaky) as server:
        assert raw(server.urls[0], CHAT, chat(P))[1] == "reset"
        assert ask(server.urls[1], CHAT, chat(P))[0] == 200
        assert server.prompts(0)[P].faults == 1
        assert (server.prompts(1)[P].attempts, server.prompts(1)[P].answered) == (1, 1)
