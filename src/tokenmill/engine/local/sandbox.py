"""Rendering of templates that anyone may have written: no way out, and an end to time, memory and output.

Jinja's immutable sandbox keeps a template from attributes and changes. It doesn't keep it from a loop of 10^15 rounds
or a string of 1 GB, so a `Meter` does, and this environment leads everything past it:

- Whatever makes a value larger than its operands (lists, `+`, `~`, `*`, joins, filters, calls, output) is measured,
  before it is made where it may be much larger.
- Filters and methods are those that model templates use. Others (`center`, `format`, ...) don't exist here.

Nothing is computed while compiling, as that would escape the meter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from tokenmill.engine.local.meter import ELEMENT_SIZE, METER, WHOLE_BITS, Exhausted

SOURCE_LIMIT = 1 << 17

_FILTERS = """
    abs capitalize count d default dictsort e escape first float indent int items join last length list lower map max
    min reject rejectattr replace reverse safe select selectattr sort string title tojson trim unique upper
"""
_TEXT_METHODS = """
    capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace
    istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip
    split splitlines startswith strip swapcase title upper
"""
FILTERS = frozenset(_FILTERS.split())
METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS.split()),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    list: frozenset(("copy", "count", "index")),
    tuple: frozenset(("count", "index")),
    int: frozenset(),
    float: frozenset(("is_integer",)),
}


def _concat(parts: Iterable[str]) -> str:
    found = list(parts)
    METER.get().charge(sum(map(len, found)))
    return "".join(found)


def _text(value: object) -> str:
    """The value as output writes it, measured first."""
    if isinstance(value, str):
        return value
    if value is not None and not isinstance(value, int | float | list | tuple | dict | Undefined):
        raise TypeError(f"a {type(value).__name__} can't be written as text")
    METER.get().measure(value)
    return str(value)


@pass_context
def _finalize(_context: Context, value: object) -> str:
    return _text(value)


@pass_context
def _measured(_context: Context, value: object) -> object:
    """The filter behind every list, tuple and dict that a template writes out."""
    METER.get().measure(value)
    return value


@pass_context
def _tilde(_context: Context, values: Sequence[object]) -> str:
    """The operator `~`."""
    return _concat(map(_text, values))


@pass_context
def _apply(context: Context, value: object, name: str, /, *args: object, **kwargs: object) -> object:
    """The filter behind every filter, so that all pass `call_filter`."""
    return context.environment.call_filter(name, value, args, kwargs, context)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it for templates; Jinja's own escapes HTML."""
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 16):
        raise ValueError(f"indent {indent!r} must be 0 to 16")
    item, key = separators or ((", ", ": ") if indent is None else (",", ": "))
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=(item, key), sort_keys=sort_keys)
    return _concat(_charged(encoder.iterencode(value)))


def _charged(parts: Iterable[str]) -> Iterator[str]:
    """Parts that are charged for while they are made: separators and indents may outweigh the value."""
    for part in parts:
        METER.get().charge(len(part))
        yield part


def _expected_size(name: str, value: object, args: Sequence[object]) -> int:
    """What a filter or method of text makes beyond the size of its operands."""
    first = args[0] if args else None
    text = value if isinstance(value, str) else ""
    match name:
        case "replace" if len(args) > 1:
            return text.count(_text(first)) * len(_text(args[1]))
        case "indent":
            width = len(first) if isinstance(first, str) else first
            return (text.count("\n") + 1) * (width if isinstance(width, int) else 4)
        case "split" | "rsplit" | "splitlines":
            return ELEMENT_SIZE * (text.count(first) if isinstance(first, str) and first else len(text))
        case "list" | "sort" | "unique":
            return ELEMENT_SIZE * len(text)
    return 0


class _Generation(Extension):
    """`{% generation %}` marks what a model is trained on; for rendering it means nothing."""

    tags = {"generation"}  # noqa: RUF012  # declared so by the base class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Measuring(NodeTransformer):
    """Leads what makes larger values through the filters above."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        node = super().generic_visit(node, *args, **kwargs)
        match node:
            case nodes.Concat():
                return self._filter(node, nodes.List(node.nodes), "tilde")
            case nodes.Filter():
                node.args.insert(0, nodes.Const(node.name))
                node.name = "apply"
            case nodes.List() | nodes.Dict():
                return self._filter(node, node, "measured")
            case nodes.Tuple(ctx="load"):
                return self._filter(node, node, "measured")
        return node

    def _filter(self, place: nodes.Node, value: nodes.Expr, name: str) -> nodes.Filter:
        found = nodes.Filter(value, name, [], [], None, None, lineno=place.lineno)
        assert place.environment is not None, "parsed nodes have their environment"
        found.set_environment(place.environment)
        return found


class _Namespace(Namespace):
    """Without names that mean something to Python or Jinja."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may name an attribute `self`
        self, *given = args
        found = dict(*given, **kwargs)
        for name in found:
            _check_name(name)
        Namespace.__init__(self, found)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        raise TypeError("a namespace can't be written as text")


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"a namespace can't have an attribute {name!r}")


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all templates. Templates must be rendered inside `metered`."""

    concat = staticmethod(_concat)  # Jinja looks it up on the environment
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=_finalize,
            extensions=[_Generation, loopcontrols],
        )
        self.globals = {"range": self.globals["range"], "dict": _dict, "namespace": _Namespace, **functions}
        self.filters = {name: found for name, found in self.filters.items() if name in FILTERS}
        self.filters |= {"tojson": _tojson, "apply": _apply, "measured": _measured, "tilde": _tilde}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Measuring().visit(tree)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        known = next((METHODS[kind] for kind in type(obj).__mro__ if kind in METHODS), None)
        return super().is_safe_attribute(obj, attr, value) if known is None else attr in known

    def wrap_str_format(self, value: Any) -> None:
        """Formatting isn't offered: a width of a few digits would make any size."""

    def call_filter(
        self,
        name: str,
        value: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        context: Context | None = None,
        eval_ctx: nodes.EvalContext | None = None,
    ) -> Any:
        if name not in FILTERS:
            raise jinja2.TemplateRuntimeError(f"there is no filter {name!r}; known: {', '.join(sorted(FILTERS))}")
        meter, args, kwargs = METER.get(), args or (), kwargs or {}
        if name in ("join", "list") and isinstance(value, Iterator):
            value = list(value)
        for operand in (value, *args, *kwargs.values()):
            meter.measure(operand)
        if name == "join":
            meter.charge(len(value) * (len(_text(args[0] if args else kwargs.get("d", "")))))
        meter.charge(_expected_size(name, value, (*args, *kwargs.values())))
        found = super().call_filter(name, value, args, kwargs, context, eval_ctx)
        meter.measure(found)
        return found

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner, meter = getattr(__obj, "__self__", None), METER.get()
        if isinstance(owner, str):
            if __obj.__name__ == "join":
                args = ([_text(item) for item in args[0]],)
                meter.charge(sum(map(len, args[0])) + len(args[0]) * len(owner))
            meter.charge(len(owner) + _expected_size(__obj.__name__, owner, args))
        found = super().call(__context, __obj, *args, **kwargs)
        meter.measure(found)
        return found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        meter = METER.get()
        meter.measure(left)
        meter.measure(right)
        match operator, left, right:
            case "%", str(), _:
                raise TypeError("formatting with % isn't available in templates")
            case "*", (str() | list() | tuple()) as many, int(times):
                meter.charge(ELEMENT_SIZE * len(many) * max(0, times))
            case "*", int(times), (str() | list() | tuple()) as many:
                meter.charge(ELEMENT_SIZE * len(many) * max(0, times))
            case "**", int(), int() if left.bit_length() * abs(right) > WHOLE_BITS:
                raise Exhausted(f"it computes with numbers of more than {WHOLE_BITS} bits")
        found = super().call_binop(context, operator, left, right)
        meter.measure(found)
        return found
