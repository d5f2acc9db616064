"""Prompt templates: Jinja2 in an immutable sandbox, with limits.

A template comes from the user, its data from files nobody has read. So data can't reach attributes or code, and a
template can't loop for long or grow without end by accident: loops share a budget of steps per prompt, numbers and
repeated strings are capped, and only the filters listed here exist (none of them random, so a prompt is a function
of its row). Macros and includes are refused: they would need a budget of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError, meta, nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokenmill.errors import UsageError
from tokenmill.workload.faults import RowFault, shown

MAX_SOURCE = 64 * 1024
MAX_OUTPUT = 16 * 1024 * 1024
MAX_STEPS = 100_000
MAX_NUMBER = 2**63 - 1

_FILTERS = (
    "abs capitalize count d default dictsort first float int items join last length list lower map max min reject "
    "rejectattr replace reverse round select selectattr sort string striptags sum title tojson trim truncate unique "
    "upper wordcount wordwrap"
)
_REFUSED = (nodes.Macro, nodes.CallBlock, nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)

#: What rendering raises when a template and a row don't fit together.
_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    TemplateError,
)


class PromptTemplate:
    """A compiled template; `fields` are the names it takes from a row. Safe to use from several threads."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            raise UsageError(f"the template has {len(source)} characters, more than {MAX_SOURCE}; shorten it")
        self._environment = _Environment()
        try:
            tree = self._environment.parse(source)
            _check(tree)
            self.fields = frozenset(meta.find_undeclared_variables(tree))
            for loop in list(tree.find_all(nodes.For)):
                loop.iter = nodes.Filter(loop.iter, "_counted", [], [], None, None, lineno=loop.lineno)
            code = self._environment.compile(tree)
        except (TemplateError, RecursionError, ValueError, SyntaxError) as error:
            line = getattr(error, "lineno", 1)
            text = getattr(error, "message", None) or str(error)
            raise UsageError(f"template, line {line}: {text}; see the Jinja2 template language") from error
        self._template = Template.from_code(self._environment, code, self._environment.globals)

    def render(self, row: Mapping[str, object]) -> str:
        """The prompt for one row; a field whose name is no identifier is reached as row["name"]."""
        self._environment.steps.left = MAX_STEPS
        try:
            text = _joined(self._template.generate({"row": row, **row}))
            text.encode()
        except UndefinedError as error:
            raise RowFault(f"template: {error.message}; the row has {shown(', '.join(row))}") from error
        except _FAILURES as error:
            raise RowFault(f"template: {str(error) or type(error).__name__}; change the template or the row") from error
        return text


class _Steps(threading.local):
    left = MAX_STEPS


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False, finalize=_refuse_null
        )
        self.steps = _Steps()
        known: dict[str, Callable[..., Any]] = {name: self.filters[name] for name in _FILTERS.split()}
        self.filters = {**known, "_counted": self._counted, "replace": _replace, "join": _join}
        self.globals = {"range": self.globals["range"], "dict": dict}

    def _counted(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self.steps.left -= 1
            if self.steps.left < 0:
                raise SecurityError(f"loops take more than {MAX_STEPS} steps")
            yield item

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("% does not format strings here; use ~ to join them")
        if operator == "*":
            _check_product(left, right)
        if operator == "**" and not (isinstance(right, int | float) and abs(right) <= 64):
            raise SecurityError("a power above 64 is not allowed")
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > MAX_NUMBER:
            raise SecurityError("a number is larger than 2**63 - 1")
        if isinstance(result, str | list | tuple) and len(result) > MAX_OUTPUT:
            raise SecurityError(f"a value is longer than {MAX_OUTPUT}")
        return result

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            _check_method(function.__name__, owner, args)
        return super().call(context, function, *args, **kwargs)


def _refuse_null(value: object) -> object:
    """A model would be asked about the word None."""
    if value is None:
        raise SecurityError("a value that it writes is null; fill it in, or write {{ name | default('-', true) }}")
    return value


def _check(tree: nodes.Template) -> None:
    for node in tree.find_all(_REFUSED):
        name = type(node).__name__.lower()
        raise SecurityError(f"{name} is not available in a prompt template (line {node.lineno})")
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            raise SecurityError(f"recursive loops are not available in a prompt template (line {loop.lineno})")


def _joined(parts: Iterable[str]) -> str:
    kept, size = [], 0
    for part in parts:
        size += len(part)
        if size > MAX_OUTPUT:
            raise SecurityError(f"the prompt is longer than {MAX_OUTPUT} characters")
        kept.append(part)
    return "".join(kept)


def _check_product(left: Any, right: Any) -> None:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int) and len(sequence) * count > MAX_OUTPUT:
            raise SecurityError(f"a value would be longer than {MAX_OUTPUT}")


def _check_method(name: str, owner: str, args: tuple[Any, ...]) -> None:
    if name in ("format", "format_map", "translate", "expandtabs", "center", "ljust", "rjust", "zfill"):
        raise SecurityError(f"the string method {name} is not available in a prompt template")
    if name == "replace" and len(args) >= 2:
        _check_replace(owner, args[0], args[1])
    if name == "join" and args and isinstance(args[0], list | tuple):
        _check_join(owner, args[0])


def _check_replace(text: str, old: object, new: object) -> None:
    if isinstance(old, str) and isinstance(new, str) and len(text) + (text.count(old)) * len(new) > MAX_OUTPUT:
        raise SecurityError(f"a value would be longer than {MAX_OUTPUT}")


def _check_join(separator: str, items: list[object] | tuple[object, ...]) -> None:
    if sum(len(item) for item in items if isinstance(item, str)) + len(separator) * len(items) > MAX_OUTPUT:
        raise SecurityError(f"a value would be longer than {MAX_OUTPUT}")


def _replace(text: object, old: str, new: str, count: int = -1) -> str:
    _check_replace(str(text), old, new)
    return str(text).replace(old, new, count)


def _join(items: Iterable[object], separator: str = "", attribute: str | None = None) -> str:
    found = [str(item if attribute is None else _item(item, attribute)) for item in items]
    _check_join(separator, list(found))
    return separator.join(found)


def _item(value: object, name: str) -> object:
    if not isinstance(value, Mapping) or name not in value:
        raise SecurityError(f"join finds no {name!r} in {shown(value)}")
    return value[name]
