"""What an actor starts, without the Ray around it: a rank that comes through the door as it was told."""

from __future__ import annotations

import asyncio

import pytest

import tokenmill
from launch.knocking import opened
from tokenmill.launch.ray.holder import Holder
from tokenmill.launch.surroundings import BESIDE_VARIABLE, CPUS_VARIABLE

SECONDS = 60


def test_a_rank_has_the_cores_that_were_reserved_for_it() -> None:
    """However few ranks share the node: the others of its cores are for whoever else Ray gives them to."""

    async def story() -> int:
        async with opened(seats=1) as hall:
            told = hall.invitation.environment() | {CPUS_VARIABLE: "1", BESIDE_VARIABLE: "1"}
            held = asyncio.create_task(asyncio.to_thread(Holder().hold, told, 0, 0, 1))
            await asyncio.wait_for(hall.seats.hire("worker-0", lambda _: None, 1), SECONDS)
            (member,) = hall.seats.members
        assert await asyncio.wait_for(held, SECONDS) == "exit status 0"
        return member.cores

    assert asyncio.run(story()) == 1


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("local_ray")
def test_an_actor_names_its_node() -> None:
    """As Ray lists it, so that its ranks are told what that node has."""
    import ray

    actor = ray.remote(Holder).remote()
    version, _, node = ray.get(actor.facts.remote())

    assert version == tokenmill.__version__
    assert node in [each["NodeID"] for each in ray.nodes() if each["Alive"]]
