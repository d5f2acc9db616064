"""A drawn chart as part of a page: no inline style, no foreign ids, colours as variables, a title and a description.

matplotlib writes `style` attributes, which a strict content security policy refuses. Each distinct style becomes a
class of one style sheet that all charts of a page share. Ids are dropped unless something refers to them, and carry
the name of their chart. Numbers are cut to two decimals, a hundredth of a point.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tokenmill.report.ink import INKS
from tokenmill.report.plots import Chart, drawing, figure
from tokenmill.report.visible import visible

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NAME_OF = {values[0]: name for name, values in INKS.items()}
_GEOMETRY = ("d", "points", "x", "y", "width", "height", "transform", "viewBox")


class Sheet:
    """The styles of all charts of a page, each under a class."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def name(self, style: str) -> str:
        return self._classes.setdefault(style, f"p{len(self._classes)}")

    @property
    def css(self) -> str:
        return "".join(f".{name}{{{style}}}" for style, name in self._classes.items())


def inline(chart: Chart, sheet: Sheet, *, narrow: bool = False) -> str:
    """The chart as an `svg` element to put into a page that has the sheet's styles."""
    made = figure(chart, narrow=narrow)
    buffer = io.BytesIO()
    with drawing():
        made.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    key = f"{chart.name}-{'narrow' if narrow else 'wide'}"
    _clean(root, sheet, key)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-labelledby": f"{key}-t {key}-d"})
    root.set("class", "narrow" if narrow else "wide")
    for place, (tag, text) in enumerate((("title", chart.title), ("desc", chart.text))):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag[0]}"})
        element.text = visible(text)
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(root: Element, sheet: Sheet, key: str) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    written = ElementTree.tostring(root, encoding="unicode")
    wanted = set(_REFERENCE.findall(written)) | set(re.findall(r'href="#([^"]+)"', written))
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        element.attrib.clear()
        for name, value in attributes.items():
            _keep(element, name, value, wanted, key)
        if style := _style(attributes.get("style", "")):
            element.set("class", sheet.name(style))
        for attribute in ("text", "tail"):
            if not (getattr(element, attribute) or "").strip():
                setattr(element, attribute, None)


def _keep(element: Element, name: str, value: str, wanted: set[str], key: str) -> None:
    """Puts back an attribute that matters, cut short."""
    if name == "id":
        if value in wanted:
            element.set("id", f"{key}-{value}")
    elif name == "href" and value.startswith("#"):
        element.set("href", f"#{key}-{value[1:]}")
    elif name == "clip-path":
        element.set("clip-path", _REFERENCE.sub(rf"url(#{key}-\1)", value))
    elif name == "transform" and value.startswith("rotate(-0 "):
        return
    elif name in _GEOMETRY:
        element.set(name, _NUMBER.sub(_short, value.replace("\n", "").strip()))


def _style(style: str) -> str:
    """Declarations with our variables for colours; the page chooses the family of letters."""
    kept = []
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # size and family in one
            name, value = "font-size", next(word for word in value.split() if word.endswith("px"))
        if name and name not in ("font-family", "stroke-miterlimit", "stroke-linejoin", "stroke-linecap"):
            kept.append(f"{name}:{_COLOUR.sub(_variable, value)}")
    return ";".join(kept)


def _variable(found: re.Match[str]) -> str:
    name = _NAME_OF.get(found[0])
    return f"var(--{name})" if name else found[0]


def _short(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _local(name: str) -> str:
    return name.rpartition("}")[2]
