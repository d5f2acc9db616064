"""What the rendering of one template may still use: steps, processor time and size.

Steps are the lines that run, in the template or in Jinja, counted by a trace function. Size is that of every value
made, with everything inside it: as no value can be large, an operation that runs in C and counts as one step can't be
slow or fill the memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

STEP_LIMIT = 1_000_000
#: Seconds of processor time, for what steps don't measure well.
TIME_LIMIT = 10.0
SIZE_LIMIT = 1 << 22
#: What a character of input adds to the allowance: templates copy their input a few times.
SIZE_PER_INPUT = 128
WHOLE_BITS = 128
ELEMENT_SIZE = 16


class Exhausted(BaseException):
    """A rendering went over a limit. Not an `Exception`, so that nothing in between can take it for another fault."""


class Meter:
    """What one rendering may still use."""

    def __init__(self, input_size: int) -> None:
        self._steps = 0
        self._size = SIZE_LIMIT + SIZE_PER_INPUT * input_size
        self._deadline = time.thread_time() + TIME_LIMIT

    def charge(self, size: int) -> None:
        self._size -= size
        if self._size < 0:
            raise Exhausted("it makes more text than any prompt needs")

    def measure(self, value: object) -> None:
        """Charges for a value and everything in it, as often as it is in it."""
        if isinstance(value, str):
            self.charge(len(value))
        elif isinstance(value, list | tuple):
            self.charge(ELEMENT_SIZE * len(value))
            for item in value:
                self.measure(item)
        elif isinstance(value, dict):
            self.charge(2 * ELEMENT_SIZE * len(value))
            for key, item in value.items():
                self.measure(key)
                self.measure(item)
        elif isinstance(value, int) and value.bit_length() > WHOLE_BITS:
            raise Exhausted(f"it computes with numbers of more than {WHOLE_BITS} bits")

    def count_step(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        """The trace function of a rendering; what happens in here counts by size instead."""
        if frame.f_globals is _HERE:
            return None
        self._steps += 1
        if self._steps > STEP_LIMIT:
            raise Exhausted(f"it takes more than {STEP_LIMIT} steps")
        if self._steps % 256 == 0 and time.thread_time() > self._deadline:
            raise Exhausted(f"it takes more than {TIME_LIMIT:.0f} seconds")
        return self.count_step


METER: ContextVar[Meter] = ContextVar("meter of the rendering")
_HERE = globals()


@contextmanager
def metered(input_size: int) -> Iterator[Meter]:
    """Everything inside is measured; `input_size` is the size of what the template is given, in characters."""
    meter, tracer = Meter(input_size), sys.gettrace()
    token = METER.set(meter)
    sys.settrace(meter.count_step)
    try:
        yield meter
    finally:
        sys.settrace(tracer)
        METER.reset(token)
