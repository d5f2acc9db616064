"""A function of the user's own as a validator: it is code and runs as such, so a recipe that names one is trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenmill.validate.kind import Kind, Options
from tokenmill.validate.pattern import whole
from tokenmill.validate.quote import shown
from tokenmill.validate.score import Item, Score

_SAID = 200
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class FunctionOptions(Options, frozen=True, kw_only=True):
    """`function` as `module:name`. It takes an `Item` and returns whether it passes, or a number, or either with a
    reason: `True`, `0.8`, `(False, "Name the landmark.")`. A number passes from `at_least` on.
    """

    function: str
    at_least: float | None = None

    def faults(self) -> Iterable[str]:
        if not _NAME.fullmatch(self.function):
            yield f"function {shown(self.function)!r} is no name of a function; give module:name"
            return
        try:
            self.found()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs the user's code, which may do anything
            yield f"function {self.function!r} can't be used: {_said(error)}; {self._way_out(error)}"
        if self.at_least is not None and not math.isfinite(self.at_least):
            yield f"at_least {self.at_least} must be a finite number"

    def _way_out(self, error: BaseException) -> str:
        module = self.function.partition(":")[0].partition(".")[0]
        is_here = Path(f"{module}.py").is_file() or Path(module, "__init__.py").is_file()
        if isinstance(error, ModuleNotFoundError) and error.name == module and is_here:
            return f"{module} lies in this folder, which Python doesn't search: set PYTHONPATH=."
        return "give module:name of one that can be imported"

    def found(self) -> Callable[[Item], object]:
        """The function itself."""
        module, _, path = self.function.partition(":")
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        if not callable(found):
            raise TypeError("it can't be called")
        called: Callable[[Item], object] = found
        return called


class Function:
    """Passes as the function says; an error of its own goes through, as the text isn't to blame for it."""

    needs = ()

    def __init__(self, name: str, options: FunctionOptions) -> None:
        self.name = name
        self._options = options
        self._function = options.found()

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Score:
        said = self._function(item)
        value, reason = said if isinstance(said, tuple) and len(said) == 2 else (said, "")
        if not isinstance(reason, str) or not isinstance(value, bool | int | float) or not math.isfinite(value):
            raise TypeError(f"{self._options.function} returned {shown(repr(said), _SAID)}, which is no score")
        return self._judged(value, whole(reason))

    def _judged(self, value: float, reason: str) -> Score:
        least = self._options.at_least
        passed = value if isinstance(value, bool) else least is None or value >= least
        if not passed and not reason:
            reason = f"The text doesn't pass {self.name}" + ("." if least is None else f": {value:g}, under {least:g}.")
        return Score(validator=self.name, value=float(value), passed=passed, reason=reason)


def _said(error: BaseException) -> str:
    """An error in one line; one that isn't about finding the function is named by its kind."""
    if isinstance(error, ImportError | AttributeError | TypeError):
        return shown(str(error), _SAID)
    return shown(f"it raised {type(error).__name__}: {error}", _SAID)


KIND = Kind(FunctionOptions, Function)
