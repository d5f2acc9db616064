"""A worker that dies, a caller that dies, and what is left: nothing, and no doubt about the cause."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.process.local_stories import (
    LONG,
    OPTIONS,
    answer,
    ask,
    make_engine,
    opened,
    stream,
    wait_for_end,
    worker_of,
)
from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.errors import EngineError, TokenmillError

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux about processes")


def test_a_killed_worker_fails_what_was_in_flight_and_opens_again(model_folder: Path) -> None:
    """Every request in flight hears the cause; opening again gives the same facts and the same answers."""

    async def story() -> tuple[str, list[BaseException | object], EngineFacts, EngineFacts, str]:
        async with opened(model_folder) as engine:
            facts = await engine.open()
            before = await answer(engine, ask("same"))
            running = [stream(engine, ask(f"long {number}", LONG)) for number in range(3)]
            for one in running:
                await anext(one)
            os.kill(worker_of(os.getpid()), signal.SIGKILL)
            ends = await asyncio.gather(*(drain(one) for one in running), return_exceptions=True)
            again = await engine.open()
            after = await answer(engine, ask("same"))
            return before.text, ends, facts, again, after.text

    async def drain(parts: object) -> None:
        async for _ in parts:  # type: ignore[attr-defined]
            pass

    before, ends, facts, again, after = asyncio.run(story())

    for end in ends:
        assert isinstance(end, EngineError)
        assert end.kind == "crash"
        assert "exit by signal 9 (SIGKILL)" in end.message
    assert (again, after) == (facts, before)


def test_a_poison_prompt_aborts_the_worker(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test hook ends the worker as a fault in native code would; the same engine answers others after it."""
    monkeypatch.setenv("TOKENMILL_TEST_ABORT_ON", "poison")

    async def story() -> tuple[EngineError, int]:
        async with opened(model_folder) as engine:
            with pytest.raises(EngineError) as caught:
                await answer(engine, ask("a poisonous prompt"))
            await engine.open()
            return caught.value, (await answer(engine, ask("harmless"))).end.usage.output_tokens

    error, tokens = asyncio.run(story())

    assert error.kind == "crash"
    assert "exit by signal 6 (SIGABRT)" in error.message
    assert tokens == 24


def test_a_worker_killed_while_loading_is_reported(model_folder: Path) -> None:
    """Opening ends with an error that names the signal instead of waiting for a worker that is gone."""

    async def story() -> None:
        engine = make_engine(model_folder)
        opening = asyncio.create_task(engine.open())
        while not psutil.Process().children():
            await asyncio.sleep(0)
        os.kill(worker_of(os.getpid()), signal.SIGKILL)
        await opening

    with pytest.raises(TokenmillError, match=r"node 'one': .* while loading: exit by signal 9"):
        asyncio.run(story())


def test_cancelled_while_opening_leaves_no_process(model_folder: Path) -> None:
    """Ctrl-C during a long load ends the load."""

    async def story() -> int:
        engine = make_engine(model_folder)
        opening = asyncio.create_task(engine.open())
        while not psutil.Process().children():
            await asyncio.sleep(0)
        worker = worker_of(os.getpid())
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        return worker

    assert not psutil.pid_exists(asyncio.run(story()))


def test_a_worker_that_hangs_is_killed_on_closing(model_folder: Path) -> None:
    """Closing is a promise: a worker that can't hear it is killed."""

    async def story() -> int:
        async with opened(model_folder) as engine:
            worker = worker_of(os.getpid())
            os.kill(worker, signal.SIGSTOP)
            await engine.close()
            return worker

    assert not psutil.pid_exists(asyncio.run(story()))


CALLER = """
import asyncio, sys
from engine.process.local_stories import LONG, answer, ask, make_engine, stream, worker_of
from pathlib import Path
import os, psutil

async def main(folder, moment):
    engine = make_engine(Path(folder))
    opening = asyncio.create_task(engine.open())
    while not psutil.Process().children():
        await asyncio.sleep(0)
    if moment != "loading":
        await opening
    if moment == "answering":
        await anext(stream(engine, ask("long", LONG)))
    sys.stdout.write(f"{worker_of(os.getpid())}\\n")
    sys.stdout.flush()
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@linux
@pytest.mark.parametrize("moment", ["loading", "idle", "answering"])
def test_no_worker_outlives_its_caller(model_folder: Path, moment: str) -> None:
    """A caller killed without warning takes its worker along, whatever the worker is doing."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", CALLER, str(model_folder), moment], stdout=subprocess.PIPE, env=environment
    ) as caller:
        assert caller.stdout is not None
        worker = int(caller.stdout.readline())
        caller.kill()

    assert wait_for_end(worker)


@linux
def test_signals_to_its_group_dont_end_an_answer(model_folder: Path) -> None:
    """Ctrl-C is the caller's business; the worker finishes what it was given."""

    async def story() -> int:
        async with opened(model_folder) as engine:
            worker = worker_of(os.getpid())
            assert os.getpgid(worker) == worker != os.getpgid(0)
            running = asyncio.create_task(answer(engine, ask("long", 500)))
            os.killpg(worker, signal.SIGINT)
            return (await running).end.usage.output_tokens

    assert asyncio.run(story()) == 500


@linux
def test_the_worker_gets_no_secret_and_dumps_no_core(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker doesn't have, and doesn't write down, can't leak."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary-7f3a")

    async def story() -> tuple[bytes, str, list[str]]:
        async with opened(model_folder):
            worker = Path("/proc") / str(worker_of(os.getpid()))
            try:
                environment = (worker / "environ").read_bytes()
            except PermissionError:  # it isn't dumpable, so only root may look
                environment = b"OMP_NUM_THREADS=1\0"
            limits = (worker / "limits").read_text()
            return environment, limits, psutil.Process(int(worker.name)).cmdline()

    environment, limits, arguments = asyncio.run(story())

    assert b"OMP_NUM_THREADS=1\0" in environment
    assert b"canary" not in environment
    assert arguments[1:] == ["-P", "-m", "tokenmill.engine.local.worker"]
    (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"]


def test_an_engine_that_never_opened_closes(model_folder: Path) -> None:
    """Closing what isn't open is no error."""
    asyncio.run(make_engine(model_folder).close())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions(dtype="int3"), "dtype 'int3'"),
        (EngineOptions(device="tpu"), "device 'tpu'"),
        (EngineOptions(threads=0), "threads is 0"),
        (EngineOptions(slots=0), "slots 0"),
        (EngineOptions(context=1 << 20), "context 1048576"),
    ],
)
def test_options_that_cant_be_are_refused_before_anything_starts(
    model_folder: Path, options: EngineOptions, words: str
) -> None:
    """A wrong option is named with its value."""
    with pytest.raises(TokenmillError, match=words):
        make_engine(model_folder, options).survey()


def test_the_same_node_twice_has_the_same_facts(model_folder: Path) -> None:
    """Two engines on one folder with one set of options are interchangeable."""
    first, second = make_engine(model_folder), make_engine(model_folder)

    assert first.survey() == second.survey()
    assert Node(name="one", engine="local", target=str(model_folder)).target == str(model_folder)
    assert OPTIONS.slots == first.survey().slots
