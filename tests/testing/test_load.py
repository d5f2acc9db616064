"""Slots, queue, devices, models and keys of a running server, as the server itself saw them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from testing.asking import ask, ask_json, chat, native_lines, read_until, send, until
from tokenmill.errors import UsageError
from tokenmill.testing import Behaviour, Change, Curve, FaultServer, Status

FOR_EVER = 1e-9
CHAT = "/api/chat"


def test_slots_queue_and_refusal() -> None:
    """As many run as there are slots, as many wait as the queue takes, the next is refused with 503."""
    with FaultServer(Behaviour(slots=2, queue=3, rate=FOR_EVER)) as server, ExitStack() as open_ones:
        for number in range(5):
            open_ones.enter_context(send(server.url, CHAT, chat(f"prompt {number}")))
        state = until(server, lambda state: state.asked == 5)
        assert (state.running, state.waiting) == (2, 3)
        status, _, body = ask(server.url, CHAT, chat("one more"))
        busy = "server busy, please try again.  maximum pending requests exceeded"
        assert (status, json.loads(body)) == (503, {"error": busy})
        state = server.state()
        assert (state.refused, state.max_in_flight, state.max_running, state.max_waiting) == (1, 5, 2, 3)


def test_who_leaves_makes_room_for_the_first_who_waits() -> None:
    """A client that closes its connection is counted as cancelled, and its slot goes to the next in line."""
    with FaultServer(Behaviour(slots=1, rate=FOR_EVER)) as server, ExitStack() as open_ones:
        first = send(server.url, CHAT, chat("first"))
        until(server, lambda state: state.running == 1)
        for number in range(2):
            open_ones.enter_context(send(server.url, CHAT, chat(f"later {number}")))
        until(server, lambda state: state.waiting == 2)
        first.close()
        state = until(server, lambda state: state.cancelled == 1)
        assert (state.running, state.waiting) == (1, 1)
        assert server.prompts()["first"].cancelled == 1


def test_an_answer_comes_piece_by_piece() -> None:
    """What is ready is sent while the rest is still being made."""
    with FaultServer(Behaviour(rate=FOR_EVER)) as server:
        with send(server.url, "/v1/chat/completions", chat("p", stream=True)) as sock:
            assert read_until(sock, b'"role":"assistant"').startswith(b"HTTP/1.1 200 OK")
            assert (server.state().running, server.state().answered) == (1, 0)
        until(server, lambda state: state.cancelled == 1)


def test_slots_can_change_while_it_runs() -> None:
    """More slots start those who wait at once; fewer let those who run finish."""
    with FaultServer(Behaviour(slots=8, rate=FOR_EVER)) as server, ExitStack() as open_ones:
        for number in range(10):
            open_ones.enter_context(send(server.url, CHAT, chat(f"prompt {number}")))
        assert until(server, lambda state: state.asked == 10).running == 8
        server.behave(slots=1)
        assert server.state().running == 8
        server.behave(slots=9)
        assert server.state().running == 9


def test_changes_come_with_a_request() -> None:
    """A script may change a server at a request of its choice: here its slots, and then its model."""
    changes = (Change(request=2, set={"digest": "f" * 64}), Change(request=3, unload=True))
    with FaultServer(Behaviour(change=changes, load=0.001)) as server:
        digests = []
        for number in range(2):
            digests.append(ask_json(server.url, "/api/tags")["models"][0]["digest"])
            ask(server.url, CHAT, chat(f"prompt {number}"))
        digests.append(ask_json(server.url, "/api/tags")["models"][0]["digest"])
        assert digests[0] == digests[1] != digests[2] == "f" * 64
        assert server.state().loads == 0
        last = native_lines(ask(server.url, CHAT, chat("third"))[2])[-1]
        assert server.state().loads == 1
        assert last["load_duration"] >= 1_000_000


def test_two_servers_share_a_device() -> None:
    """A request takes twice as long while another runs on a second server of the same device."""
    quick, endless = Behaviour(device="gpu", rate=200.0), Behaviour(device="gpu", rate=FOR_EVER)
    with FaultServer(quick, endless, devices={"gpu": Curve(serial=1)}) as server:
        with send(server.urls[1], CHAT, chat("p")):
            until(server, lambda state: state.running == 1, 1)
            last = native_lines(ask(server.url, CHAT, chat("Give me 2 sentences about it"))[2])[-1]
        assert last["eval_duration"] >= 0.99 * 2 * 22 / 200 * 1e9


def test_a_model_is_loaded_kept_and_unloaded() -> None:
    """An empty prompt loads, `keep_alive: 0` unloads, another num_ctx reloads; `/api/ps` shows it."""
    with FaultServer(Behaviour(loaded=False, load=0.001, vram=0.5)) as server:
        assert ask_json(server.url, "/api/ps") == {"models": []}
        preloaded = ask_json(server.url, "/api/generate", {"model": "llama3.2", "keep_alive": -1})
        assert (preloaded["done"], preloaded["done_reason"]) == (True, "load")
        (running,) = ask_json(server.url, "/api/ps")["models"]
        assert (running["size_vram"] < running["size"], running["context_length"]) == (True, 4096)
        assert running["expires_at"].startswith("2318")
        ask(server.url, CHAT, chat("p", options={"num_ctx": 1000}))
        assert server.state().loads == 1
        assert ask_json(server.url, "/api/ps")["models"][0]["context_length"] == 1000
        ask(server.url, "/api/generate", {"model": "llama3.2", "keep_alive": 0})
        assert ask_json(server.url, "/api/ps") == {"models": []}


def test_a_key_is_asked_for_and_never_shown() -> None:
    """Without the right key the answer is 401, and no view of the server holds a key."""
    with FaultServer(Behaviour(key="sk-canary-right")) as server:
        statuses = [
            ask(server.url, "/v1/models", None, **headers)[0]
            for headers in (
                {},
                {"Authorization": "Bearer sk-canary-wrong"},
                {"Authorization": "Bearer sk-canary-right"},
            )
        ]
        assert statuses == [401, 401, 200]
        error = ask_json(server.url, "/v1/chat/completions", chat("p"))["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", None)
        assert server.state().by_authorization == {"none": 2, "wrong": 1, "right": 1}
        assert (
            "canary"
            not in f"{Behaviour(key='sk-canary-right')} {server.requests()} {server.state()} {server.prompts()}"
        )
        if sys.platform == "linux":
            assert "canary" not in Path(f"/proc/{server.pid}/cmdline").read_text()


def test_requests_a_minute_are_limited() -> None:
    """Hosted APIs tell what is left in headers, and refuse with 429 and a time to wait."""
    with FaultServer(Behaviour(requests_per_minute=2, tokens_per_minute=1000)) as server:
        replies = [ask(server.url, "/v1/chat/completions", chat(f"p {number}")) for number in range(3)]
        assert [status for status, _, _ in replies] == [200, 200, 429]
        assert [headers["x-ratelimit-remaining-requests"] for _, headers, _ in replies] == ["1", "0", "0"]
        assert 0 < int(replies[2][1]["retry-after"]) <= 30
        assert json.loads(replies[2][2])["error"]["code"] == "rate_limit_exceeded"


def test_connections_are_kept_and_pipelined() -> None:
    """Two requests sent together on one connection are answered one after the other."""
    with FaultServer() as server, send(server.url, CHAT, chat("first"), close=False) as sock:
        second = json.dumps(chat("second", stream=False)).encode()
        sock.sendall(b"POST /api/chat HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(second) + second)
        state = until(server, lambda state: state.answered == 2)
        assert state.connections_made == 1
        got = read_until(sock, b"HTTP/1.1 200 OK\r\ncontent-type: application/json")
        assert got.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson")


def test_unreadable_requests_are_refused() -> None:
    """Bytes that are no HTTP get a 400 and an end."""
    with FaultServer() as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 400")


def test_the_control_door_refuses_what_it_does_not_know() -> None:
    """A wrong field is named, and what can't change says so; the server goes on."""
    with FaultServer(Behaviour(fault=(Status(match="never"),))) as server:
        with pytest.raises(UsageError, match="slotz"):
            server.behave(slotz=3)
        with pytest.raises(UsageError, match="port can't be changed"):
            server.behave(port=3)
        with pytest.raises(UsageError, match=r"fault\[0\]"):
            server.behave(fault=[{"kind": "unheard"}])
        assert ask(f"{server.url}", "/__control/nothing")[0] == 404
        assert ask_json(server.url, "/__control/state")["name"] == "a"
        assert ask(server.url, CHAT, chat("p"))[0] == 200


def test_the_process_ends_with_its_block() -> None:
    """Nothing is left of a server after its block, whatever still runs on it."""
    with FaultServer(Behaviour(rate=FOR_EVER)) as server:
        pid = server.pid
        sock = send(server.url, CHAT, chat("p"))
        until(server, lambda state: state.running == 1)
    sock.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_process_does_not_outlive_who_started_it() -> None:
    """A killed test leaves no server behind: it ends with its input."""
    code = "from tokenmill.testing import FaultServer\nprint(FaultServer().open().url, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert ask(url, "/v1/models")[0] == 200
        parent.kill()
    for _ in range(100_000):
        try:
            ask(url, "/v1/models")
        except ConnectionError:
            return
    raise AssertionError("it still answers")


def test_it_speaks_tls() -> None:
    """With a certificate, valid or not, it is asked by https."""
    folder = Path(__file__).parents[1] / "engine" / "http" / "certificates"
    secured = Behaviour(certificate=str(folder / "expired.pem"), private_key=str(folder / "key.pem"))
    with FaultServer(secured) as server:
        assert server.url.startswith("https://")
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        place = server.url.removeprefix("https://")
        with closing(http.client.HTTPSConnection(place, timeout=20, context=trusting)) as connection:
            connection.request("GET", "/api/version")
            assert connection.getresponse().status == 200
        with closing(http.client.HTTPSConnection(place, timeout=20)) as connection, pytest.raises(ssl.SSLError):
            connection.request("GET", "/api/version")


def test_a_server_that_cannot_start_says_why() -> None:
    """A taken port is named in the error."""
    with FaultServer() as server, pytest.raises(UsageError, match="give port 0"):
        FaultServer(Behaviour(port=int(server.url.rpartition(":")[2]))).open()


def test_from_the_shell(tmp_path: Path) -> None:
    """The module runs a script, prints URLs on its first line, and ends with a signal; a bad file is exit code 2."""
    path = tmp_path / "script.toml"
    path.write_text("[[server]]\nslots = 1\n[[server]]\nslots = 2\n")
    command = [sys.executable, "-m", "tokenmill.testing", "--port", "0", "--script", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first, second, control = process.stdout.readline().split()
        assert ask(second, CHAT, chat("p"))[0] == 200
        assert ask_json(control, "/__control/state?server=b")["answered"] == 1
        assert ask_json(first, "/__control/state")["answered"] == 0
        process.terminate()
        assert process.wait(timeout=20) == 0
    path.write_text("slotz = 1\n")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "slotz" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
