"""Where a node is: what targets and variables mean, and which URLs are refused."""

from __future__ import annotations

import pytest

from engine.http.asking import node_at
from tokenmill.engine.http.address import address_of, is_guarded
from tokenmill.engine.http.detect import with_base
from tokenmill.errors import UsageError


@pytest.mark.parametrize(
    ("kind", "target", "environment", "origin"),
    [
        ("http", "//10.0.0.5:11434", {}, "http://10.0.0.5:11434"),
        ("http", "http://10.0.0.5:80/", {}, "http://10.0.0.5"),
        ("https", "//example.org", {}, "https://example.org"),
        ("http", "//[::1]:8080/v1/", {}, "http://[::1]:8080"),
        ("ollama", "", {}, "http://127.0.0.1:11434"),
        ("ollama", "", {"OLLAMA_HOST": "0.0.0.0"}, "http://127.0.0.1:11434"),
        ("ollama", "", {"OLLAMA_HOST": "0.0.0.0:1234"}, "http://127.0.0.1:1234"),
        ("ollama", "", {"OLLAMA_HOST": "gpu-box"}, "http://gpu-box:11434"),
        ("ollama", "", {"OLLAMA_HOST": "gpu-box:80"}, "http://gpu-box"),
        ("ollama", "", {"OLLAMA_HOST": "https://gpu-box"}, "https://gpu-box"),
        ("ollama", "gpu-box", {"OLLAMA_HOST": "other"}, "http://gpu-box:11434"),
        ("ollama", "http://gpu-box:1", {}, "http://gpu-box:1"),
        ("openai", "", {}, "https://api.openai.com"),
        ("openai", "", {"OPENAI_BASE_URL": "http://10.1.1.1:8000/v1"}, "http://10.1.1.1:8000"),
        ("openai", "localhost:8000", {}, "http://localhost:8000"),
        ("openai", "http://169.254.169.254", {}, "http://169.254.169.254"),
    ],
)
def test_what_a_target_means(kind: str, target: str, environment: dict[str, str], origin: str) -> None:
    """Each kind has its defaults, and empty targets follow the variables that others honour."""
    assert address_of(node_at(target, kind), environment).origin == origin


def test_the_base_of_openai() -> None:
    """A bare origin means `/v1`; another path is taken as it is."""
    bare = address_of(node_at("http://a:1"), {})
    other = address_of(node_at("http://a:1/openai/v2/"), {})

    assert with_base(bare).path == "/v1"
    assert with_base(other).path == "/openai/v2"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://me:secret@host:1", "holds a login"),
        ("http://secret@host:1", "holds a login"),
        ("http://host:1/v1?key=secret", "query or fragment"),
        ("http://host:1/#secret", "query or fragment"),
        ("ftp://host", "no address of a server"),
        ("file:///secret", "no address of a server"),
        ("http://", "no address of a server"),
        ("http://host:99999", "can't be read"),
        ("http://[::1", "can't be read"),
        ("http://ho st", "no address of a server"),
    ],
)
def test_what_is_refused(target: str, words: str) -> None:
    """A URL with a login, a query, another scheme or no host is refused, and what may be secret isn't repeated."""
    with pytest.raises(UsageError, match=words) as caught:
        address_of(node_at(target), {})

    assert target.startswith("file:") or "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "guarded"),
    [
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("100.100.100.200", True),
        ("fd00:ec2::254", True),
        ("127.0.0.1", False),
        ("10.0.0.5", False),
        ("::1", False),
        ("fd00::1", False),
    ],
)
def test_guarded_addresses(address: str, guarded: bool) -> None:
    """Link-local and metadata addresses are guarded; private and loopback ones are where nodes are."""
    assert is_guarded(address) is guarded
