"""A validator that takes virtual time: as long as the test says, for each item."""

from __future__ import annotations

from driver.virtual_time import VirtualLoop
from tokenmill.validate import Item


class Toll:
    """What an item costs, and the loop on which it is paid."""

    loop: VirtualLoop | None = None
    seconds = 0.0
    judged = 0


def good_from(item: Item) -> bool:
    """Passes a text from the round that it names itself, after the toll is paid."""
    Toll.judged += 1
    if Toll.loop is not None and Toll.seconds:
        Toll.loop.pause(Toll.seconds)
    turn, _, needed = item.text.partition(" of ")
    return int(turn) >= int(needed)
