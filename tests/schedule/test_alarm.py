from __future__ import annotations

from tokenmill.event import WakeAt
from tokenmill.schedule.alarm import Alarm


def test_an_earlier_wait_is_asked_for_too() -> None:
    """A wake-up is asked for unless one as early is still to come."""
    alarm = Alarm()

    assert [alarm.set(due) for due in (9.0, 12.0, 4.0, 9.0)] == [[WakeAt(9.0)], [], [WakeAt(4.0)], []]


def test_a_wake_up_for_somebody_else_asks_for_nothing() -> None:
    """Only the moment that was asked for ends a request, and a later one that was asked for is still to come."""
    alarm = Alarm()
    alarm.set(9.0)
    alarm.set(4.0)

    alarm.rang(3.0)
    assert alarm.set(4.0) == []
    alarm.rang(4.0)
    assert alarm.set(9.0) == []
    alarm.rang(9.0)
    assert alarm.set(9.5) == [WakeAt(9.5)]


def test_a_timer_may_ring_a_little_early() -> None:
    """A wake-up that comes less than a millisecond too soon ends the request, so that it can be asked for again."""
    alarm = Alarm()
    alarm.set(5.0)
    alarm.rang(4.9995)

    assert alarm.set(5.0) == [WakeAt(5.0)]
