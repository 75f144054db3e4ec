"""The elements of a page. Text is escaped where it is put in; only `Html`, which these functions make, is not.

So a class named `<script>` is read as these eight letters, whatever attribute or cell it stands in.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from residual.analysis.style import shortened

VOID = {"br", "img", "input", "meta"}
_PLAIN = {"\u00a0", "\u202f", "\u200c", "\u200d"}  # spaces that do not break, and the joiners of scripts and emoji
_LONGEST_TITLE = 600


class Html(str):
    """Markup that is whole: every tag closed, every text in it escaped."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text on one line, with whatever could steer a reader (control, direction, half a character) written out."""
    return "".join(
        letter if letter.isprintable() or letter in _PLAIN else " " if letter in "\n\t" else _written_out(letter)
        for letter in text
    )


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode()


def escape(text: str) -> Html:
    return text if isinstance(text, Html) else Html(html.escape(visible(text), quote=True))


def join(parts: Iterable[str]) -> Html:
    return Html("".join(escape(part) for part in parts))


def tag(element: str, /, *content: str, **attributes: str | int | bool | None) -> Html:
    """An element. `class_` is `class`, `aria_label` is `aria-label`; an attribute that is None or False is left out."""
    words = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{escape(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Html(opening if element in VOID else f"{opening}{join(content)}</{element}>")


def named(text: str, longest: int = 40) -> Html:
    """A name given by a user: its direction kept to itself, a long one shortened and whole in its title."""
    title = shortened(visible(text), _LONGEST_TITLE) if len(text) > longest else None
    return tag("bdi", shortened(visible(text), longest), title=title)


def percent(share: float | None, digits: int = 2) -> str:
    """A share in percent, never rounded to nothing or to all."""
    if share is None or not math.isfinite(share):
        return "–"
    least = 0.5 * 10.0 ** -(digits + 2)
    if 0 < share < least:
        return f"<\u00a0{10.0**-digits:.{digits}f}\u00a0%"
    if 1 - least < share < 1:
        return f">\u00a0{100 - 10.0**-digits:.{digits}f}\u00a0%"
    return f"{100 * share:.{digits}f}\u00a0%"


def points(share: float | None, digits: int = 2) -> str:
    """A difference of shares: of percentages, which lie points apart and not percent."""
    return percent(share, digits).replace("%", "points")


def number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


@dataclass(frozen=True)
class Column:
    """The head of a column; numbers stand at its right edge."""

    name: str
    numeric: bool = False
    kind: str | None = None


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[str]], *, foot: Sequence[str] = (), kind: str = ""
) -> Html:
    """A table that scrolls within itself where it is too wide; the first cell of a row is the row's head."""

    def line(cells: Sequence[str], name: str = "td") -> Html:
        head, *rest = (
            tag("th" if place == 0 else name, cell, scope="row" if place == 0 else None, class_=_side(column))
            for place, (cell, column) in enumerate(zip(cells, columns, strict=True))
        )
        return tag("tr", head, *rest)

    heads = join(tag("th", column.name, scope="col", class_=_side(column)) for column in columns)
    body = join(line(row) for row in rows)
    parts = [tag("caption", caption), tag("thead", tag("tr", heads)), tag("tbody", body)]
    if foot:
        parts.append(tag("tfoot", line(foot)))
    return scrolling(tag("table", *parts, class_=kind or None), caption)


def scrolling(content: Html, label: str) -> Html:
    """Content that may be wider than a narrow screen; it can be scrolled with the keyboard too."""
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=label)


def _side(column: Column) -> str | None:
    return "n" if column.numeric else column.kind


def terms(pairs: Iterable[tuple[str, str]]) -> Html:
    """A list of names and values."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))
