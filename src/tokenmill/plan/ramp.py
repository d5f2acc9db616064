"""How many requests a server answers at the same time, found by sending more and more at once.

A server with S slots lets the request after the S-th wait until an answer ends, so its first token comes only then.
The slots are therefore the most answers that were being written at one moment: the largest overlap of the times from
first to last token. The ramp doubles what it sends until some request had to wait, or until `most`.

Tokens may also arrive in lumps, held back on their way, and then answers that ran together seem not to have. So
requests only count as having waited if the burst took longer too: one that waits makes it two answers long.
"""

from __future__ import annotations

from msgspec import Struct

#: Tokens of each answer; fewer end before their neighbours have begun, and so hide that they overlap.
TOKENS = 16
#: Requests of the widest burst unless the user says otherwise.
MOST = 16
#: Tokens and seconds of writing below which answers say nothing: their ends mix with how fast a client reads them.
FEWEST, BRIEFEST = 2, 0.01
#: Share of each answer at its end that is left out: a last piece of text may come late, when the slot is another's.
TAIL = 0.25
#: A burst in which a request waited takes at least as many times as long as a request alone.
LONGER = 1.5


class Shot(Struct, frozen=True):
    """One request of a burst: seconds from the burst's start to its first and last token, and tokens written."""

    first: float
    last: float
    tokens: int


class Burst(Struct, frozen=True):
    """Requests sent at once; `refused` of them the server turned away as too many."""

    shots: tuple[Shot, ...]
    refused: int = 0

    @property
    def width(self) -> int:
        return len(self.shots) + self.refused

    @property
    def overlap(self) -> int:
        """The most answers that were being written at one moment."""
        ends = [(shot.last - TAIL * (shot.last - shot.first), -1) for shot in self.shots]
        changes = sorted([(shot.first, 1) for shot in self.shots] + ends)
        running = most = 0
        for _, change in changes:  # at one moment an end counts before a beginning
            running += change
            most = max(most, running)
        return most

    @property
    def is_telling(self) -> bool:
        """Whether most answers were long enough to overlap."""
        telling = [shot for shot in self.shots if shot.tokens >= FEWEST and shot.last - shot.first >= BRIEFEST]
        return 2 * len(telling) > len(self.shots)

    @property
    def end(self) -> float:
        """Seconds until the last answer was whole."""
        return max((shot.last for shot in self.shots), default=0.0)

    @property
    def pace(self) -> float | None:
        """Output tokens per second of the whole burst; None if no time passed."""
        return sum(shot.tokens for shot in self.shots) / self.end if self.end > 0 else None


class Ramp:
    """Says how many requests to send next, and from what came of them how many slots there are."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.bursts: list[Burst] = []
        self.width: int | None = 1

    def add(self, burst: Burst) -> None:
        """What came of the `width` requests. A request that waited ends the ramp, if the same burst shows it again:
        once may be chance, as when the machine was busy with something else."""
        before = self.bursts[-1] if self.bursts else None
        self.bursts.append(burst)
        if not burst.is_telling or burst.refused:
            self.width = None
        elif burst.overlap < burst.width:
            again = before is not None and before.width == burst.width
            self.width = None if again else burst.width
        else:
            self.width = min(2 * burst.width, self.most) if burst.width < self.most else None

    @property
    def slots(self) -> int | None:
        """Slots that were seen; None if the answers were too short to tell.

        Of two bursts that both show less than they sent, the smaller counts: disturbances on the way to us make ends
        late, and answers seem to overlap that didn't.
        """
        seen: dict[int, list[int]] = {}
        for burst in self.bursts:
            if burst.is_telling:
                seen.setdefault(burst.width, []).append(burst.overlap)
        return max((width if width in found else min(found) for width, found in seen.items()), default=None)

    @property
    def is_full(self) -> bool:
        """Whether a request had to wait or was refused, so that `slots` are all there are; else there may be more."""
        if self.slots is None:
            return False
        alone = min(burst.end for burst in self.bursts if burst.width == 1)
        wider = [burst for burst in self.bursts if burst.width > self.slots]
        return any(burst.refused or burst.end >= LONGER * alone for burst in wider)

    @property
    def pace(self) -> float | None:
        """Output tokens per second of the best burst."""
        return max((pace for burst in self.bursts if (pace := burst.pace) is not None), default=None)

    @property
    def first_token(self) -> float | None:
        """Seconds to the first token of a request alone."""
        alone = self.bursts[0].shots if self.bursts else ()
        return min((shot.first for shot in alone), default=None)


def words(ramp: Ramp) -> str:
    """The slots as told to people: `4`, `16+` if there may be more, n/a with the reason."""
    if ramp.slots is None:
        return "n/a: answers too short to overlap" if any(burst.shots for burst in ramp.bursts) else "n/a: no answer"
    return f"{ramp.slots}" if ramp.is_full else f"{ramp.slots}+"
