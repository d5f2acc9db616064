"""Reads files that lie, and says what went wrong: anything but a refusal, a second of work, or too much memory.

Memory is limited by the kernel: the address space that this process may take grows, while a case is read, by no more
than is allowed for it. So tricks of the allocator don't hide anything, and it costs next to nothing.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quant.mutations import gguf_case, safetensors_case
from tokenmill.errors import TokenmillError
from tokenmill.model.files import BadModel
from tokenmill.quant.gguf import target
from tokenmill.quant.gguf.reader import read_gguf
from tokenmill.quant.layout import Options
from tokenmill.quant.source import read_weights

#: Seconds by the clock after which a case is stopped.
HANGS = 60
#: Bytes that may be allocated beyond twice the file.
BYTES = 64 << 20
OPTIONS = Options(to="q4_k_m")
GGUF, SAFETENSORS = "gguf", "safetensors"


class Hung(BaseException):
    """A case that doesn't end."""


class Fuzz:
    """Reads cases from a file in `folder`; counts those that were taken for good and those refused.

    `seconds` of the processor are too many for one; the default says so only of what hangs, on any machine.
    """

    def __init__(self, folder: Path, seconds: float = HANGS) -> None:
        self._seconds = seconds
        self.paths = {GGUF: folder / "case.gguf", SAFETENSORS: folder / "case.safetensors"}
        self.accepted = {GGUF: 0, SAFETENSORS: 0}
        self.refused = {GGUF: 0, SAFETENSORS: 0}
        self.slowest = 0.0

    def number(self, number: int) -> Iterator[str]:
        """Both cases of a number; yields what is wrong."""
        for kind, make in ((GGUF, gguf_case), (SAFETENSORS, safetensors_case)):
            if fault := self.check(kind, make(number)):
                yield f"{kind} case {number}: {fault}"

    def check(self, kind: str, content: bytes) -> str:
        """What is wrong with reading it, or nothing."""
        path = self.paths[kind]
        path.write_bytes(content)
        size, start = len(content), time.process_time()
        del content
        try:
            with limited(2 * size + BYTES):
                taken = _read(kind, path)
        except MemoryError:
            return f"{size} bytes made it allocate more than twice that and {BYTES >> 20} MiB"
        except Hung:
            return f"it took more than {HANGS} s"
        except TokenmillError as error:
            if not str(error).isprintable():
                return f"the message isn't printable: {str(error)!r}"
            taken = False
        except Exception as error:  # noqa: BLE001 - that there is none is what is tested
            return f"{type(error).__name__}: {error}"
        took = time.process_time() - start
        self.slowest = max(self.slowest, took)
        (self.accepted if taken else self.refused)[kind] += 1
        return f"it took {took:.2f} s" if took > self._seconds else ""


def _read(kind: str, path: Path) -> bool:
    """Whether it is taken for a model; a plan of what it would become may still refuse it."""
    if kind == SAFETENSORS:
        return bool(read_weights(path).tensors)
    try:
        found = read_gguf(path)
    except BadModel:
        return False
    target.plan(found.weights, path, OPTIONS)
    return True


@contextmanager
def limited(more: int) -> Iterator[None]:
    """The process can't take so many more bytes of address space, nor go on without end."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, _hung)
    signal.alarm(HANGS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def _hung(*_: object) -> None:
    raise Hung
