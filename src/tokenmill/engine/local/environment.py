"""What a worker inherits: the caller's environment without anything that looks like a secret.

A worker reads local files and answers over its socket: it needs no key, no password and no network, and what it
doesn't have it can't leak into a crash report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(
    r"(^|_)(KEY|APIKEY|KEYS|TOKEN|TOKENS|SECRET|SECRETS|PASS|PASSWORD|PASSWD|CREDENTIALS?|AUTH|COOKIE)(_|$)"
)
#: Turns a thread spins at a barrier before it sleeps. GPT-2 124M in bf16 on 2 cores: as fast as the default when the
#: machine is quiet, and no collapse beside two busy programs, where the default was at times six times slower.
SPINS = 10_000
_LOGIN_IN_URL = re.compile(r"://[^/\s]*@")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables whose names don't look secret and whose values hold no URL with a login."""
    return {
        name: value
        for name, value in environment.items()
        if not _SECRET_NAME.search(name.upper()) and not _LOGIN_IN_URL.search(value)
    }


def worker_environment(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """What a worker with `threads` computing threads is started with.

    OpenMP and MKL read their sizes once, when torch is loaded, so they are set before the process exists. Left to
    itself, GNU OpenMP spins for millions of turns at each barrier, and beside another busy program two threads then
    spend their time waiting for each other; a caller who set the count keeps it.
    """
    return (
        {"GOMP_SPINCOUNT": str(SPINS)}
        | without_secrets(environment)
        | {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "PYTHONUTF8": "1",
        }
    )
