"""A worker: one process with one model, obeying one caller over one socket; `python -m tokenmill.engine.local.worker`.

It is started with a socket and a token in its environment (see `supervise`) and ends when that socket closes,
whatever it is doing: a thread reads the socket and leaves at its end, and on Linux the kernel kills the worker with
its parent even while native code holds the interpreter. It ignores SIGINT and SIGTERM, which are often sent to a whole
job: the caller decides what is still finished, and closing the socket is how it says stop. Nothing heavy is imported
before the reading thread runs, so this holds from the first moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import hmac
import os
import queue
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from tokenmill.engine.local.wire import (
    PROTOCOL,
    SOCKET_VARIABLE,
    TOKEN_VARIABLE,
    Beat,
    Cancel,
    Embed,
    Frames,
    FromWorker,
    Hello,
    Leave,
    Load,
    Loaded,
    LoadEmbedder,
    LoadFailed,
    Submit,
    ToWorker,
    WireError,
    encode,
    to_worker,
)
from tokenmill.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.engine.local.embedding.session import EmbeddingSession
    from tokenmill.engine.local.session import Session

Asked = TypeVar("Asked")
Opened = TypeVar("Opened")

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


#: Seconds between two signs of life over TCP.
BEAT = 1.0


def leave_quietly() -> NoReturn:
    """The end of a worker whose caller is gone: nobody is left to be told."""
    os._exit(0)


class Link:
    """The worker's end of the socket; messages are read by a thread of its own.

    With `silence` both ends send beats, and so many seconds without any word end the link: the thread sends them, so
    a main thread that loads for minutes is not taken for dead. `gone` is called, in either thread, when the link ended
    without a word.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        silence: float | None = None,
        gone: Callable[[], NoReturn] = leave_quietly,
    ) -> None:
        self._connection = connection
        self._silence = silence
        self._gone = gone
        self._sending = threading.Lock()
        self._next_beat = 0.0
        self._inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="reader", daemon=True).start()

    def next(self) -> ToWorker:
        """The next message; waits for it."""
        return self._inbox.get()

    def waiting(self) -> list[ToWorker]:
        """The messages that are there by now."""
        messages = []
        with contextlib.suppress(queue.Empty):
            while True:
                messages.append(self._inbox.get_nowait())
        return messages

    def send(self, message: FromWorker) -> None:
        """Waits until the caller has room for it: a worker never runs ahead of a caller that doesn't read."""
        try:
            with self._sending:
                self._connection.sendall(encode(message))
        except OSError:
            self._gone()

    def _read(self) -> None:
        frames = Frames()
        try:
            while data := self._received():
                for body in frames.feed(data):
                    self._take(to_worker(body))
            frames.finish()
        except WireError as error:
            leave(f"the caller sent {error}")
        except OSError:
            pass
        self._gone()

    def _take(self, message: ToWorker) -> None:
        match message:
            case Beat():
                pass
            case Leave():
                os._exit(0)
            case _:
                self._inbox.put(message)

    def _received(self) -> bytes:
        """What came, or nothing if the link ended or the other end was silent for too long.

        Silence is counted in waits and not in time: a worker that was stopped for a while hasn't listened.
        """
        if self._silence is None:
            return self._connection.recv(65536)
        waits = 0
        while waits * BEAT < self._silence:
            is_ready = self._is_ready(select.POLLIN, BEAT)
            if (now := time.monotonic()) >= self._next_beat:
                self._next_beat = now + BEAT
                self.beat()
            if is_ready:
                return self._connection.recv(65536)
            waits += 1
        os.write(2, f"the driver was silent for {self._silence:g} s\n".encode())
        return b""

    def beat(self) -> None:
        """A sign of life, unless something is being sent anyway, or there is no room for it."""
        if self._sending.acquire(blocking=False):
            try:
                if self._is_ready(select.POLLOUT, 0.0):
                    self._connection.sendall(encode(Beat()))
            finally:
                self._sending.release()

    def _is_ready(self, what: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._connection, what)
        return bool(poll.poll(seconds * 1000))


def main() -> None:
    """Runs a worker to its end, which is the end of its process."""
    isolate()
    link = connect()
    greet(link, os.environ.pop(TOKEN_VARIABLE, ""))
    match link.next():
        case Load() as load:
            serve(link, loaded(link, open_session, load))
        case LoadEmbedder() as load:
            serve_vectors(link, loaded(link, open_embedding, load))
        case _:
            leave("the caller sent no Load after its greeting")


def isolate(*, leashed: bool = True, ignored: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)) -> None:
    """Signals for others are ignored and no memory is ever dumped; `leashed`: no parent means no worker."""
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_DUMPABLE, 0)  # the limit alone doesn't hold where dumps are piped to a program
        if leashed:
            # The parent is in fact the thread that started this process: it must live as long as the engine, as a
            # thread with an event loop does. A parent that is already gone has closed the socket, which is seen too.
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def connect() -> Link:
    """The socket this process was started with; its descriptor goes to no child."""
    try:
        connection = socket.socket(fileno=int(os.environ.pop(SOCKET_VARIABLE)))
    except (KeyError, ValueError, OSError) as error:
        leave(f"started without its socket ({error}); workers are started by an engine, not by hand")
    connection.set_inheritable(False)
    return Link(connection)


def greet(link: Link, token: str) -> None:
    """Goes on only if the caller is who started this process."""
    hello = link.next()
    if not isinstance(hello, Hello) or not token or not hmac.compare_digest(hello.token.encode(), token.encode()):
        leave("refused a caller without the right token")
    if hello.protocol != PROTOCOL:
        leave(f"the caller speaks protocol {hello.protocol}, this is {PROTOCOL}; use the same version on both sides")


def loaded(link: Link, open_: Callable[[Asked], Opened], load: Asked) -> Opened:
    """What `load` asks for, once the caller was told; a model that can't be loaded ends the worker."""
    try:
        session = open_(load)
    except TokenmillError as error:
        link.send(LoadFailed(str(error)))
        link.next()  # ends with the socket
        leave("the caller went on after a failed load")
    link.send(Loaded())
    return session


def open_session(load: Load) -> Session:
    """Loads the model; torch is first imported here."""
    from tokenmill.engine.local.session import load_session

    return load_session(load)


def open_embedding(load: LoadEmbedder) -> EmbeddingSession:
    """Loads a sentence-embedding model, and torch with it."""
    from tokenmill.engine.local.embedding.session import load_embedding

    return load_embedding(load)


def serve_vectors(link: Link, session: EmbeddingSession) -> NoReturn:
    """As `serve`: one batch of texts, then what has arrived."""
    while True:
        for message in link.waiting() if session.has_work else [link.next(), *link.waiting()]:
            match message:
                case Embed():
                    if (refused := session.submit(message)) is not None:
                        link.send(refused)
                case Cancel(key=key):
                    session.cancel(key)
                case _:
                    leave("the caller sent what makes no vectors")
        if session.has_work:
            for embedded in session.step():
                link.send(embedded)


def serve(link: Link, session: Session) -> NoReturn:
    """Steps while there is work; between two steps it takes in what has arrived."""
    while True:
        for message in link.waiting() if session.has_work else [link.next(), *link.waiting()]:
            match message:
                case Submit():
                    if (refused := session.submit(message)) is not None:
                        link.send(refused)
                case Cancel(key=key):
                    session.cancel(key)
                case _:
                    leave("the caller greeted twice")
        if session.has_work:
            stepped = session.step()
            if stepped.pieces:
                link.send(stepped)


def leave(cause: str) -> NoReturn:
    """Ends the process at once, from any thread; the cause is what the caller will report."""
    os.write(2, f"{cause}\n".encode())
    os._exit(1)


if __name__ == "__main__":
    main()
