"""Real rank processes: a group whose lead plays a story of requests and writes down every token.

As a program, `python -m engine.local.ranks FILE`, this is one rank; `play` starts all of them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from requirements import deepspeed_place
from tokenmill.engine.local.wire import Load, Piece, Refused, Submit
from tokenmill.request import Request, Sampling

TESTS = Path(__file__).parents[2]
SECRET = "the ranks of a test know each other by this"
SECONDS = 240


class Asked(Struct, frozen=True, kw_only=True):
    """A request in tokens; it is cancelled after so many steps of the whole story, if at all."""

    prompt: list[int]
    sampling: Sampling
    seed: int = 0
    cancelled: int = -1


class Story(Struct, frozen=True, kw_only=True):
    """What the lead loads, answers in tokens, then answers in text; `report` is where it writes what came of it.

    `says`: it prints a line once it has answered something.
    """

    load: Load
    report: str
    asked: list[Asked] = []
    texts: list[Request] = []
    says: bool = False


class Report(Struct, frozen=True, kw_only=True):
    """Tokens of each of `asked`, the widths of all passes, then the pieces of each of `texts`."""

    tokens: list[list[int]]
    widths: list[int]
    pieces: list[list[Piece]]
    weight_bytes: int = 0
    kv_bytes: int = 0


def answer(story: Story, group: object = None) -> Report:
    """Plays the story on a session, on all ranks of `group` if there is one."""
    from tokenmill.engine.local.group import Group
    from tokenmill.engine.local.session import load_session

    assert group is None or isinstance(group, Group)
    session = load_session(story.load, group)
    core = session._core
    tokens: list[list[int]] = [[] for _ in story.asked]
    widths = []
    for key, asked in enumerate(story.asked):
        core.submit(key, asked.prompt, asked.sampling, asked.seed)
    while session.has_work:
        for key, asked in enumerate(story.asked):
            if asked.cancelled == len(widths):
                core.cancel(key)
        step = core.step()
        widths.append(step.width)
        if story.says and len(widths) == 50:
            print("it goes on", flush=True)
        for output in step.outputs:
            tokens[output.key].append(output.token)
    pieces: list[list[Piece]] = [[] for _ in story.texts]
    for key, request in enumerate(story.texts):
        refused = session.submit(Submit(key, request, seed=key))
        assert not isinstance(refused, Refused), refused
    while session.has_work:
        for piece in session.step().pieces:
            pieces[piece.key].append(piece)
    plan = core.plan
    return Report(tokens=tokens, widths=widths, pieces=pieces, weight_bytes=plan.weight_bytes, kv_bytes=plan.kv_bytes)


def place(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment of one rank of `size` on this machine."""
    return {
        "TOKENMILL_TP": str(size),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TOKENMILL_WORKER_TOKEN": SECRET,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(TESTS), str(deepspeed_place()))),
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """One process that is a rank."""
    command = [sys.executable, "-m", "engine.local.ranks", *arguments]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def play(story: Story, folder: Path, size: int) -> tuple[Report | None, list[str]]:
    """What the lead of a group of `size` reports, and what each rank wrote; no process stays."""
    path = folder / "story.json"
    path.write_bytes(msgspec.json.encode(story))
    port = free_port()
    processes = [start([str(path)], place(rank, size, port)) for rank in range(size)]
    try:
        written = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    report = Path(story.report)
    return (msgspec.json.decode(report.read_bytes(), type=Report) if report.exists() else None), written


def main() -> None:
    from tokenmill.engine.local.group import Group, follow
    from tokenmill.errors import TokenmillError

    story = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Story)
    group = Group.join(os.environ)
    assert group is not None
    if not group.leads:
        follow(group)
    try:
        report = answer(story, group)
    except TokenmillError as error:
        print(error, flush=True)
        os._exit(2)
    Path(story.report).write_bytes(msgspec.json.encode(report))
    os._exit(0)


if __name__ == "__main__":
    main()
