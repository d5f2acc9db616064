"""The one place that touches sockets: connections, requests, bytes of answers, and foreign errors made ours.

Rules of the house for connections: nothing is decompressed, because we ask for no compression and a small body could
grow without end; no redirect is followed, as it would carry the key elsewhere; no cookies, no netrc, and no proxy but
the one that was named; lines, fields and number of headers have caps, and so has a body. A connection is used again
only if its last answer was read to the end and nothing came after it.

Errors of the HTTP library are told without their cause: its exceptions carry the request's headers, key included.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import ssl
import time
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from tokenmill.engine.http.address import Address, is_guarded
from tokenmill.engine.http.classify import ERROR_BYTES, MISCONFIGURED, NUMBER, fault_of_status, presentable, rest_of
from tokenmill.engine.http.clocks import Clocks, Deadline
from tokenmill.engine.http.key import Key
from tokenmill.engine.http.proxy import Proxy
from tokenmill.engine.http.watch import Guard, Watch
from tokenmill.errors import EngineError
from tokenmill.request import RateSeen

#: Longest body of an answer, and of an object that describes the node, in bytes.
BODY_BYTES, FACTS_BYTES = 64 << 20, 4 << 20
#: Seconds for an object that describes the node, and for the body of an error.
FACTS_SECONDS, ERROR_SECONDS = 10.0, 5.0
#: Seconds an idle connection is kept. Common servers close theirs after 5, and a request must not meet that.
IDLE_SECONDS = 3.0
#: Seconds a finished answer is given to end its framing, so that the connection can be used again.
DRAIN_SECONDS = 0.25
#: A kept connection that is lost so soon after a request was sent had been given up by the node before.
LOST_SECONDS = 1.0
#: Whether the request that the task has just sent went over a kept connection.
KEPT: ContextVar[bool] = ContextVar("KEPT", default=False)
REQUEST_ID = "X-Request-Id"
RATES = (
    ("requests", "X-RateLimit-Limit-Requests"),
    ("requests_left", "X-RateLimit-Remaining-Requests"),
    ("tokens", "X-RateLimit-Limit-Tokens"),
    ("tokens_left", "X-RateLimit-Remaining-Tokens"),
)


class ForbiddenAddress(OSError):
    """A name led to an address that only its number may lead to."""


class GuardedResolver(AbstractResolver):
    """Resolves names, except to link-local and metadata addresses."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for each in found:
            if is_guarded(each["host"]):
                raise ForbiddenAddress(f"{host} leads to {each['host']}, a link-local or metadata address")
        return found

    async def close(self) -> None:
        await self._inner.close()


class CleanConnector(aiohttp.TCPConnector):
    """Doesn't reuse a connection on which bytes came that nobody asked for: they would answer the next request."""

    async def _get(self, key: Any, traces: Any) -> Any:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                break
            connection.close()
        KEPT.set(connection is not None)
        return connection


class Client:
    """Requests to one node, from one event loop."""

    def __init__(
        self,
        place: str,
        address: Address,
        key: Key | None,
        clocks: Clocks,
        resolver: AbstractResolver | None = None,
        *,
        proxy: Proxy | None = None,
    ) -> None:
        self.place = place
        self._key = key
        self._proxy = proxy
        self._clocks = clocks
        self._base = address.origin + address.path
        self._urls: dict[str, URL] = {}
        self._loop = asyncio.get_running_loop()
        self._ids = f"tm-{secrets.token_hex(6)}-"
        self._sent = 0
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "tokenmill"}
        if key is not None:
            self._headers["Authorization"] = key.header()
        self._way: dict[str, Any] = {}
        if proxy is not None:
            login = {"Proxy-Authorization": proxy.header()} if proxy.has_login else {}
            self._way = {"proxy": URL(proxy.url), "proxy_headers": login}
            if not address.is_secure:  # there is no tunnel: the request itself is the proxy's to read
                self._headers |= login
        self._open: set[aiohttp.ClientResponse] = set()
        self.is_closed = False
        self._session = aiohttp.ClientSession(
            connector=CleanConnector(
                limit=0,
                keepalive_timeout=IDLE_SECONDS,
                use_dns_cache=False,  # connections are kept, so it would save little and miss a node that moved
                resolver=GuardedResolver(resolver),
                ssl=ssl.create_default_context() if address.is_secure else True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=clocks.connect),
            auto_decompress=False,
            trust_env=False,
            max_line_size=8190,
            max_field_size=8190,
            max_headers=128,
        )

    async def close(self) -> None:
        """Ends all that is in flight; closing the session alone would leave readers waiting for their clocks."""
        self.is_closed = True
        for response in tuple(self._open):
            response.close()
        await self._session.close()

    def fault(self, error: EngineError) -> EngineError:
        """The same failure as it may be told: with its place, without the key, on one line."""
        return EngineError(error.kind, f"{self.place}: {self.clean(error.message)}", error.retry_after)

    def clean(self, text: str) -> str:
        """A text that may quote the node, fit to be told."""
        for secret in (self._key, self._proxy):
            text = text if secret is None else secret.scrub(text)
        return presentable(text)

    async def describe(self, path: str) -> bytes:
        """A small object that the node has under `path`; raises `EngineError` if it has none."""
        return await self._small("GET", path, None, FACTS_SECONDS)

    async def tell(self, path: str, body: bytes, seconds: float = FACTS_SECONDS) -> bytes:
        """The small object that the node gives for `body`."""
        return await self._small("POST", path, body, seconds)

    async def ask(self, path: str, body: bytes, deadline: Deadline) -> Exchange:
        """Sends a request and waits for the head of its answer, which must be a 200 of the right kind.

        Raises:
            EngineError: as `classify` says; the message tells no secret.
        """
        self._sent += 1
        name = f"{self._ids}{self._sent}"
        try:
            async with Watch(deadline):
                response = await self._send("POST", path, body, name)
        except TimeoutError:
            raise self.fault(EngineError("timeout", deadline.reason)) from None
        try:
            await self._check(response, name)
        except BaseException:
            response.close()
            raise
        self._open.add(response)
        return Exchange(self, response, deadline)

    def end(self, response: aiohttp.ClientResponse) -> None:
        """Lets go of an answer; a connection whose answer wasn't read to its end is closed."""
        self._open.discard(response)
        if not response.content.at_eof():
            response.close()
        else:
            response.release()

    async def _small(self, method: str, path: str, body: bytes | None, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                response = await self._send(method, path, body, None)
                try:
                    await self._check(response, None)
                    content = await self._content(response, FACTS_BYTES)
                finally:
                    response.close()
        except TimeoutError:
            raise self.fault(EngineError("timeout", f"{path} gave no whole answer in {seconds:g} s")) from None
        if len(content) > FACTS_BYTES:
            raise self.fault(EngineError("transient", f"{path} is longer than {FACTS_BYTES} bytes"))
        return content

    async def _send(self, method: str, path: str, body: bytes | None, name: str | None) -> aiohttp.ClientResponse:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base + path, encoded=True)
        headers = CIMultiDict(self._headers)
        if name is not None:
            headers[REQUEST_ID] = name
        while True:
            started = self._loop.time()
            KEPT.set(False)
            try:
                return await self._session.request(
                    method, url, data=body, headers=headers, allow_redirects=False, **self._way
                )
            except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
                if KEPT.get() and _is_lost(error) and self._loop.time() - started < LOST_SECONDS:
                    continue  # the node had closed it, and nothing of an answer came; a fresh one ends this
                fault = self.foreign(error)
            raise fault from None

    async def _check(self, response: aiohttp.ClientResponse, name: str | None) -> None:
        """Raises the failure that the head means, if it is none of an answer."""
        if response.status != 200:
            rest = rest_of(response.headers.get("Retry-After"), time.time)
            location = _origin(response.headers.get("Location", ""))
            content = await self._error_body(response)
            fault = self.fault(fault_of_status(response.status, content, rest, location))
            fault.status = response.status
            raise fault
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self.fault(EngineError("transient", "the node compressed its answer though that wasn't asked for"))
        if response.content_type == "text/html":
            raise self.fault(EngineError("transient", "the node sent an HTML page as its answer"))
        theirs = response.headers.get(REQUEST_ID, "")
        if name is not None and theirs.startswith(self._ids) and theirs != name:
            raise self.fault(EngineError("transient", "the node sent the answer to another request"))

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        """What can be read of the body of an error; that it is broken or slow doesn't matter any more."""
        try:
            async with asyncio.timeout(ERROR_SECONDS):
                return (await self._content(response, ERROR_BYTES))[:ERROR_BYTES]
        except (TimeoutError, EngineError):
            return b""
        finally:
            if not response.content.at_eof():
                response.close()

    async def _content(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The body, or a little more than `limit` of it."""
        parts: list[bytes] = []
        size = 0
        try:
            while size <= limit and (data := await response.content.readany()):
                parts.append(data)
                size += len(data)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            fault = self.foreign(error)
        else:
            return b"".join(parts)
        raise fault from None

    def foreign(self, error: BaseException) -> EngineError:
        """An error of the HTTP library as ours."""
        return self.fault(EngineError("crash", "it was closed") if self.is_closed else _translated(error))


class Exchange:
    """The answer to one request while it comes."""

    __slots__ = ("_client", "_content", "_deadline", "_guard", "_read", "_response")

    def __init__(self, client: Client, response: aiohttp.ClientResponse, deadline: Deadline) -> None:
        self._client = client
        self._response = response
        self._content = response.content
        self._deadline = deadline
        self._guard = Guard(deadline, response.content)
        self._read = 0

    async def read(self) -> bytes:
        """What came next of the body; empty at its end.

        Raises:
            EngineError: a clock ran out, the body is too long, or its framing broke.
        """
        self._guard.check()
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            fault = self._client.foreign(error)
            if self._guard.has_rung:
                fault = self._client.fault(EngineError("timeout", self._deadline.reason))
        else:
            self._read += len(data)
            if self._read > BODY_BYTES:
                raise self._client.fault(EngineError("transient", f"the answer is longer than {BODY_BYTES} bytes"))
            return data
        raise fault from None

    @property
    def rate(self) -> RateSeen | None:
        """What the head says of the node's rate limits, if anything."""
        headers = self._response.headers
        said = {field: _number(headers[name]) for field, name in RATES if name in headers}
        return RateSeen(**said) if said else None

    async def drain(self) -> None:
        """Reads the end of the framing after the end mark of the answer, so that the connection can be used again.

        Raises:
            EngineError: the framing broke after all, so something between here and there cut or mixed answers.
        """
        if self._content.at_eof():
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._content.readany()
        except TimeoutError:
            return  # the connection is closed instead
        except (aiohttp.ClientError, OSError, ValueError) as error:
            fault = self._client.foreign(error)
        else:
            return
        raise fault from None

    def close(self) -> None:
        self._guard.cancel()
        self._client.end(self._response)


def _is_lost(error: BaseException) -> bool:
    """Whether the connection ended before the head of an answer was there."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it holds the part of a head that came
    gone = (errno.ECONNRESET, errno.EPIPE, None)  # None: it was closed already as the request was written
    return isinstance(error, aiohttp.ClientOSError | ConnectionError) and error.errno in gone


def _translated(error: BaseException) -> EngineError:
    reason = str(getattr(error, "os_error", None) or error) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return EngineError("misconfigured", f"its certificate is refused: {error.certificate_error}")
        case aiohttp.ClientConnectorSSLError():
            return EngineError("misconfigured", f"no TLS connection ({reason}); check scheme and port")
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ForbiddenAddress):
            return EngineError("misconfigured", f"{reason}; write the address itself if it is meant")
        case aiohttp.ClientProxyConnectionError():
            return EngineError("unreachable", f"no connection to its proxy ({reason})")
        case aiohttp.ClientConnectorError():
            return EngineError("unreachable", f"no connection ({reason}); start the server, or check address and port")
        case aiohttp.ConnectionTimeoutError():
            return EngineError("unreachable", "no connection in time (clock `connect`)")
        case aiohttp.ServerDisconnectedError():
            return EngineError("transient", "the node closed the connection without an answer")
        case aiohttp.ClientHttpProxyError():
            kind = "misconfigured" if error.status in MISCONFIGURED else "unreachable"
            return EngineError(kind, f"its proxy gives no way there: {error.status} {error.message}")
        case aiohttp.ClientResponseError():
            return EngineError("transient", f"the head of the answer is broken: {error.message}")
        case aiohttp.ClientPayloadError():
            return EngineError("transient", f"the answer broke off or its framing is broken ({reason})")
        case _:
            return EngineError("transient", f"the connection broke ({reason})")


def _origin(location: str) -> str:
    """Where a redirect leads, without what it may have been told."""
    try:
        parts = urlsplit(location)
        return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "itself"
    except ValueError:
        return "no valid URL"


def _number(text: str) -> float | None:
    """A header's number, None for anything else."""
    return float(text) if len(text) < 20 and NUMBER.fullmatch(text) and not text.startswith("-") else None
