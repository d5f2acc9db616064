"""Which HTTP client asks servers: processor time of one streamed answer, in the client's own process.

A tiny server in another process streams the same answer to every request: 8 content chunks, each written by itself,
then the finish reason, usage and `[DONE]`. Each client takes the same rounds in turn, so that a busy machine slows all
of them; figures are medians over rounds, ratios are taken within a round.

    python benchmarks/http_client.py --requests 2000 --in-flight 16 --rounds 7
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import aiohttp
import h11
import httpx
import msgspec

CHUNKS = 8
BODY = msgspec.json.encode(
    {"model": "m", "messages": [{"role": "user", "content": "Give me 8 words."}], "stream": True, "temperature": 0.0}
)
Ask = Callable[[], Awaitable[int]]


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


USAGE = (
    b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":8,"total_tokens":17}}\n\n'
)
PARTS = [event({"content": f" word{number}"}) for number in range(CHUNKS)]
PARTS += [event({}, "stop"), USAGE + b"data: [DONE]\n\n"]
FRAMES = [b"%x\r\n%s\r\n" % (len(part), part) for part in PARTS]
FRAMES[-1] += b"0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MODELS = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
LIST = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(MODELS), MODELS)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if head.startswith(b"get"):
                writer.write(LIST)
                continue
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(HEAD)
            for frame in FRAMES:
                writer.write(frame)
                await asyncio.sleep(0.0005)  # so that each chunk is a segment, and a wake-up, of its own
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# -- the clients ---------------------------------------------------------------------------------------------------


def contents(data: bytes) -> int:
    return data.count(b'"content":')


async def with_aiohttp(url: str, rounds: Callable[[Ask], Awaitable[None]]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, auto_decompress=False, trust_env=False
    ) as session:

        async def ask() -> int:
            found = 0
            headers = {"content-type": "application/json"}
            async with session.post(f"{url}/v1/chat/completions", data=BODY, headers=headers) as response:
                while data := await response.content.readany():
                    found += contents(data)
            return found

        await rounds(ask)


async def with_httpx(url: str, rounds: Callable[[Ask], Awaitable[None]]) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:

        async def ask() -> int:
            found = 0
            headers = {"content-type": "application/json"}
            async with client.stream("POST", f"{url}/v1/chat/completions", content=BODY, headers=headers) as response:
                async for data in response.aiter_raw():
                    found += contents(data)
            return found

        await rounds(ask)


async def with_h11(url: str, rounds: Callable[[Ask], Awaitable[None]]) -> None:
    """The least that can be written by hand: a stack of connections, no clocks, no redirects, no TLS."""
    host, _, port = url.removeprefix("http://").partition(":")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, h11.Connection]] = []
    headers = [("host", host), ("content-type", "application/json"), ("content-length", str(len(BODY)))]

    async def ask() -> int:
        if idle:
            reader, writer, state = idle.pop()
        else:
            reader, writer = await asyncio.open_connection(host, int(port))
            state = h11.Connection(h11.CLIENT)
        sent = state.send(h11.Request(method="POST", target="/v1/chat/completions", headers=headers))
        sent_body = state.send(h11.Data(data=BODY))
        state.send(h11.EndOfMessage())
        assert sent is not None
        assert sent_body is not None
        writer.write(sent + sent_body)
        found = 0
        while True:
            part = state.next_event()
            if part is h11.NEED_DATA:
                state.receive_data(await reader.read(65536))
            elif isinstance(part, h11.Data):
                found += contents(bytes(part.data))
            elif isinstance(part, h11.EndOfMessage):
                break
        state.start_next_cycle()
        idle.append((reader, writer, state))
        return found

    await rounds(ask)
    for _, writer, _ in idle:
        writer.close()


async def with_engine(url: str, rounds: Callable[[Ask], Awaitable[None]]) -> None:
    """The engine itself: decoding, clocks, checks and classification included."""
    from tokenmill.cluster import EngineOptions, Node
    from tokenmill.engine.http.engine import ServerEngine
    from tokenmill.request import Chunk, Completion, Request

    engine = ServerEngine(Node(name="bench", engine="openai", target=url), EngineOptions(slots=64))
    await engine.open()
    request = Request(row=0, custom_id="row-0", prompt="Give me 8 words.")

    async def ask() -> int:
        found = 0
        parts: AsyncIterator[Chunk | Completion] = engine.generate(request)
        async with aclosing(parts):  # type: ignore[type-var]  # an iterator that is a generator
            async for part in parts:
                found += isinstance(part, Chunk)
        return found

    await rounds(ask)
    await engine.close()


CLIENTS = {"tokenmill": with_engine, "aiohttp": with_aiohttp, "h11": with_h11, "httpx": with_httpx}


# -- measuring -----------------------------------------------------------------------------------------------------


async def take(ask: Ask, requests: int, in_flight: int) -> None:
    left = iter(range(requests))

    async def lane() -> None:
        for _ in left:
            assert await ask() == CHUNKS

    await asyncio.gather(*(lane() for _ in range(in_flight)))


async def measure(url: str, client: str, requests: int, in_flight: int) -> float:
    """Milliseconds of processor time a request, after a warm-up that opens the connections."""
    spent = 0.0

    async def rounds(ask: Ask) -> None:
        nonlocal spent
        await take(ask, in_flight * 4, in_flight)
        before = time.process_time()
        await take(ask, requests, in_flight)
        spent = time.process_time() - before

    await CLIENTS[client](url, rounds)
    return spent / requests * 1e3


async def run(clients: list[str], requests: int, in_flight: int, rounds: int) -> dict[str, list[float]]:
    server = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(await server.stdout.readline())}"
        costs: dict[str, list[float]] = {name: [] for name in clients}
        for turn in range(rounds):
            for name in clients[turn % len(clients) :] + clients[: turn % len(clients)]:
                costs[name].append(await measure(url, name, requests, in_flight))
        return costs
    finally:
        server.terminate()
        await server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    costs = asyncio.run(run(options.clients, options.requests, options.in_flight, options.rounds))
    first = options.clients[0]
    print(
        f"{options.rounds} rounds of {options.requests} requests, {options.in_flight} in flight, {CHUNKS} chunks each"
    )
    print(f"{'client':<12}{'ms/request':>12}{'least':>9}{'most':>9}{'to ' + first:>15}")
    for name, each in costs.items():
        ratio = statistics.median(one / own for one, own in zip(each, costs[first], strict=True))
        print(f"{name:<12}{statistics.median(each):>12.3f}{min(each):>9.3f}{max(each):>9.3f}{ratio:>15.2f}")


if __name__ == "__main__":
    main()
