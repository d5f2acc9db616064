"""Discovery looks where it was told to, and nowhere else."""

from __future__ import annotations

import pytest

from tokenmill.errors import InputFaults
from tokenmill.plan.targets import PORTS, targets


def looked(*given: str, **more: int) -> list[str]:
    return [f"{url}" for url in targets(given, (1, 2), **more)]


def test_a_host_is_looked_at_on_the_usual_ports() -> None:
    """A host alone means the ports on which such servers listen; one with a port means that port."""
    assert [url.port for url in targets(["box"])] == list(PORTS)
    assert looked("Box") == ["http://box:1", "http://box:2"]
    assert looked("box:9", "10.0.0.5", "[::1]:9", "::1", "https://h:8/v1") == [
        "http://box:9",
        "http://10.0.0.5:1",
        "http://10.0.0.5:2",
        "http://[::1]:9",
        "http://[::1]:1",
        "http://[::1]:2",
        "https://h:8/v1",
    ]


def test_a_range_is_its_hosts() -> None:
    """A range is looked at without its network and broadcast addresses, and no place twice."""
    assert looked("10.0.0.4/30", "10.0.0.5") == [f"http://10.0.0.{host}:{port}" for host in (5, 6) for port in (1, 2)]
    assert looked("10.0.0.5/32") == ["http://10.0.0.5:1", "http://10.0.0.5:2"]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["10.0.0.0/8"], "'10.0.0.0/8' holds 16777216 addresses, more than 256; give a smaller range"),
        (["fd00::/64"], "more than 256"),
        (["10.0.0.0/24", "10.1.0.0/24"], "these are 508 addresses, more than 256; give fewer, or --most 508"),
        (["169.254.0.0/28"], "link-local or multicast range, which is not looked at; name single addresses"),
        (["10.0.0.0/33"], "is no address range"),
        (["user:pw@box"], "holds a login"),
        (["box:99999"], "is no valid URL"),
        (["ftp://box"], "is no URL of a server"),
    ],
)
def test_what_can_not_be_looked_at_is_refused(given: list[str], part: str) -> None:
    """Too many addresses, ranges of secrets and bad places are told, and nothing is looked at."""
    with pytest.raises(InputFaults) as caught:
        targets(given)
    assert part in caught.value.faults[0]


def test_all_bad_places_are_told_together() -> None:
    """One bad place doesn't hide the next."""
    with pytest.raises(InputFaults) as caught:
        targets(["10.0.0.0/8", "box", "fe80::/10"])
    assert len(caught.value.faults) == 2


def test_a_link_local_address_that_is_named_is_looked_at() -> None:
    """What the operator writes out is the operator's will."""
    assert looked("169.254.1.1:9") == ["http://169.254.1.1:9"]
