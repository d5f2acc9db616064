"""What is decided before Ray is asked: options, and what each rank gets of a cluster. Needs no Ray."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tokenmill.errors import UsageError
from tokenmill.launch.launcher import Work
from tokenmill.launch.ray.launcher import Ray
from tokenmill.launch.ray.options import read_options
from tokenmill.launch.ray.share import Share, share, told
from tokenmill.launch.ray.wire import Dismiss, Hold, Over, Told, as_line, read_order, read_report
from tokenmill.launch.spec import parse_on
from tokenmill.launch.surroundings import BESIDE_VARIABLE, CPUS_VARIABLE


def hold(
    workers: int,
    *,
    seats: int | None = None,
    tp: int = 1,
    cpus: float | None = None,
    gpus: float = 0,
    resource: tuple[str, float] | None = None,
) -> Hold:
    return Hold(
        address=None,
        workers=workers,
        seats=seats or workers,
        tp=tp,
        cpus=cpus,
        gpus=gpus,
        resource=resource,
        environment={},
        version="1",
        local_cpus=2,
    )


def given(asked: Hold, nodes: list[dict[str, float]], place: int = 0) -> tuple[Share, tuple[str, str]]:
    """What each rank gets, and what a rank on one of the nodes is told of cores and of ranks beside it."""
    each = share(asked, nodes)
    said = told(asked, each, nodes[place])
    return each, (said[CPUS_VARIABLE], said[BESIDE_VARIABLE])


def test_an_address_comes_from_the_option_or_from_rays_own_variable() -> None:
    """The option wins; `local` is a Ray of this machine whatever the variable says."""
    elsewhere = {"RAY_ADDRESS": "10.0.0.9:6379"}

    assert read_options(parse_on("ray:2"), {}).address is None
    assert read_options(parse_on("ray:2"), elsewhere).place == ("10.0.0.9", 6379)
    assert read_options(parse_on("ray:2,ray-address=ray://[::1]:10001"), elsewhere).place == ("::1", 10001)
    assert read_options(parse_on("ray:2,ray-address=auto"), elsewhere).place is None
    assert read_options(parse_on("ray:2,ray-address=local"), elsewhere).address is None


@pytest.mark.parametrize(
    "text",
    [
        *("ray-address=here", "ray-address=h:0", "ray-address=h:70000", "cpus=0", "cpus=-1", "gpus=nan", "gpus=all"),
        *("resource=fast", "resource=fast:0", "resource=fast:1.2.3", "color=blue"),
    ],
)
def test_an_option_that_can_not_be_is_named(text: str) -> None:
    """The message holds what was written."""
    with pytest.raises(UsageError, match=text.partition("=")[2].replace(".", r"\.") or text):
        read_options(parse_on(f"ray:2,{text}"), {})


def test_workers_divide_processors() -> None:
    """One whole node each where there are enough; else the workers of a node share it, and its memory."""
    four = [{"CPU": 64.0}] * 4

    assert given(hold(4), four) == (Share(gpus=0.0, cpus=64.0), ("64", "1"))
    assert given(hold(8), four) == (Share(gpus=0.0, cpus=32.0), ("32", "2"))
    assert given(hold(2, tp=4), four) == (Share(gpus=0.0, cpus=16.0), ("16", "4"))
    assert given(hold(4, cpus=8), four) == (Share(gpus=0.0, cpus=8.0), ("8", "4"))
    assert given(hold(3), [{"CPU": 1.0}]) == (Share(gpus=0.0, cpus=1.0), ("1", "1"))


def test_each_node_is_shared_by_those_that_it_has_room_for() -> None:
    """A worker has the cores that were reserved for it on a large node too, and on a small one all of its memory."""
    nodes = [{"CPU": 64.0}, {"CPU": 4.0, "fast": 1.0}]

    assert given(hold(1, cpus=2), nodes)[1] == ("2", "1")
    assert given(hold(17, cpus=4), nodes)[1] == ("4", "16")
    assert given(hold(17, cpus=4), nodes, place=1)[1] == ("4", "1")
    assert given(hold(3, cpus=0.5, resource=("fast", 1.0)), nodes, place=1)[1] == ("1", "1")


def test_a_rank_with_a_gpu_gets_one_processor() -> None:
    """A node without GPUs holds no worker, and the others as many as they have GPUs for."""
    nodes = [{"CPU": 16.0}, {"CPU": 64.0, "GPU": 4.0}]

    assert given(hold(4, gpus=1), nodes, place=1) == (Share(gpus=1.0, cpus=1.0), ("1", "4"))
    assert given(hold(1, tp=2, gpus=1), nodes, place=1) == (Share(gpus=1.0, cpus=1.0), ("1", "2"))


def test_gpus_are_for_ranks_that_compute_there() -> None:
    """A GPU that nothing would use isn't reserved."""
    on = parse_on("ray:1,gpus=1")

    with pytest.raises(UsageError, match="add --device cuda"):
        Ray(on, Work()).check()


def test_an_address_for_workers_of_other_hosts_needs_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray of this machine never looks there; the line says how a cluster is named, which is often what was meant."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    on = replace(parse_on("ray:1"), address="10.0.0.1")

    with pytest.raises(UsageError, match=r"--address 10\.0\.0\.1 is for workers of other hosts.*by --ray-address"):
        Ray(on, Work()).check()


def test_what_is_said_is_heard() -> None:
    """Orders and reports are one line each, whatever they hold."""
    for order in (hold(2), Dismiss(1, 2)):
        assert as_line(order).count(b"\n") == 1
        assert read_order(as_line(order)) == order
    for report in (Told("two\nlines"), Over("it is")):
        assert as_line(report).count(b"\n") == 1
        assert read_report(as_line(report)) == report
