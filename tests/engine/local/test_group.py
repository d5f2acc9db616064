"""A group lives and dies as one, lets no stranger in, and says what it lacks."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from engine.local.ranks import SECONDS, SECRET, Asked, Story, free_port, place, start
from engine.local.test_tensor_parallel import make_load, save
from namespaces import Land, land
from requirements import require
from tokenmill.engine.local.agreement import agree
from tokenmill.engine.local.control import Peer, Stranger, introduce, welcome
from tokenmill.engine.local.group import Group, Place, read_place
from tokenmill.errors import UsageError
from tokenmill.request import Sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("qwen3", tmp_path_factory.mktemp("model"))


HOST_OF_ITS_OWN = {"MASTER_ADDR": Land.address("a"), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def endless(folder: Path, where: Path) -> Path:
    """A story that takes longer than any test; its lead says when it has begun."""
    load = make_load(folder, tp=2)
    asked = [Asked(prompt=[1, 2, number % 300], sampling=Sampling(max_tokens=150)) for number in range(20_000)]
    path = where / "story.json"
    path.write_bytes(msgspec.json.encode(Story(load=load, report=str(where / "report.json"), asked=asked, says=True)))
    return path


@pytest.mark.parametrize(("killed", "left"), [(0, 1), (1, 0)])
def test_a_rank_that_is_killed_ends_the_other(killed: int, left: int, folder: Path, tmp_path: Path) -> None:
    """In the midst of a step: the other one says who is gone, and no process stays."""
    path, port = endless(folder, tmp_path), free_port()
    processes = [start([str(path)], place(rank, 2, port)) for rank in range(2)]
    try:
        assert processes[0].stdout is not None
        assert processes[0].stdout.readline() == "it goes on\n"
        processes[killed].send_signal(signal.SIGKILL)
        written, _ = processes[left].communicate(timeout=SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.communicate()

    assert processes[left].returncode == 1
    assert "gone" in written or "failed" in written
    assert "tensor parallel group" in written


@pytest.mark.slow
def test_a_group_on_two_hosts_ends_when_the_wire_between_them_is_cut(folder: Path, tmp_path: Path) -> None:
    """Ranks of two hosts, whose names mean nothing, compute together; without a word from the other both leave."""
    require("netns")
    path = endless(folder, tmp_path)
    with land() as hosts:
        said = [place(rank, 2, free_port()) | HOST_OF_ITS_OWN | {"MASTER_PORT": "29500"} for rank in range(2)]
        ranks = [
            hosts.start(host, "-m", "engine.local.ranks", str(path), **environment)
            for host, environment in zip("ab", said, strict=True)
        ]
        assert ranks[0].stdout is not None
        assert ranks[0].stdout.readline() == b"it goes on\n"
        hosts.cut("b")

        assert [rank.wait(SECONDS) for rank in ranks] == [1, 1]


def test_a_fault_of_one_rank_is_told_by_the_lead(folder: Path, tmp_path: Path) -> None:
    """A follower that can't load what its lead can is named with its reason, and ends with its lead."""
    load = msgspec.structs.replace(make_load(folder, tp=2), digest="of another model")
    path, port = tmp_path / "story.json", free_port()
    path.write_bytes(msgspec.json.encode(Story(load=load, report="")))
    follower = start([str(path)], place(1, 2, port))
    try:
        group = Group.join(place(0, 2, port), leave=lambda cause: sys.exit(cause))
        assert group is not None
        group.tell(msgspec.msgpack.encode(load))
        with pytest.raises(UsageError, match=r"rank 1 of the tensor parallel group: .* has changed since"):
            agree(group, lambda: None)
        group.end()
        written, _ = follower.communicate(timeout=SECONDS)
    finally:
        follower.kill()
        follower.communicate()

    assert follower.returncode == 1
    assert "rank 0 of the tensor parallel group is gone" in written


def joined(secret: bytes) -> tuple[str, str]:
    """What the two ends of one handshake make of it, the lead knowing the right secret."""
    outcome: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def lead() -> None:
            try:
                found, name = welcome(listener, SECRET.encode(), 2, time.monotonic() + 1.0)
                found[1].close()
                outcome.append(name)
            except TimeoutError as error:
                outcome.append(f"missing {error}")

        thread = threading.Thread(target=lead)
        thread.start()
        with socket.create_connection(listener.getsockname()) as ours:
            try:
                theirs = introduce(ours, secret, 1)
            except Stranger as error:
                theirs = str(error)
        thread.join()
    return outcome[0], theirs


def test_both_ends_know_the_secret() -> None:
    """With the same secret both ends have the same name for their group."""
    lead, follower = joined(SECRET.encode())

    assert lead == follower
    assert len(lead) == 16


def test_a_stranger_is_no_rank() -> None:
    """Without the secret neither end believes the other, and the lead says which rank is missing."""
    lead, follower = joined(b"another secret")

    assert lead == "missing 1"
    assert "doesn't know the secret" in follower


def test_messages_keep_their_order_and_an_end_is_noticed() -> None:
    """What one end tells the other hears in order; when one closes, the other leaves with its name."""
    ours, theirs = socket.create_connection, socket.create_server(("127.0.0.1", 0))
    connection = ours(theirs.getsockname())
    accepted, _ = theirs.accept()
    gone: list[str] = []
    told = threading.Event()

    def leave(cause: str) -> None:
        gone.append(cause)
        told.set()

    one = Peer(connection, "rank 0", leave)  # type: ignore[arg-type]  # it comes back, so that the test goes on
    two = Peer(accepted, "rank 1", leave)  # type: ignore[arg-type]
    for number in range(100):
        one.tell(bytes([number]) * number * 1000)

    assert [two.hear() for _ in range(100)] == [bytes([number]) * number * 1000 for number in range(100)]
    assert one.own_address == "127.0.0.1"

    connection.shutdown(socket.SHUT_RDWR)
    assert told.wait(SECONDS)
    accepted.close()
    theirs.close()
    assert "of the tensor parallel group is gone (it closed its connection)" in gone[0]


WORLD = {"TOKENMILL_TP": "2", "WORLD_SIZE": "8", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


def test_a_world_holds_several_groups() -> None:
    """Rank r is rank r % tp of group r // tp; the world's first opens the store unless torchrun's agent has."""
    places = [read_place(WORLD | {"RANK": str(rank)}) for rank in range(8)]
    assert all(places)

    assert [(each.index, each.rank, each.leads) for each in places if each] == [
        (rank // 2, rank % 2, rank % 2 == 0) for rank in range(8)
    ]
    assert [each.hosts_store for each in places if each] == [True, *[False] * 7]
    agent = read_place(WORLD | {"RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert agent is not None
    assert not agent.hosts_store
    assert read_place({"RANK": "0"}) is None


@pytest.mark.parametrize(
    ("visible", "devices"), [("", [0, 1, 2, 3]), ("0,1,2,3", [0, 1, 2, 3]), ("3", [0, 0, 0, 0]), ("2,3", [0, 1, 0, 1])]
)
def test_a_rank_takes_a_gpu_that_it_sees(visible: str, devices: list[int]) -> None:
    """Where each rank is shown GPUs of its own, they are numbered from 0 for each."""
    world = WORLD | {"CUDA_VISIBLE_DEVICES": visible, "WORLD_SIZE": "4"}
    places = [read_place(world | {"RANK": str(rank)}) for rank in range(4)]

    assert [each.device for each in places if each] == devices


def test_a_group_on_one_host_needs_no_name_of_it() -> None:
    """Whether all ranks of a group are on this host follows from the local ranks."""

    def one_host(rank: int, local: int, here: int) -> bool:
        found = read_place(
            WORLD | {"RANK": str(rank), "LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": str(here), "TOKENMILL_TP": "4"}
        )
        assert isinstance(found, Place)
        return found.one_host

    assert one_host(rank=5, local=5, here=8)
    assert one_host(rank=5, local=1, here=4)
    assert not one_host(rank=5, local=1, here=2)
    assert not one_host(rank=5, local=2, here=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"WORLD_SIZE": "7"}, "7 ranks can't be divided into groups of 2"),
        ({"RANK": "8"}, "RANK 8 isn't below WORLD_SIZE 8"),
        ({"RANK": "one"}, "RANK is 'one'; it must be a whole number of at least 0"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR isn't set"),
        ({"TOKENMILL_TP": "0"}, "TOKENMILL_TP is '0'; it must be a whole number of at least 1"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(changes: dict[str, str], said: str) -> None:
    """The message names the variable, its value and what it must be."""
    with pytest.raises(UsageError, match=said):
        read_place(WORLD | {"RANK": "3"} | changes)
