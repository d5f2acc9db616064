"""Violence against engine `local`: kills of its worker process, and of the driver that should take its worker along."""

from __future__ import annotations

import os
import random
import select
import signal
from pathlib import Path

import psutil

from crash.scene import Calm, Command, Instant, Scene, Story

ROWS = 32
SLOTS = 8
WORDS = ("--max-tokens", "12", "--odd", "empty=flag", "--threads", "1", "--slots", str(SLOTS))
#: Milliseconds that a worker has to notice that its driver is gone.
PATIENCE = 60_000


def local_scene(folder: Path, environment: dict[str, str] | None = None) -> Scene:
    """32 rows on the bundled model, which may queue as many rows as it has slots."""
    return Scene(
        folder,
        rows=ROWS,
        slots=SLOTS,
        look_ahead=SLOTS,
        node="witness:local:demo",
        more=WORDS,
        environment=environment,
    )


def workers_killed(scene: Scene, calm: Calm, chance: random.Random, kills: int) -> Story:
    """A run whose worker is killed again and again must end by itself."""
    scene.wipe()
    story = Story(scene, calm)
    with scene.started(scene.run_words()) as command:
        for _ in range(kills):
            scene.strike(command.process, Instant(chance.randrange(1, ROWS // 2), 0.0), len(scene.heard()), 0)
            for worker in workers_of(command):
                os.kill(worker, signal.SIGKILL)
        ended = command.end()
    if ended.code != 0:
        story.faults.append(f"exit: code {ended.code} after kills of the worker: {ended.err.strip()[-300:]}")
    story.check_between()
    story.finish()
    return story


def driver_killed(scene: Scene, calm: Calm, chance: random.Random) -> Story:
    """A driver that is killed leaves no worker behind, and the run goes on."""
    scene.wipe()
    story = Story(scene, calm)
    with scene.started(scene.run_words()) as command:
        scene.strike(
            command.process, Instant(chance.randrange(1, 2 * ROWS), chance.uniform(0, 0.01)), 0, signal.SIGSTOP
        )
        watched = [os.pidfd_open(worker) for worker in workers_of(command)]
        command.process.kill()
        command.end()
    for worker in watched:
        poll = select.poll()
        poll.register(worker, select.POLLIN)
        if not poll.poll(PATIENCE):
            story.faults.append("orphan: a worker outlived its driver")
        os.close(worker)
    story.check_between()
    story.finish()
    return story


def workers_of(command: Command) -> list[int]:
    """The worker processes there are; none while one is started again, or when the run has ended."""
    try:
        return [worker.pid for worker in psutil.Process(command.process.pid).children()]
    except psutil.NoSuchProcess:
        return []
