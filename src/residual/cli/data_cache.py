"""`residual data cache`."""

from __future__ import annotations

import json as json_
import time
from typing import Annotated, Literal

from cyclopts import Parameter

from residual.cli.text import Number, printable

Kinds = Literal["all", "data-sets", "archives", "indexes", "findings", "weights"]


def cache(
    *,
    clear: Kinds | None = None,
    unused: Number = 0.0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List what is cached to save time, with its size; or remove it. All of it can be made or downloaded again.

    The folder is RESIDUAL_CACHE, else the system's cache folder. Files with other names in it are left alone.

    Parameters
    ----------
    clear
        Remove everything of one kind, or all.
    unused
        Only what was not used for so many days, as in `--clear all --unused 30`.
    json
        JSON instead of a table.
    """
    from residual.data.cache import cache_folder
    from residual.data.kept import KINDS, WHAT, kept
    from residual.data.kept import clear as remove
    from residual.errors import UsageError

    if not 0 <= unused < 1e6:
        raise UsageError(f"{unused:g} days", "--unused", "give a number from 0")
    things = kept(unused=unused)
    if clear is not None:
        gone = remove([one for one in things if clear in ("all", one.kind.replace(" ", "-"))])
        freed = sum(one.size for one in gone)
        if json:
            print(json_.dumps({"folder": str(cache_folder()), "removed": [one.as_dict() for one in gone]}))
        else:
            print(printable(f"removed  {len(gone):,} of {len(things):,}, {freed / 1e6:,.1f} MB ({cache_folder()})"))
        return 0
    if json:
        print(json_.dumps({"folder": str(cache_folder()), "kept": [one.as_dict() for one in things]}))
        return 0
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import console

    table = Table(title=Text(printable(str(cache_folder()))), title_justify="left")
    for column in ("kind", "what", "how many", "MB", "last used"):
        table.add_column(column, justify="right" if column in ("how many", "MB") else "left")
    for kind in KINDS:
        some = [one for one in things if one.kind == kind]
        used = time.strftime("%Y-%m-%d", time.localtime(max(one.used for one in some))) if some else ""
        table.add_row(kind, WHAT[kind], f"{len(some):,}", f"{sum(one.size for one in some) / 1e6:,.1f}", used)
    table.add_section()
    table.add_row("all", "", f"{len(things):,}", f"{sum(one.size for one in things) / 1e6:,.1f}", "")
    console().print(table)
    if things:
        print("next     residual data cache --clear all --unused 30")
    return 0
