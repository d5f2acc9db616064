"""How fast a server is when many requests run there at the same time.

One formula, the universal scalability law (Gunther, "A General Theory of Computational Scalability Based on Rational
Functions", 2008), covers the kinds of servers there are. Of `n` requests each runs at this part of the pace of one
alone:

    1 / (1 + serial * (n - 1) + coherence * n * (n - 1))

With both 0 and a number of slots it is a server with hard slots: full pace up to there, and a queue beyond. `serial`
makes the pace fall with load while the throughput still grows. `coherence` gives the throughput a knee, beyond which
it declines.
"""

from __future__ import annotations

from msgspec import Struct


class Curve(Struct, frozen=True, kw_only=True):
    """The true behaviour of a server, which a strategy has to find out.

    `slots`: requests that run, None for as many as the node says; further ones wait in the order in which they came.
    `crowding`: how much longer each token takes for every further server at work on the same device. `slowness`: how
    many times longer everything takes, however little runs.
    """

    slots: int | None = None
    serial: float = 0.0
    coherence: float = 0.0
    crowding: float = 0.0
    slowness: float = 1.0

    def pace(self, running: int, servers: int = 1) -> float:
        """The pace of each of `running` requests on the device, which `servers` share, as a part of that of one."""
        if running < 2:
            return 1.0 / self.slowness
        load = self.slowness * (1.0 + self.serial * (running - 1) + self.coherence * running * (running - 1))
        return 1.0 / (load * (1.0 + self.crowding * (servers - 1)))

    def best(self, most: int) -> tuple[int, float]:
        """The number of requests, up to `most`, with the greatest throughput, and how many times that of one it is."""
        most = most if self.slots is None else min(most, self.slots)
        return max(((n, n * self.pace(n)) for n in range(1, most + 1)), key=lambda found: found[1])
