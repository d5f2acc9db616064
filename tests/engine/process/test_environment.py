"""What a worker inherits."""

from __future__ import annotations

import pytest

from tokenmill.engine.local.environment import without_secrets, worker_environment


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "DB_PASSWORD", "apikey",
     "GOOGLE_APPLICATION_CREDENTIALS", "SSH_AUTH_SOCK", "TOKENMILL_WORKER_TOKEN"],
)  # fmt: skip
def test_names_that_look_secret_stay_outside(name: str) -> None:
    """A worker needs no key, so it gets none."""
    assert without_secrets({name: "canary", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", ["PATH", "TOKENIZERS_PARALLELISM", "TOKENMILL_RUNS", "KEYBOARD", "LD_LIBRARY_PATH"])
def test_other_names_pass(name: str) -> None:
    """A name is secret by its words, not by the letters in it."""
    assert without_secrets({name: "value"}) == {name: "value"}


def test_a_login_in_a_url_is_a_secret() -> None:
    """Proxies are often given with their password."""
    assert without_secrets({"HTTPS_PROXY": "http://me:canary@proxy:80", "NO_PROXY": "a.b"}) == {"NO_PROXY": "a.b"}


def test_thread_counts_are_set_before_the_process_exists() -> None:
    """OpenMP reads its size when it is loaded; what the caller had set doesn't count."""
    environment = worker_environment({"OMP_NUM_THREADS": "64"}, 3)

    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "3")
