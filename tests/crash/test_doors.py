"""Many at one door, and leaving by Ctrl-C: locks and signals of the real command."""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack, suppress
from subprocess import TimeoutExpired

import pytest

from crash.scene import POLL, RUN, Calm, Command, Ended, Instant, Scene, Story

RACERS = 20
OWNER = re.compile(rf"{RUN}: in use by process (\d+), started \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d; wait for it")
WAY_BACK = re.compile(r"go on with: tokenmill resume ")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A run whose answers never come while a story lasts."""
    return Scene(tmp_path_factory.mktemp("endless"), rows=8, slots=2, delay=600)


def test_of_many_racing_starts_one_works(endless: Scene) -> None:
    """Twenty commands on one run at once: one does the work, the others exit with 2 and name its process and start."""
    endless.wipe()
    endless.play(endless.run_words(), kill=Instant(1, 0.0))

    with ExitStack() as stack:
        racers = [stack.enter_context(endless.started(endless.resume_words())) for _ in range(RACERS)]
        winner, ends = wait_for_all_but_one(racers)
        assert winner.process.poll() is None
        owner = winner.process.pid

    assert [end.code for end in ends] == [2] * (RACERS - 1)
    named = [OWNER.search(end.err) for end in ends]
    assert [found and int(found[1]) for found in named] == [owner] * (RACERS - 1)


def test_the_lock_of_a_killed_process_is_taken_over(small: tuple[Scene, Calm]) -> None:
    """The file that names a dead owner keeps nobody out."""
    scene, calm = small
    scene.wipe()
    story = Story(scene, calm)
    story.act(scene.run_words(), kill=Instant(scene.rows, 0.0))
    assert "process" in (scene.run_folder / "lock").read_text()

    assert story.finish() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_lets_what_is_in_flight_arrive(small: tuple[Scene, Calm], number: signal.Signals) -> None:
    """Once: nothing more is sent, all that was sent arrives, exit code 4 with the line that resumes."""
    scene, calm = small
    scene.wipe()
    story = Story(scene, calm)

    ended = signalled(scene, scene.run_words(), number)
    story.check_between()

    assert ended.code == 4
    assert WAY_BACK.search(ended.err)
    words = [word for word, _ in scene.heard()]
    assert words.count("sent") == words.count("told") == len(scene.look().answers) < scene.rows
    assert story.finish() == []
    assert story.resent == 0


def test_grace_ends(endless: Scene) -> None:
    """What doesn't arrive within the grace is cancelled, and recorded so."""
    endless.wipe()

    ended = signalled(endless, [*endless.run_words(), "--grace", "0.1"], signal.SIGINT)

    assert ended.code == 4
    assert WAY_BACK.search(ended.err)
    assert endless.look().in_flight == {0, 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_second_signal_leaves_at_once(endless: Scene, number: signal.Signals) -> None:
    """Twice: the command ends without waiting for its answers, with exit code 4."""
    endless.wipe()

    with endless.started([*endless.run_words(), "--json"]) as command:
        endless.strike(command.process, Instant(2, 0.0), 0, number)
        while '"stopping":true' not in command.said() and command.process.poll() is None:
            with suppress(TimeoutExpired):
                command.process.wait(POLL)
        command.process.send_signal(number)
        ended = command.end()

    assert ended.code == 4
    assert endless.look().in_flight == {0, 1}


def signalled(scene: Scene, words: list[str], number: signal.Signals) -> Ended:
    """A command that gets a signal once as many words are heard as it has slots."""
    with scene.started(words) as command:
        scene.strike(command.process, Instant(scene.slots, 0.0), 0, number)
        return command.end()


def wait_for_all_but_one(commands: list[Command]) -> tuple[Command, list[Ended]]:
    running = list(commands)
    while len(running) > 1:
        with suppress(TimeoutExpired):
            running[0].process.wait(POLL)
        running = [command for command in running[1:] + running[:1] if command.process.poll() is None]
    assert running, "nobody took the lock"
    return running[0], [command.end() for command in commands if command is not running[0]]
