"""What runs find of nodes that may share a device: told, kept beside the runs, and used by runs that are too short."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import tokenmill
from schedule.test_together import CROWDED, FEW, MANY, ROOMY, pair, rows
from tokenmill.cluster import Node
from tokenmill.driver.options import Settings, make_strategy
from tokenmill.driver.progress import Progress
from tokenmill.driver.sharing import Sharing, titled
from tokenmill.driver.verdicts import VERDICTS, Group, keep, known_of, read_verdicts, stored_of, unlike
from tokenmill.errors import UsageError
from tokenmill.record.folder import read_manifest
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import simulate
from tokenmill.schedule.trial import Verdict
from tokenmill.testing import Behaviour, FaultServer

NODES = [Node(name=name, engine="scripted", target=f"{name}.toml") for name in ("a", "b")]
TITLE = "nodes a and b may share a device: "
GROUP = Group(nodes=(0, 1), addresses=("x", "y"), host="h", device="cpu", digest="d")
BEST = Verdict(nodes=(1,), together=41.0, alone=43.2, low=-0.09, high=-0.01)
QUICK = Behaviour(slots=4, rate=4000.0, chunks=4)


class Notes:
    """A watcher that keeps the last notes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def watch(self, progress: Progress, now: float) -> None:
        self.said = list(progress.notes)

    def leave(self) -> None: ...


def session(folder: Path, count: int, curve: Curve, digest: str = "d", **chosen: Any) -> str:
    """What a run in virtual time says of its two nodes."""
    settings = Settings(strategy="auto", hedge=False, **chosen)
    sharing = Sharing(NODES, settings, digest, folder)
    strategy, fleet = make_strategy(settings, count, 0, names=["a", "b"], groups=sharing.numbers, known=sharing.known)
    simulate(strategy, rows(count), pair(curve))
    (line,) = sharing.close(fleet, {"tokenmill": "1"})
    assert line.startswith(TITLE)
    return line.removeprefix(TITLE)


def test_a_later_run_that_is_too_short_uses_the_verdict(tmp_path: Path) -> None:
    """What a long run measured is kept with its day, and told by a short one; for another model it says nothing."""
    measured = session(tmp_path, MANY, ROOMY)
    assert measured.endswith(": using all")

    assert session(tmp_path, FEW, ROOMY) == f"stored on {time.strftime('%Y-%m-%d')}: {measured}"
    assert session(tmp_path, FEW, ROOMY, digest="other") == "not measured: run too short: using one"
    (stored,) = read_verdicts(tmp_path)
    assert (stored.digest, stored.versions, len(stored.use)) == ("d", {"tokenmill": "1"}, 2)


def test_a_verdict_that_the_run_contradicts_is_not_kept(tmp_path: Path) -> None:
    """Nodes that were faster together once and are clearly slower now are told of, and measured again."""
    session(tmp_path, MANY, ROOMY)

    assert session(tmp_path, FEW, CROWDED).endswith(" alone: not kept")
    assert read_verdicts(tmp_path) == ()


def test_the_user_may_decide(tmp_path: Path) -> None:
    """With `no` one node is used, the better one if that is known; with `yes` nothing is asked."""
    assert session(tmp_path, FEW, ROOMY, together="no") == "not measured, as --together is no: using one"
    group = Sharing(NODES, Settings(strategy="auto"), "d", tmp_path).groups[0]
    keep(tmp_path, [stored_of(group, BEST, {})])
    assert Sharing(NODES, Settings(strategy="auto", together="no"), "d", tmp_path).known[0, 1].nodes == (1,)
    assert Sharing(NODES, Settings(strategy="auto", together="yes"), "d", tmp_path).groups == []


def test_other_strategies_use_all_nodes(tmp_path: Path) -> None:
    """A choice that would have no effect is refused."""
    with pytest.raises(UsageError, match="--together no doesn't go with strategy 'pull'"):
        tokenmill.run(["hello"], nodes=["scripted:"], runs_dir=tmp_path, together="no")


def test_the_order_of_the_nodes_does_not_matter(tmp_path: Path) -> None:
    """A verdict is found again by addresses, so it names the same node whatever its number."""
    keep(tmp_path, [stored_of(GROUP, BEST, {})])
    turned = Group(nodes=(3, 5), addresses=("y", "x"), host="h", device="cpu", digest="d")

    found = known_of(turned, read_verdicts(tmp_path))

    assert found is not None
    assert found.nodes == (3,)
    assert (found.together, found.alone, found.low, found.high) == (41.0, 43.2, -0.09, -0.01)


def test_two_engines_of_one_address_stay_two(tmp_path: Path) -> None:
    """The same model opened twice here has one address, and both are used if both were."""
    twice = Group(nodes=(0, 1), addresses=("local:m", "local:m"), host="h", device="cpu", digest="d")
    keep(tmp_path, [stored_of(twice, Verdict(nodes=(0, 1), together=2.0, alone=1.0, low=0.5, high=1.5), {})])

    found = known_of(twice, read_verdicts(tmp_path))

    assert found is not None
    assert found.nodes == (0, 1)


def test_a_verdict_holds_for_the_slots_and_threads_it_was_measured_with(tmp_path: Path) -> None:
    """What was found with one request on each node isn't used for sixteen; the run says so and measures by itself."""
    session(tmp_path, MANY, ROOMY, slots=1)
    today = time.strftime("%Y-%m-%d")

    assert session(tmp_path, FEW, ROOMY, slots=1).startswith(f"stored on {today}: ")
    assert session(tmp_path, FEW, ROOMY, slots=16) == (
        f"not measured: run too short: using one; the verdict of {today} was measured with --slots 1, so not used"
    )
    assert session(tmp_path, FEW, ROOMY, slots=1, threads=2).endswith("with --slots 1, so not used")
    assert session(tmp_path, FEW, ROOMY).endswith("with --slots 1, so not used")


@pytest.mark.parametrize(
    ("count", "names"), [(2, "a and b"), (4, "a, b, c and d"), (5, "a, b, c and 2 more"), (20, "a, b, c and 17 more")]
)
def test_many_nodes_are_counted(count: int, names: str) -> None:
    """The line stays short with twenty nodes of one machine."""
    assert titled("abcdefghijklmnopqrst"[:count]) == f"nodes {names} may share a device"


def test_threads_are_asked_of_this_machine_only(tmp_path: Path) -> None:
    """A server's threads aren't ours to choose, so their number tells no two verdicts on it apart."""
    served = [
        Node(name=name, engine="openai", target=f"http://127.0.0.1:{port}") for name, port in (("a", 1), ("b", 2))
    ]
    groups = [
        Sharing(nodes, Settings(strategy="auto", slots=4, threads=2), "d", tmp_path).groups for nodes in (NODES, served)
    ]
    assert [(group.slots, group.threads) for (group,) in groups] == [(4, 2), (4, None)]


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its verdicts don't say with how many slots they were measured, so no run uses them."""
    keep(tmp_path, [stored_of(GROUP, BEST, {})])
    old = [{name: value for name, value in each.items() if name not in ("slots", "threads")} for each in kept(tmp_path)]
    (tmp_path / VERDICTS).write_text(json.dumps(old))

    assert known_of(GROUP, read_verdicts(tmp_path)) is None
    other = unlike(GROUP, read_verdicts(tmp_path))
    assert other is not None
    assert other.use_in_words == "with slots and threads that weren't kept"
    keep(tmp_path, [stored_of(GROUP, BEST, {})])
    assert known_of(GROUP, read_verdicts(tmp_path)) is not None


def kept(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / VERDICTS).read_text())
    return found


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    """A file that can't be read is no reason to guess."""
    (tmp_path / VERDICTS).write_text("[{}]")
    with pytest.raises(UsageError, match=r"verdicts\.json: unreadable .*delete it"):
        read_verdicts(tmp_path)


def test_a_run_over_sockets_goes_by_what_is_stored(tmp_path: Path) -> None:
    """Two servers of this machine: one is used until a verdict says that both should be."""
    prompts = [f"Say {number} in words." for number in range(40)]
    with FaultServer(QUICK, QUICK) as servers:
        nodes = [f"openai:{url}" for url in servers.urls]
        first, second = Notes(), Notes()
        one = tokenmill.run(prompts, nodes=nodes, runs_dir=tmp_path, strategy="auto", watcher=first)
        alone = [servers.state(node).answered for node in range(2)]
        places = [Node(name=url, engine="openai", target=url) for url in servers.urls]
        digest = read_manifest(one.folder).model_digest
        (group,) = Sharing(places, Settings(strategy="auto"), digest, tmp_path).groups
        keep(tmp_path, [stored_of(group, Verdict(nodes=(0, 1), together=2.0, alone=1.0, low=0.5, high=1.5), {})])
        both = tokenmill.run(prompts, nodes=nodes, runs_dir=tmp_path, strategy="auto", watcher=second)
        together = [servers.state(node).answered for node in range(2)]
    assert first.said[-1].endswith("not measured: run too short: using one")
    assert "may share a device: stored on " in second.said[-1]
    assert min(alone) == 0
    assert all(after - before > 5 for before, after in zip(alone, together, strict=True))
    assert one.texts == both.texts
