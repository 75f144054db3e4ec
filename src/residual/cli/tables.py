"""Tables that fit their terminal: names and numbers stay whole, and columns are left out where there is no room.

Elsewhere than on a terminal a table is as wide as its longest row, so that lines can be searched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from residual.cli import words
from residual.cli.text import printable

_TEXT = 40  # width of a column of texts, where no terminal limits it
_NARROWEST = 4  # where nothing more can be left out
_FOLDED = 12  # least width of a column whose texts may be folded


def room(widths: Iterable[int]) -> int:
    """The width of a table of columns of these widths."""
    return sum(width + 3 for width in widths) + 1


def fitting(wide: Mapping[str, int], width: int, given_up: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns that find room in a table of this width, the least important given up first; and those given up."""
    left: list[str] = []
    for name in given_up:
        if name in wide and room(wide[one] for one in wide if one not in left) > width:
            left.append(name)
    for name in reversed(left):  # a narrow one may find room where a wide one went
        if room(wide[one] for one in wide if one not in left or one == name) <= width:
            left = [one for one in left if one != name]
    return [name for name in wide if name not in left], [name for name in wide if name in left]


def say_table(
    title: str,
    columns: Mapping[str, bool],
    rows: Sequence[Sequence[str | Text]],
    *,
    folding: Collection[str] = (),
    given_up: Sequence[str] = (),
    more: str = "",
) -> None:
    """Print a table to standard output.

    Args:
        columns: by name, those with True at the right edge.
        rows: words, of which what could steer a terminal is written out; or texts, which are shown as they are.
        folding: columns of texts that may take several lines; all others stay whole.
        given_up: columns that are left out where there is no room, the first of them first.
        more: where to find what is left out.
    """
    screen, names = words.console(), list(columns)
    cells = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
    wide = {name: max([0, *(row[place].cell_len for row in cells)]) for place, name in enumerate(names)}
    least = {  # a heading may take several lines, at its blanks
        name: max([min(wide[name], _FOLDED) if name in folding else wide[name], *map(cell_len, name.split())])
        for name in names
    }
    if screen.is_terminal:
        shown, left = fitting(least, screen.width, given_up)
    else:
        shown, left = names, []
        texts = {name for place, name in enumerate(names) if any(isinstance(row[place], Text) for row in rows)}
        whole = room(min(_TEXT, wide[name]) if name in texts else max(wide[name], cell_len(name)) for name in names)
        screen.width = max(screen.width, whole)
    widths = _widths(shown, least, wide, folding, screen.width)
    caption = f"left out for want of room: {', '.join(left)}{more}" if left else None
    table = Table(title=Text(printable(title)), title_justify="left", caption=caption, caption_justify="left")
    for name in shown:
        table.add_column(
            Text(printable(name)), justify="right" if columns[name] else "left", overflow="fold", width=widths[name]
        )
    for row in cells:
        table.add_row(*(row[names.index(name)] for name in shown))
    screen.print(table)


def _widths(
    shown: Sequence[str], least: Mapping[str, int], wide: Mapping[str, int], folding: Collection[str], width: int
) -> dict[str, int]:
    """What each column gets: what it needs at least, then texts what they would like, then headings theirs."""
    found = {name: least[name] for name in shown}
    spare = width - room(found.values())
    texts = sorted((one for one in shown if one in folding), key=lambda one: wide[one])
    for place, name in enumerate(texts):
        share = spare // (len(texts) - place)
        more = (
            min(share, max(0, wide[name] - found[name])) if spare > 0 else max(share, min(0, _NARROWEST - found[name]))
        )
        found[name], spare = found[name] + more, spare - more
    for name in shown if spare > 0 else ():
        more = min(spare, max(0, max(wide[name], cell_len(name)) - found[name]))
        found[name], spare = found[name] + more, spare - more
    return found
