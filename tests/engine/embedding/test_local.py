"""Vectors of a local model: a real worker process beside transformers, and what a caller may do to it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.embedding.encoders import MINILM, make_texts, reference, write_encoder
from tokenmill.cluster import Node
from tokenmill.engine.embedding import Embedder, EmbedderOptions, make_embedder
from tokenmill.engine.local.embedding.engine import LocalEmbedder
from tokenmill.engine.local.supervise import Worker, WorkerProcess, hire_child
from tokenmill.engine.local.wire import FromWorker, Loaded
from tokenmill.errors import EngineError, TokenmillError

OPTIONS = EmbedderOptions(threads=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("small"))


def embedder_of(folder: Path, options: EmbedderOptions = OPTIONS) -> Embedder:
    return make_embedder(Node(name="one", engine="local", target=str(folder)), options)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Embedder]:
    embedder = embedder_of(folder)
    try:
        await embedder.open()
        yield embedder
    finally:
        await embedder.close()


def vectors_of(folder: Path, texts: list[str]) -> np.ndarray:
    async def story() -> np.ndarray:
        async with opened(folder) as embedder:
            return await embedder.embed(texts)

    return asyncio.run(story())


def worker() -> int:
    (found,) = psutil.Process().children()
    return found.pid


def test_vectors_of_the_minilm_shape_are_those_of_transformers(tmp_path: Path) -> None:
    """Six layers of 384: mixed lengths, empty and cut texts, in batches, are within 1e-5 of each text alone."""
    folder = write_encoder(tmp_path, MINILM, longest=128)
    texts = ["", "left", *make_texts(60, 40), *make_texts(3, 400, seed=6), "turn left " * 500]

    found = vectors_of(folder, texts)

    assert (found.shape, found.dtype) == ((66, 384), np.float32)
    np.testing.assert_allclose(found, reference(folder, texts, longest=128), rtol=0, atol=1e-5)


@pytest.mark.parametrize("version", [2, 6])
@pytest.mark.parametrize(("pooling", "normalize"), [("mean", False), ("cls", True), ("cls", False)])
def test_each_recipe_is_kept(tmp_path: Path, pooling: str, normalize: bool, version: int) -> None:
    """Mean or first word, with and without a norm of one, as old and new files write it."""
    folder = write_encoder(tmp_path, pooling=pooling, normalize=normalize, version=version)
    texts = make_texts(20, 60)

    found = vectors_of(folder, texts)

    expected = reference(folder, texts, longest=48, pooling=pooling, normalize=normalize)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_texts_are_written_small_where_the_folder_says_so(tmp_path: Path) -> None:
    """`do_lower_case` comes before a tokenizer that keeps capitals."""
    folder = write_encoder(tmp_path, lower=True)
    path = folder / "tokenizer.json"
    path.write_text(
        path.read_text()
        .replace('"lowercase":true', '"lowercase":false')
        .replace('"lowercase": true', '"lowercase": false')
    )

    big, small = vectors_of(folder, ["TURN LEFT", "turn left"])

    np.testing.assert_array_equal(big, small)


def test_a_survey_loads_nothing_and_opening_confirms_it(small: Path) -> None:
    """Model, digest, dimensions and longest text are known from the files alone."""

    async def story() -> None:
        embedder = embedder_of(small)
        before = embedder.survey()
        assert psutil.Process().children() == []
        try:
            assert await embedder.open() == before
        finally:
            await embedder.close()
        assert (before.model, before.dimensions, before.longest) == (small.name, 32, 48)

    asyncio.run(story())


def test_overlapping_calls_keep_their_own_order(small: Path) -> None:
    """Many callers at once, with texts in common, each get what they would get alone, messages cut or not."""
    texts = make_texts(1500, 20)
    calls = [texts[:700], texts[600:], texts[::-1], [texts[3]] * 5, [], ["x"]]

    async def story() -> list[np.ndarray]:
        async with opened(small) as embedder:
            return list(await asyncio.gather(*(embedder.embed(call) for call in calls)))

    found = asyncio.run(story())

    alone = dict(zip([*texts, "x"], vectors_of(small, [*texts, "x"]), strict=True))
    for call, vectors in zip(calls, found, strict=True):
        assert vectors.shape == (len(call), 32)
        if call:
            np.testing.assert_allclose(vectors, np.stack([alone[text] for text in call]), rtol=0, atol=1e-6)


def test_what_was_in_flight_at_a_kill_is_asked_again(small: Path) -> None:
    """Three calls lose their worker and are answered by the next, with the vectors of a calm one."""
    calls = [make_texts(900, 9, seed) for seed in range(3)]

    async def story() -> list[np.ndarray]:
        async with opened(small) as embedder:
            before = await embedder.embed(["same"])
            pid = worker()
            os.kill(pid, signal.SIGSTOP)
            running = [asyncio.create_task(embedder.embed(texts)) for texts in calls]
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            found = await asyncio.gather(*running)
            assert worker() != pid
            np.testing.assert_array_equal(await embedder.embed(["same"]), before)
            return found

    for texts, vectors in zip(calls, asyncio.run(story()), strict=True):
        np.testing.assert_allclose(vectors, vectors_of(small, texts), rtol=0, atol=1e-6)


def test_a_worker_killed_between_two_calls_is_replaced(small: Path) -> None:
    """The next call is answered as if nothing had been."""

    async def story() -> None:
        async with opened(small) as embedder:
            facts, before, pid = await embedder.open(), await embedder.embed(["same"]), worker()
            os.kill(pid, signal.SIGKILL)
            while psutil.pid_exists(pid):
                await asyncio.sleep(0)
            np.testing.assert_array_equal(await embedder.embed(["same"]), before)
            assert await embedder.open() == facts

    asyncio.run(story())


@pytest.mark.parametrize(("moment", "lives", "hired"), [(Loaded, 2, 3), (Loaded, 9, 3), (type(None), 9, 3)])
def test_a_call_costs_three_workers_at_most(small: Path, moment: type, lives: int, hired: int) -> None:
    """Workers killed when they have loaded, or as soon as they run: a third that lives answers, else the call fails."""
    pids: list[int] = []

    async def hire(receive: Callable[[FromWorker], None], threads: int) -> Worker:
        def hear(message: FromWorker) -> None:
            receive(message)
            if isinstance(message, moment) and 1 < len(pids) <= lives:
                os.kill(pids[-1], signal.SIGKILL)

        made = await hire_child(hear, threads)
        assert isinstance(made, WorkerProcess)
        pids.append(made.pid)
        if moment is type(None) and len(pids) > 1:
            os.kill(made.pid, signal.SIGKILL)
        return made

    async def story() -> np.ndarray:
        embedder = LocalEmbedder(Node(name="one", engine="local", target=str(small)), OPTIONS, hire)
        try:
            await embedder.open()
            os.kill(pids[0], signal.SIGKILL)
            return await embedder.embed(["left", "right"])
        finally:
            await embedder.close()

    if lives == 2:
        np.testing.assert_allclose(asyncio.run(story()), vectors_of(small, ["left", "right"]), rtol=0, atol=1e-6)
    else:
        with pytest.raises(EngineError, match=r"node 'one': .*exit by signal 9 \(SIGKILL\)") as caught:
            asyncio.run(story())
        assert caught.value.kind == "crash"
    assert len(pids) == hired
    assert psutil.Process().children() == []


def test_nothing_is_opened_unasked(small: Path) -> None:
    """Neither before the first `open` nor after `close` does a call start a worker."""

    async def story() -> None:
        embedder = embedder_of(small)
        with pytest.raises(EngineError, match="it isn't open"):
            await embedder.embed(["early"])
        await embedder.open()
        await embedder.close()
        with pytest.raises(EngineError, match="it was closed"):
            await embedder.embed(["late"])
        assert psutil.Process().children() == []

    asyncio.run(story())


def test_a_cancelled_call_leaves_the_others_alone(small: Path) -> None:
    """What nobody waits for any more is forgotten, and the worker goes on."""

    async def story() -> np.ndarray:
        async with opened(small) as embedder:
            left = asyncio.create_task(embedder.embed(make_texts(4000, 30)))
            kept = asyncio.create_task(embedder.embed(["left", "right"]))
            await asyncio.sleep(0)
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            assert left.cancelled()
            return await kept

    np.testing.assert_allclose(asyncio.run(story()), vectors_of(small, ["left", "right"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "what"), [(["fine", "half \ud800"], "surrogate|isn't Unicode"), (["x" * (33 << 20)], "33|limit")]
)
def test_a_text_that_cant_be_sent_is_refused(small: Path, texts: list[str], what: str) -> None:
    """The call fails by its class, and the next one is answered."""

    async def story() -> None:
        async with opened(small) as embedder:
            with pytest.raises(EngineError, match=what) as caught:
                await embedder.embed(texts)
            assert caught.value.kind == "refused"
            assert (await embedder.embed(["left"])).shape == (1, 32)

    asyncio.run(story())


def test_a_changed_folder_isnt_loaded(tmp_path: Path) -> None:
    """What was looked at is what is loaded, the pooling included."""
    embedder = embedder_of(write_encoder(tmp_path))
    embedder.survey()
    path = tmp_path / "1_Pooling" / "config.json"
    path.write_text(path.read_text().replace("}", " }"))

    with pytest.raises(TokenmillError, match="has changed since it was looked at"):
        asyncio.run(embedder.open())
    assert psutil.Process().children() == []


def test_closing_leaves_no_process_and_fails_what_waits(small: Path) -> None:
    """A call in flight hears that it was closed."""

    async def story() -> int:
        async with opened(small) as embedder:
            pid = worker()
            waiting = asyncio.create_task(embedder.embed(make_texts(4000, 30)))
            await asyncio.sleep(0)
            await embedder.close()
            with pytest.raises(EngineError, match="it was closed"):
                await waiting
            return pid

    assert not psutil.pid_exists(asyncio.run(story()))
