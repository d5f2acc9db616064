"""A rank process before it has loaded anything: how it finds its driver, whom it obeys, and what ends it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch.knocking import Hall, opened
from tokenmill.launch.hand import free_port
from tokenmill.launch.invitation import FILE_VARIABLE, PATIENCE_VARIABLE, Invitation

SECONDS = 60


@contextmanager
def started(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A rank as a launcher starts it."""
    rank = subprocess.Popen(
        [sys.executable, "-P", "-m", "tokenmill.launch.rank"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield rank
    finally:
        rank.kill()
        rank.communicate()


def last_words(environment: dict[str, str]) -> tuple[int, str]:
    with started(environment) as rank:
        _, said = rank.communicate(timeout=SECONDS)
        return rank.returncode, said


async def come(hall: Hall) -> int:
    """The process number of the first worker that comes through the door."""
    worker = await asyncio.wait_for(hall.seats.hire("worker-0", lambda _: None, 1), SECONDS)
    return int(worker.member.pid)  # type: ignore[attr-defined]


def test_started_by_hand_it_says_what_is_missing() -> None:
    """One line, no traceback."""
    status, said = last_words({})

    assert status == 1
    assert said.startswith("nothing says which run to join; set TOKENMILL_JOIN_FILE")
    assert said.count("\n") == 1


def test_without_a_driver_it_gives_up() -> None:
    """It looks for as long as it was told to, and names the last cause."""
    nowhere = Invitation(addresses=(f"127.0.0.1:{free_port()}",), token="x")

    status, said = last_words(nowhere.environment() | {PATIENCE_VARIABLE: "1"})

    assert status == 1
    assert "no driver let this worker in within 1 s" in said
    assert "refused" in said


def test_it_doesnt_trust_who_merely_listens() -> None:
    """What can't prove that it knows the token is not obeyed, and never sees it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        invitation = Invitation(addresses=(address,), token="a long and secret token")
        with started(invitation.environment() | {PATIENCE_VARIABLE: "1"}) as rank:
            connection, _ = listener.accept()
            with connection:
                question = b"\x83\xa4type\xa5asked\xa5nonce\xc4\x20" + bytes(32) + b"\xa8protocol\x01"
                connection.sendall(len(question).to_bytes(4, "big") + question)
                heard = connection.recv(65536)
                welcome = b"\x83\xa4type\xa7welcome\xa5proof\xc4\x20" + bytes(32) + b"\xa7silence\xcb@$\0\0\0\0\0\0"
                connection.sendall(len(welcome).to_bytes(4, "big") + welcome)
                _, said = rank.communicate(timeout=SECONDS)

    assert b"a long and secret token" not in heard
    assert rank.returncode == 1
    assert "no driver let this worker in" in said


def test_a_wrong_token_is_told_on_both_sides() -> None:
    """The rank ends at once and says why; the driver's user is told as well."""

    async def story() -> tuple[int, str, list[str]]:
        async with opened() as hall:
            wrong = Invitation(addresses=hall.invitation.addresses, token="a wrong one")
            status, said = await asyncio.to_thread(last_words, wrong.environment())
            return status, said, hall.notes

    status, said, notes = asyncio.run(story())

    assert status == 1
    assert said.startswith("the driver refused this worker")
    assert "doesn't know this run's token" in said
    assert "doesn't know this run's token" in notes[0]


def test_told_to_leave_it_leaves_well() -> None:
    """The end of a run is no fault: launchers that watch exit codes see none."""

    async def story() -> int:
        async with opened() as hall:
            with started(hall.invitation.environment()) as rank:
                assert await come(hall) == rank.pid
                await hall.door.close()
                return await asyncio.to_thread(rank.wait, SECONDS)

    assert asyncio.run(story()) == 0


def test_a_driver_that_vanished_ends_it() -> None:
    """Without a join file there is nobody else to look for."""

    async def story() -> tuple[int, str]:
        async with opened() as hall:
            with started(hall.invitation.environment()) as rank:
                await come(hall)
                cut(hall)
                _, said = await asyncio.to_thread(rank.communicate, None, SECONDS)
                return rank.returncode, said

    assert asyncio.run(story()) == (1, "the driver is gone\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a process of many threads starts over as Linux does it")
def test_with_a_join_file_it_finds_the_next_driver(tmp_path: Path) -> None:
    """The same process starts over, reads the file anew, and joins the driver that was started elsewhere."""
    file = tmp_path / "join"

    async def story() -> tuple[int, int, int]:
        with started({FILE_VARIABLE: str(file)}) as rank:  # before there is a driver at all
            async with opened() as first:
                first.invitation.write(file)
                before = await come(first)
                cut(first)
            async with opened() as second:
                second.invitation.write(file)
                after = await come(second)
                await second.door.close()
                return before, after, await asyncio.to_thread(rank.wait, SECONDS)

    before, after, status = asyncio.run(story())

    assert before == after
    assert status == 0


def test_nothing_heavy_is_imported_before_the_greeting() -> None:
    """A rank that is refused never loads torch."""
    code = "import sys, tokenmill.launch.rank; print({'torch', 'numpy', 'asyncio'} & set(sys.modules))"

    assert subprocess.check_output([sys.executable, "-c", code]) == b"set()\n"


def cut(hall: Hall) -> None:
    """Ends all connections as a driver's death does: without a word."""
    for worker in hall.seats.present:
        worker._transport.abort()  # type: ignore[attr-defined]
