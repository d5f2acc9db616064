"""Proxies: used where somebody named one, told no key, and asked for in no other case."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import tokenmill
from engine.http.asking import PATIENT, answer, failure_of, node_at, tell
from engine.http.proxying import Proxy
from tokenmill.cluster import EngineOptions
from tokenmill.engine.http.address import address_of
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.engine.http.proxy import find_proxy
from tokenmill.errors import UsageError
from tokenmill.plan.inventory import read
from tokenmill.testing import Behaviour, FaultServer

CERTIFICATES = Path(__file__).parent / "certificates"
CANARY, LOGIN = "sk-canary-0123456789", "mill:canary-pass"


def engine(url: str, kind: str, proxy: str | None, **fields: Any) -> ServerEngine:
    environment = fields.pop("environment", {})
    node = node_at(url, kind, proxy=proxy, **fields)
    return ServerEngine(node, EngineOptions(), clocks=PATIENT, environment=environment)


def secured(**fields: Any) -> FaultServer:
    certificate, key = str(CERTIFICATES / "right.pem"), str(CERTIFICATES / "key.pem")
    return FaultServer(Behaviour(certificate=certificate, private_key=key, **fields))


def test_requests_go_through_the_proxy(server: FaultServer, api: str) -> None:
    """All requests to an http node go to the proxy that is named, and come back with the answer."""
    with Proxy() as proxy:
        through, _ = tell(engine(server.url, api, proxy.url), answer)
        direct, _ = tell(engine(server.url, api, None), answer)

    assert through == direct
    assert proxy.heads
    assert all(f" {server.url}/".encode() in head for head in proxy.heads)


def test_a_proxy_to_https_sees_neither_key_nor_text(monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    """It is asked for a tunnel and nothing else; what passes there is not to be read."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "right.pem"))
    with Proxy() as proxy, secured(key=CANARY) as server:
        environment = {"K": CANARY}
        text, _ = tell(engine(server.url, api, proxy.url, key="env:K", environment=environment), answer)

    assert text
    assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in proxy.heads)
    for secret in (CANARY.encode(), b"Authorization: Bearer", b"Say a few words", b"/api/", b"/v1/"):
        assert secret not in proxy.read


def test_a_login_goes_to_the_proxy_alone(monkeypatch: pytest.MonkeyPatch, api: str, tmp_path: Path) -> None:
    """A login from a variable or a private file opens the proxy, and the node never hears of it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "right.pem"))
    file = tmp_path / "proxy"
    with Proxy(LOGIN) as proxy, secured() as safe, FaultServer(Behaviour()) as plain:
        url = f"http://{LOGIN}@{proxy.place}"
        file.write_text(url + "\n")
        file.chmod(0o600)
        for server in (safe, plain):
            assert tell(engine(server.url, api, "env:WAY", environment={"WAY": url}), answer)[0]
            assert tell(engine(server.url, api, f"file:{file}"), answer)[0]
            assert server.state().by_authorization.keys() <= {"none"}
        with pytest.raises(UsageError, match="407"):
            engine(safe.url, api, proxy.url).survey()


def test_a_key_never_passes_a_proxy_in_the_clear(server: FaultServer, api: str) -> None:
    """A node with a key and an http URL isn't asked through a proxy."""
    with Proxy() as proxy, pytest.raises(UsageError, match=r"its key would pass the proxy .* in the clear"):
        engine(server.url, api, proxy.url, key="env:K", environment={"K": CANARY})
    assert proxy.read == b""


def test_the_variables_are_heeded_where_that_is_asked_for(server: FaultServer, api: str) -> None:
    """With `env` HTTP_PROXY is used but for hosts in NO_PROXY; without, or with `none`, it isn't."""
    with Proxy() as proxy:
        variables = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": "http://127.0.0.1:9"}
        for way, environment in (
            (None, variables),
            ("none", variables),
            ("env", {}),
            ("env", variables | {"NO_PROXY": "example.org, 127.0.0.1"}),
            ("env", variables | {"no_proxy": "*"}),
        ):
            tell(engine(server.url, api, way, environment=environment), answer)
        assert proxy.heads == []
        tell(engine(server.url, api, "env", environment=variables), answer)
        tell(engine(server.url, api, "env", environment={"all_proxy": proxy.url}), answer)
    assert proxy.heads


@pytest.mark.parametrize(
    ("exceptions", "is_direct"),
    [
        ("node.example.org", True),
        (".example.org", True),
        ("*.example.org", True),
        ("EXAMPLE.ORG", True),
        ("node.example.org:443", True),
        ("node.example.org:80", False),
        ("ample.org", False),
        ("a, ,b", False),
        ("", False),
    ],
)
def test_exceptions_go_by_whole_names(exceptions: str, is_direct: bool) -> None:
    """NO_PROXY names hosts and domains, never parts of a name."""
    node = node_at("https://node.example.org/v1", proxy="env")
    address = address_of(node, {})
    found = find_proxy(node, address, None, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": exceptions})

    assert (found is None) == is_direct
    assert found is None or found.url == "http://proxy:3128"


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [("503 Busy", "unreachable", "gives no way there: 503"), ("403 No", "misconfigured", "gives no way there: 403")],
)
def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch, refusal: str, kind: str, words: str) -> None:
    """A proxy that can't reach the node makes it unreachable; one that may not has to be set right."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "right.pem"))
    with Proxy(refusal=refusal) as proxy, secured() as server, pytest.raises(UsageError, match=words) as caught:
        engine(server.url, "openai", proxy.url).survey()
    assert (type(caught.value) is UsageError) == (kind == "misconfigured")


def test_a_proxy_that_is_not_there(server: FaultServer, api: str) -> None:
    """The message says that it is the proxy which can't be reached."""
    with pytest.raises(UsageError, match="no connection to its proxy"):
        engine(server.url, api, "http://127.0.0.1:9").survey()


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("https://proxy:1", "no http URL"),
        ("socks5://proxy:1", "no http URL"),
        ("http://", "no http URL"),
        ("http://[", "no http URL"),
        (f"http://{LOGIN}@proxy:1", "holds a login"),
        ("http://proxy:1/path", "more than a host and a port"),
        ("env:WAY", "its proxy is in the variable WAY, which is not set"),
        ("file:/no/such/file", "the proxy file /no/such/file can't be read"),
    ],
)
def test_a_proxy_that_is_none_is_refused(proxy: str, words: str) -> None:
    """What is wrong is said without the login that the URL may hold."""
    with pytest.raises(UsageError, match=words) as caught:
        engine("http://10.0.0.1", "openai", proxy)
    assert "canary-pass" not in str(caught.value)


def test_the_inventory_says_how_a_node_is_reached() -> None:
    """The field is read, and a login in it is refused without being repeated."""
    text = '[[node]]\nname = "a"\nurl = "https://10.0.0.1"\nproxy = {}\n'
    for proxy in ("env", "none", "env:WAY", "file:/x", "http://10.0.0.9:3128"):
        (entry,) = read(text.format(f'"{proxy}"'), "nodes.toml", ["openai"])
        assert entry.node.proxy == proxy
    for wrong in (f'"http://{LOGIN}@10.0.0.9"', '"https://10.0.0.9"', "7", '""'):
        with pytest.raises(tokenmill.TokenmillError, match="proxy must be") as caught:
            read(text.format(wrong), "nodes.toml", ["openai"])
        assert "canary-pass" not in str(caught.value)


def test_a_run_goes_through_its_proxy_and_keeps_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A whole run, and one that a proxy refuses, leave the login in no file and in nothing that is printed."""
    caplog.set_level(logging.DEBUG)
    with Proxy(LOGIN) as proxy, FaultServer(Behaviour()) as server:
        way = {"runs_dir": tmp_path, "nodes": [f"openai:{server.url}"], "durability": "process", "proxy": "env:WAY"}
        monkeypatch.setenv("WAY", f"http://{LOGIN}@{proxy.place}")
        assert tokenmill.run(["Say 1.", "Say 2."], **way).is_complete
        monkeypatch.setenv("WAY", f"http://{LOGIN}-wrong@{proxy.place}")
        with pytest.raises(tokenmill.TokenmillError, match="407"):
            tokenmill.run(["Say 1."], **way)
    said = capfd.readouterr()
    assert all("canary-pass" not in text for text in (said.out, said.err, caplog.text))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"canary-pass" not in path.read_bytes(), path


def test_a_run_with_a_proxy_written_with_a_login_leaves_nothing(tmp_path: Path) -> None:
    """It is refused before a run folder exists."""
    with pytest.raises(tokenmill.TokenmillError, match="holds a login"):
        tokenmill.run(["a"], nodes=["openai:http://10.0.0.1"], runs_dir=tmp_path, proxy=f"http://{LOGIN}@10.0.0.9")
    assert list(tmp_path.iterdir()) == []


def test_failures_are_told_without_the_login(server: FaultServer) -> None:
    """A proxy that goes away in a run makes the node unreachable."""
    with Proxy(LOGIN) as proxy:
        node = engine(server.url, "openai", "env:WAY", environment={"WAY": f"http://{LOGIN}@{proxy.place}"})
    with pytest.raises(UsageError) as caught:
        failure_of(node)
    assert "canary-pass" not in str(caught.value)
