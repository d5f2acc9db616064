"""Who is let in, who isn't and why, and what ends a stay; with real sockets on loopback."""

from __future__ import annotations

import asyncio

import pytest

from launch.knocking import Guest, Hall, opened
from tokenmill import __version__
from tokenmill.engine.local.supervise import Worker
from tokenmill.engine.local.wire import PROTOCOL, Beat, Cancel, FromWorker, Leave, Loaded
from tokenmill.errors import UsageError
from tokenmill.launch.door import Door
from tokenmill.launch.handshake import Denied, Welcome
from tokenmill.launch.member import Member
from tokenmill.launch.seat import NobodyComes, Seats


async def hired(hall: Hall, name: str = "worker-0") -> tuple[Worker, list[FromWorker]]:
    heard: list[FromWorker] = []
    return await hall.seats.hire(name, heard.append, 1), heard


def test_who_knows_the_token_takes_a_seat() -> None:
    """Both ends prove that they know it, neither sends it, and the worker says what its machine has."""

    async def story() -> None:
        async with opened() as hall:
            guest = await Guest.come(hall)
            welcome = await guest.knock(hall)
            worker, heard = await hired(hall)
            guest.say(Loaded())
            worker.send(Cancel(5))

            assert isinstance(welcome, Welcome)
            assert guest.is_sure
            assert worker.machine is not None
            assert (worker.machine.host, worker.machine.cores) == ("elsewhere", 3)
            assert await guest.obey() == Cancel(5)
            while not heard:
                await asyncio.sleep(0)
            assert heard == [Loaded()]
            await guest.leave()
            assert "its connection ended" in await worker.ended
            assert [member.rank for member in hall.lost] == [1]

    asyncio.run(story())


REFUSED = {
    "another token": ({"token": "a wrong token"}, "doesn't know this run's token"),
    "no proof": ({"proof": b""}, "doesn't know this run's token"),
    "a short nonce": ({"nonce": b"abc"}, "doesn't know this run's token"),
    "another protocol": ({"protocol": PROTOCOL + 1}, f"(protocol {PROTOCOL + 1}) and the driver {__version__}"),
    "another version": ({"version": "0.0.1"}, "has tokenmill 0.0.1"),
    "another torch": ({"torch": "1.0"}, "has torch 1.0 and the driver"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_who_is_refused_is_told_why(case: str) -> None:
    """One line with cause and remedy goes to the worker and to the user, and the seat stays free."""
    said, words = REFUSED[case]

    async def story() -> None:
        async with opened() as hall:
            answer = await (await Guest.come(hall)).knock(hall, **said)

            assert isinstance(answer, Denied)
            assert answer.final
            assert words in answer.message
            assert "\n" not in answer.message
            assert [note for note in hall.notes if words in note]
            assert hall.seats.members == []

    asyncio.run(story())


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc"])
def test_who_speaks_another_language_is_shown_out(sent: bytes) -> None:
    """A browser, a scanner or garbage costs nothing and is told of once."""

    async def story() -> None:
        async with opened() as hall:
            guest = await Guest.come(hall)
            guest.writer.write(sent)

            assert await guest.is_shown_out()
            assert "isn't a worker of this run" in hall.notes[0]

    asyncio.run(story())


def test_one_who_tries_again_and_again_is_told_of_once() -> None:
    """A port of its own for each try makes no new reason."""

    async def story() -> None:
        async with opened() as hall:
            for _ in range(3):
                guest = await Guest.come(hall)
                guest.writer.write(b"\xff\xff\xff\xff")
                assert await guest.is_shown_out()

            assert len(hall.notes) == 1

    asyncio.run(story())


def test_a_stranger_that_says_nothing_is_shown_out() -> None:
    """A connection that proves nothing in time ends, however often it sends a byte."""

    async def story() -> None:
        async with opened(patience=1.0) as hall:
            assert await (await Guest.come(hall)).is_shown_out()

    asyncio.run(story())


def test_a_worker_that_falls_silent_is_lost() -> None:
    """A link that was cut says nothing of itself: without a beat for long enough it is over."""

    async def story() -> None:
        async with opened(silence=2.0) as hall:
            guest = await Guest.come(hall)
            await guest.knock(hall)
            worker, _ = await hired(hall)

            assert "it was silent for" in await worker.ended
            assert hall.seats.members == []
            assert len(hall.lost) == 1

    asyncio.run(story())


def test_beats_keep_a_worker_that_loads_for_long() -> None:
    """Only silence ends a stay, and the door beats as well."""

    async def story() -> None:
        async with opened(silence=2.0) as hall:
            guest = await Guest.come(hall)
            await guest.knock(hall)
            worker, _ = await hired(hall)
            for _ in range(4):
                assert await guest.obey() == Beat()
                guest.say(Beat())

            assert not worker.ended.done()

    asyncio.run(story())


def test_all_are_told_to_leave_in_the_end() -> None:
    """A worker that was told knows the run is over, and none is called lost."""

    async def story() -> None:
        async with opened() as hall:
            guest = await Guest.come(hall)
            await guest.knock(hall)
            closing = asyncio.create_task(hall.door.close())
            said = await guest.obey()
            await guest.leave()
            await closing

            assert said == Leave()
            assert hall.lost == []

    asyncio.run(story())


def test_a_late_joiner_takes_the_seat_that_waits() -> None:
    """A node waits for whoever comes; one more than there are seats may try again later."""

    async def story() -> None:
        async with opened(seats=1) as hall:
            waiting = asyncio.create_task(hired(hall))
            await asyncio.sleep(0)
            first, second = await Guest.come(hall), await Guest.come(hall)
            await first.knock(hall)
            worker, _ = await waiting
            denied = await second.knock(hall)
            assert isinstance(denied, Denied)
            assert (denied.final, denied.message) == (False, "all 1 seats are taken")

            again = asyncio.create_task(hired(hall))
            await first.leave()
            await worker.ended
            assert isinstance(await (await Guest.come(hall)).knock(hall), Welcome)
            assert await again

    asyncio.run(story())


def test_a_seat_may_be_wanted_by_name() -> None:
    """A worker that wants one seat takes no other; one that wants none takes any."""

    async def story() -> None:
        async with opened(seats=2) as hall:
            await (await Guest.come(hall)).knock(hall, member=Member(rank=8, seat="whole"))
            await (await Guest.come(hall)).knock(hall, member=Member(rank=9))
            any_seat, _ = await hired(hall, "worker-0")
            named, _ = await hired(hall, "whole")

            assert [each.member.rank for each in (any_seat, named)] == [9, 8]  # type: ignore[attr-defined]

    asyncio.run(story())


def test_nobody_waits_in_vain() -> None:
    """Once it is known that no worker will come, who waits is told, and who asks later too."""

    async def story() -> None:
        async with opened() as hall:
            waiting = asyncio.create_task(hired(hall))
            await asyncio.sleep(0)
            hall.seats.end("the launcher ended")
            with pytest.raises(NobodyComes, match="the launcher ended"):
                await waiting
            with pytest.raises(NobodyComes, match="the launcher ended"):
                await hired(hall)

    asyncio.run(story())


def test_a_port_that_is_taken_is_named() -> None:
    """One line, and another port is the way out."""

    async def story() -> None:
        async with opened() as hall:
            port = int(hall.invitation.addresses[0].rpartition(":")[2])
            other = Door(Seats(1), 10, note=print, lost=print)
            with pytest.raises(UsageError, match=f"port {port}.*choose another port"):
                await other.open(remote=False, port=port)

    asyncio.run(story())


@pytest.mark.parametrize(("remote", "place"), [(False, "127.0.0.1"), (True, "driver.example")])
def test_workers_are_told_where_the_door_is(remote: bool, place: str) -> None:
    """Those of other hosts go where the user says; those of this one go to loopback, as nothing else listens."""

    async def story() -> None:
        door = Door(Seats(1), 10, note=print, lost=print)
        invitation = await door.open(remote=remote, address="driver.example")
        await door.close()
        (address,) = invitation.addresses
        assert address.rpartition(":")[0] == place

    asyncio.run(story())


def test_the_token_is_in_no_text() -> None:
    """Neither the invitation nor what is noted shows it."""

    async def story() -> None:
        async with opened() as hall:
            await (await Guest.come(hall)).knock(hall, token="another")
            assert hall.door.token not in f"{hall.invitation!r}{hall.invitation}{hall.notes}"

    asyncio.run(story())
