"""Runs on a real Ray cluster of three nodes on one machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenmill
from launch.ray.runs import ENDLESS, HEALTH, MARK, SHARES, Run, left_of, until
from requirements import require

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


class Cluster:
    """A Ray of nodes with one processor each; the head is the node of the driver."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self._cluster = RayCluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}, shutdown_at_exit=True
        )
        self._others: list[Any] = []

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def have(self, nodes: int) -> None:
        """So many nodes in all, the head among them."""
        while len(self._others) + 1 < nodes:
            self.join()
        while len(self._others) + 1 > nodes:
            self.lose()

    def join(self) -> None:
        self._others.append(self._cluster.add_node(num_cpus=1))

    def join_with(self, sources: Path) -> None:
        """A node that has another tokenmill, and a resource `other` by which it is asked for."""
        more = {"env_vars": {"PYTHONPATH": str(sources)}, "resources": {"other": 1}}
        self._others.append(self._cluster.add_node(num_cpus=1, **more))

    def lose(self) -> None:
        """The last node's own process is killed, and with it all that runs there."""
        self._cluster.remove_node(self._others.pop(), allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require("ray")
    before = dict(os.environ)
    os.environ |= HEALTH | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
    made = Cluster()
    try:
        yield made
    finally:
        made.close()
        os.environ.clear()
        os.environ.update(before)


def launch(cluster: Cluster, *more: str) -> list[str]:
    return ["--workers", "3", "--ray-address", cluster.address, "--cpus", "1", *more]


def test_a_node_is_killed(tmp_path: Path, cluster: Cluster) -> None:
    """Three nodes answer; one dies, what was in flight there goes to the others, and every row is answered once."""
    cluster.have(3)
    run = Run(tmp_path, 300, *launch(cluster), options=SHARES)
    try:
        until(lambda: run.is_going() and len(run.nodes()) == 3, "an answer from each node")
        cluster.lose()
        run.finish()
        run.check_complete()
        assert run.ask("SELECT count(*) FROM attempt WHERE kind = 'crash'") > [(0,)]
    finally:
        run.close()


def test_a_node_that_joins_late_answers_too(tmp_path: Path, cluster: Cluster) -> None:
    """A worker that finds no room waits for a node; once one joins it takes its share of what is left."""
    cluster.have(2)
    run = Run(tmp_path, ENDLESS, *launch(cluster))
    try:
        run.reach(10)
        assert len(run.nodes()) < 3
        cluster.join()
        until(lambda: run.is_going() and run.nodes() == {0, 1, 2}, "an answer from the third node")
        run.interrupt()
    finally:
        run.close()


def test_a_node_with_another_version_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    """The line names both versions and the remedy, and nothing was sent."""
    package = Path(tokenmill.__file__).parent
    shutil.copytree(package, tmp_path / "old" / "tokenmill", ignore=shutil.ignore_patterns("__pycache__", "demo"))
    module = tmp_path / "old" / "tokenmill" / "__init__.py"
    module.write_text(module.read_text(encoding="utf-8").replace(tokenmill.__version__, "0.0.7"), encoding="utf-8")
    cluster.join_with(tmp_path / "old")
    run = Run(tmp_path, 3, "--workers", "1", "--ray-address", cluster.address, "--cpus", "1", "--resource", "other:1")
    try:
        words = run.finish()
        assert run.process.returncode in (2, 4), words
        assert f"has tokenmill 0.0.7 and the driver {tokenmill.__version__}" in words
        assert "install the same version" in words
        assert run.ask("SELECT count(*) FROM attempt") in ([], [(0,)])
    finally:
        run.close()
        cluster.lose()


def test_a_driver_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """A Ray of the run's own ends with its driver, however that ends; the run resumes with another one."""
    require("ray")
    require("linux")
    mark = {MARK: str(tmp_path)}
    run = Run(tmp_path, 60, "--workers", "2", "--force", **mark)
    try:
        run.reach(8)
        assert len(left_of(str(tmp_path))) > 4  # driver, agent, Ray, actors, ranks
        run.kill()
        until(lambda: not left_of(str(tmp_path)), "the end of all processes")
        run.resume()
        run.finish()
        run.check_complete()
        until(lambda: not left_of(str(tmp_path)), "the end of all processes")
    finally:
        run.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ray-address", "127.0.0.1:1"], "no Ray answers at 127.0.0.1 port 1"),
        (["--ray-address", "over there"], "'over there' can't be read; write HOST:PORT"),
        (["--cpus", "none"], "cpus 'none' is no amount"),
        (["--resource", "fast"], "resource 'fast' can't be read; write NAME:AMOUNT"),
        (["--workers", "4000"], "add --force"),
    ],
)
def test_what_can_not_work_starts_nothing(tmp_path: Path, options: list[str], said: str) -> None:
    """One line with the cause and the way out, before there is a run."""
    require("ray")
    run = Run(tmp_path, 3, *options)
    try:
        words = run.finish()
        assert run.process.returncode == 2
        assert said in words
        assert len(words.strip().splitlines()) == 1
        assert run.ask("SELECT 1") == []
    finally:
        run.close()
