"""A run on a real Ray whose nodes are hosts of their own, one of which is cut off: no packet says that it is gone."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.ray.runs import HEALTH, SHARES, Run, until
from namespaces import Land, land
from requirements import require

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

PORT = 6379
SETTINGS = HEALTH | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture
def country() -> Iterator[Land]:
    """Three hosts, each a node of one Ray, the head in the first."""
    require("ray")
    require("netns")
    short = tempfile.mkdtemp(prefix="tm-ray-")  # names of sockets lie in it, which have room for 100 characters
    try:
        with land() as country:
            start(country, "a", short, "--head", f"--port={PORT}", "--include-dashboard=false")
            listening = f"import socket; socket.create_connection(('{country.address('a')}', {PORT}), 1).close()"
            until(lambda: country.run("b", "-c", listening).returncode == 0, "the head")
            nodes = {host: join(country, host, short) for host in "bc"}
            until(lambda: are_there(country, nodes, short), "three nodes")
            yield country
    finally:
        shutil.rmtree(short, ignore_errors=True)


def join(country: Land, host: str, short: str) -> subprocess.Popen[bytes]:
    return start(country, host, short, f"--address={country.address('a')}:{PORT}")


def are_there(country: Land, nodes: dict[str, subprocess.Popen[bytes]], short: str) -> bool:
    """Whether the head knows all three; a node that gave up, as Ray does on a busy machine, starts again."""
    for host, process in nodes.items():
        if process.poll() is not None:
            nodes[host] = join(country, host, short)
    address = f"{country.address('a')}:{PORT}"
    count = f"import ray; ray.init('{address}', logging_level='ERROR'); print(sum(n['Alive'] for n in ray.nodes()))"
    return country.run("a", "-c", count, **SETTINGS).stdout.strip() == "3"


def start(country: Land, host: str, short: str, *how: str) -> subprocess.Popen[bytes]:
    """A node that ends with the process started here."""
    common = [f"--node-ip-address={country.address(host)}", "--num-cpus=1", "--object-store-memory=100000000"]
    words = ["-m", "ray.scripts.scripts", "start", *how, *common, "--disable-usage-stats", "--block"]
    head = [f"--temp-dir={short}"] if "--head" in how else []
    return country.start(host, *words, *head, **SETTINGS)


def test_a_host_is_cut_off(tmp_path: Path, country: Land) -> None:
    """Its silence is noticed within seconds, its rows go to the other hosts, and what it still says counts nothing."""
    address = f"{country.address('a')}:{PORT}"
    launch = ["--workers", "3", "--ray-address", address, "--cpus", "1", "--silence", "3"]
    run = Run(tmp_path, 300, *launch, options=SHARES, python=country.python("a"), **SETTINGS)
    try:
        until(lambda: run.is_going() and len(run.nodes()) == 3, "an answer from each host")
        country.cut("c")
        run.finish()
        run.check_complete()
        assert run.ask("SELECT count(*) FROM attempt WHERE kind = 'crash'") > [(0,)]
    finally:
        run.close()
