"""Which parts of a variable a template names: `item.text` names `text` of `item`. A part that is never there is a fault
that would else show when a prompt is written, long after the first ones were sent.
"""

from __future__ import annotations

from jinja2 import Environment, TemplateError, nodes

#: What every table can do, as in `missing.items()`.
_METHODS = frozenset({"items", "keys", "values", "get"})


def mentioned(text: str, variable: str) -> set[str]:
    """The parts of `variable` that a template names; none if the template gives that name to something of its own."""
    try:
        return _mentioned(Environment().parse(text), variable)
    except (TemplateError, RecursionError, ValueError):  # said of the template itself
        return set()


def _mentioned(tree: nodes.Template, variable: str) -> set[str]:
    if any(name.name == variable and name.ctx == "store" for name in tree.find_all(nodes.Name)):
        return set()
    by_name = {node.attr for node in tree.find_all(nodes.Getattr) if _is(node.node, variable)}
    by_key = {
        node.arg.value
        for node in tree.find_all(nodes.Getitem)
        if _is(node.node, variable) and isinstance(node.arg, nodes.Const)
    }
    return {part for part in by_name | by_key if isinstance(part, str)} - _METHODS


def _is(node: nodes.Node, variable: str) -> bool:
    return isinstance(node, nodes.Name) and node.name == variable
