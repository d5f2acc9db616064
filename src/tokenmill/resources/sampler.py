"""The thread that looks at this machine while a session goes on.

It writes down what it has whenever the session is a tenth longer, and every MOST_UNWRITTEN seconds at least, so that
a session that is killed loses no more. What is written is the whole each time: it takes the place of the one before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tokenmill.clock import Clock
from tokenmill.footprint import Footprint
from tokenmill.resources.gpu import Gpus, open_gpus
from tokenmill.resources.host import Fresh, Host

#: Seconds between two samples.
INTERVAL = 1.0
#: Seconds after which what was sampled is written down at the latest.
MOST_UNWRITTEN = 10.0
#: Seconds that the last look may take; a driver of a GPU that hangs must not keep a run from its end.
PATIENCE = 5.0


class Sampler:
    """Samples from `start` to `finish`; `write` is called in its thread.

    `elsewhere` names the nodes that aren't on this machine, of which nothing can be seen from here.
    """

    def __init__(
        self,
        clock: Clock,
        fresh: Fresh,
        *,
        elsewhere: tuple[str, ...] = (),
        interval: float = INTERVAL,
        gpus: Callable[[], Gpus] = open_gpus,
    ) -> None:
        self._clock = clock
        self._fresh = fresh
        self._elsewhere = elsewhere
        self._interval = interval
        self._open_gpus = gpus
        self._over = threading.Event()
        self._write: Callable[[Footprint], object]
        self._thread: threading.Thread | None = None

    def start(self, write: Callable[[Footprint], object]) -> None:
        self._write = write
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Takes the last look and writes the whole down; call it when the processes of the engines have ended."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        started = time.thread_time()
        begun = self._clock.now()
        gpus = self._open_gpus()
        host = Host(begun, self._fresh, gpus)
        host.begin(self._clock.now())
        written = begun
        is_over = False
        while not is_over:
            is_over = self._over.wait(self._interval)
            now = self._clock.now()
            host.sample(now)
            if is_over or now - written >= min(MOST_UNWRITTEN, (now - begun) / 10):
                written = now
                self._write(
                    host.footprint(
                        interval=self._interval,
                        spent=time.thread_time() - started,
                        is_whole=is_over,
                        elsewhere=self._elsewhere,
                    )
                )
        gpus.close()
