"""The actors of a run: placed where Ray finds room, looked after, and placed anew when they are lost.

An actor that finds no room waits inside Ray until a node joins that has some: so late nodes get a worker too. None is
ever restarted by Ray itself, as its rank would have to be known to be gone first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from tokenmill.launch.ray.holder import Holder
from tokenmill.launch.ray.share import share, told, wanted
from tokenmill.launch.ray.wire import Hold, Over, Report, Told

#: Seconds before a worker that ended is placed anew; doubled each time it ends soon.
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
#: A worker that lived so many seconds was well.
WELL = 30.0
#: Seconds that killed actors have to be gone.
CLOSING = 5.0
#: Times in a row that a worker may end soon before it is given up.
HOPELESS = 5


class Post:
    """One worker's place among the others, and the actor that holds it now."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.generation = -1
        self.actor: Any = None
        self.facts: Any = None
        self.ended: Any = None
        self.since = 0.0
        self.due = 0.0
        self.failures = 0
        self.last = ""

    @property
    def is_hopeless(self) -> bool:
        return self.failures >= HOPELESS


class Actors:
    """All workers of a run on a Ray that this process is connected to; `tell` hears what users should know."""

    def __init__(self, hold: Hold, tell: Callable[[Report], None]) -> None:
        self._hold = hold
        self._tell = tell
        self._told: set[str] = set()
        self._posts = [Post(index) for index in range(hold.seats)]
        self._over = False
        self._nodes = _resources()
        self._share = share(hold, list(self._nodes.values()))

    def unfit(self) -> str:
        """Why no node that is there now could ever hold a worker; empty if one can."""
        needs, nodes = wanted(self._hold, self._share), list(self._nodes.values())
        if any(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in nodes):
            return ""
        asked = ", ".join(f"{amount:g} {name}" for name, amount in needs.items())
        most = ", ".join(f"{max((node.get(name, 0.0) for node in nodes), default=0.0):g} {name}" for name in needs)
        return (
            f"a worker needs {asked} on one node, and no node of the Ray cluster has them (at most {most}); ask for "
            "less, or add such a node"
        )

    def describe(self) -> str:
        """Where the workers go, in a line."""
        each = [f"{self._share.cpus * self._hold.tp:g} CPU"]
        if self._share.gpus:
            each.append(f"{self._share.gpus * self._hold.tp:g} GPU")
        place = self._hold.address or "started on this machine"
        return f"Ray ({place}) has {len(self._nodes)} node(s); each worker gets {' and '.join(each)}"

    def look(self, seconds: float) -> None:
        """Waits so long for something to happen, and does what follows from it."""
        now = time.monotonic()
        for post in self._posts:
            if post.actor is None and not post.is_hopeless and now >= post.due:
                self._place(post)
        awaited = {ref: post for post in self._posts for ref in (post.facts, post.ended) if ref is not None}
        if not awaited:
            time.sleep(seconds)
            return
        ready, _ = ray.wait(list(awaited), num_returns=1, timeout=seconds)
        for ref in ready:
            self._hear(awaited[ref], ref)
        self._end_if_hopeless()

    def dismiss(self, index: int, generation: int) -> None:
        """Ends this worker, whose silence says that it is lost."""
        if 0 <= index < len(self._posts) and (post := self._posts[index]).generation == generation and post.actor:
            self._lose(post, "it was silent")

    def close(self) -> None:
        """Ends all actors, and so their ranks; waits a little until Ray says so."""
        held = [post.ended for post in self._posts if post.ended is not None]
        for post in self._posts:
            self._kill(post)
        if held:
            ray.wait(held, num_returns=len(held), timeout=CLOSING)

    def _place(self, post: Post) -> None:
        """Asks Ray for a place; it may be given much later, when a node joins."""
        hold = self._hold
        post.generation += 1
        post.since = 0.0
        resources = dict([hold.resource]) if hold.resource is not None else {}
        kind = ray.remote(Holder).options(
            num_cpus=self._share.cpus * hold.tp,
            num_gpus=self._share.gpus * hold.tp,
            resources=resources,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            max_task_retries=0,
        )
        post.actor = kind.remote()
        post.facts = post.actor.facts.remote()

    def _hear(self, post: Post, ref: Any) -> None:
        """The answer to one question, or that there will be none."""
        try:
            said = ray.get(ref)
        except RayError as error:
            self._lose(post, reason_of(error))
            return
        if ref is not post.facts:
            self._lose(post, str(said))
            return
        post.facts = None
        version, host, *where = said  # another version may say less
        if version != self._hold.version:
            unlike = (
                f"host {host} of the Ray cluster has tokenmill {version} and the driver {self._hold.version}; install "
                "the same version of tokenmill on both"
            )
            self._once(unlike)
            self._lose(post, unlike)
            return
        post.since = time.monotonic()
        environment = self._hold.environment | told(self._hold, self._share, self._node(where[0]))
        post.ended = post.actor.hold.remote(environment, post.index, post.generation, self._hold.tp)

    def _node(self, name: str) -> Mapping[str, float]:
        """What the node of that name has; it may have joined since."""
        if name not in self._nodes:
            self._nodes = _resources()
        return self._nodes.get(name, {})

    def _lose(self, post: Post, reason: str) -> None:
        """The worker is gone, or must go; another takes its place after a while."""
        now = time.monotonic()
        lived = post.since and now - post.since > WELL
        self._kill(post)
        post.failures = 1 if lived else post.failures + 1
        post.last = reason
        post.due = now + min(FIRST_DELAY * 2 ** (post.failures - 1), LONGEST_DELAY)
        if post.is_hopeless:
            self._once(f"worker {post.index} is given up after {post.failures} tries: {reason}")

    def _kill(self, post: Post) -> None:
        actor, post.actor, post.facts, post.ended = post.actor, None, None, None
        if actor is not None:
            try:
                ray.kill(actor, no_restart=True)
            except (RayError, ValueError):  # gone with its node
                return

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(Told(text))

    def _end_if_hopeless(self) -> None:
        if not self._over and all(post.is_hopeless for post in self._posts):
            self._over = True
            self._tell(Over(f"no worker stays alive on the Ray cluster: {self._posts[0].last}"))


def _resources() -> dict[str, Mapping[str, float]]:
    """What each node has that is there now, by the name that Ray gave it."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def reason_of(error: BaseException) -> str:
    """The line of Ray's words that says most: the last one that isn't empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:500]
