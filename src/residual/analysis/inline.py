"""A figure as part of a page: matplotlib's SVG with the page's colours, letters and identifiers of its own.

Colours become CSS variables, so that one figure serves light and dark; what a page does not need (fonts,
metadata, fixed size, a style sheet that would reach beyond the figure) is taken away.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from residual.analysis import style
from residual.analysis.elements import Html, visible

COLOURS = {
    style.BLUE: "blue",
    style.ORANGE: "orange",
    style.GREEN: "green",
    style.PINK: "pink",
    style.SKY: "sky",
    style.RED: "red",
    style.INK: "ink",
    style.GREY: "muted",
    style.EDGE: "edge",
    style.GRID: "line",
    style.PAPER: "paper",
}
_VARIABLES = {colour.lower(): f"var(--{name})" for colour, name in COLOURS.items()}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DROPPED = {"metadata", "style", "title"}
_KEPT_BLANK = {"text", "tspan"}


def inline_svg(svg: bytes, prefix: str, title: str) -> Html:
    """The `<svg>` element of a figure drawn as `inline`; identifiers begin with `prefix`, which no other figure has."""
    root = ElementTree.fromstring(svg)
    used = {name for element in root.iter() for name in _references(element)}
    _clean(root, prefix, used)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "plot", "role": "img", "aria-labelledby": f"{prefix}-title"}
    caption = ElementTree.Element("title", {"id": f"{prefix}-title"})
    caption.text = visible(title)
    root.insert(0, caption)
    return Html(ElementTree.tostring(root, encoding="unicode"))


def _references(element: ElementTree.Element) -> list[str]:
    found = [name for value in element.attrib.values() for name in _REFERENCE.findall(value)]
    return found + [v[1:] for k, v in element.attrib.items() if _local(k) == "href" and v.startswith("#")]


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _clean(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    element.tag = _local(element.tag)
    for child in [child for child in element if _local(child.tag) in _DROPPED]:
        element.remove(child)
    attributes = {}
    for name, value in element.attrib.items():
        name = _local(name)
        if name == "id":
            if value not in used:
                continue
            value = f"{prefix}-{value}"
        elif name == "href":
            value = f"#{prefix}-{value[1:]}" if value.startswith("#") else "".join(value.split())
        elif name == "style":
            value = _style(value)
        value = _REFERENCE.sub(rf"url(#{prefix}-\1)", value)
        attributes[name] = " ".join(value.split())
    element.attrib.clear()
    element.attrib |= attributes
    if element.tag not in _KEPT_BLANK:
        element.text = None
    element.tail = None
    for child in element:
        _clean(child, prefix, used)


def _style(text: str) -> str:
    """The declarations with the page's colours, and of a font only size and weight."""
    kept = []
    for declaration in text.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            kept += [f"font-size:{size[1]}px"] if size else []
            kept += ["font-weight:700"] if re.search(r"\b(bold|[6-9]00)\b", value) else []
        elif name and name != "font-family":
            kept.append(f"{name}:{_COLOUR.sub(_variable, value)}")
    return ";".join(kept)


def _variable(found: re.Match[str]) -> str:
    return _VARIABLES.get(found[0].lower(), found[0])
