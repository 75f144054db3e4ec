"""`residual runs`."""

from __future__ import annotations

import json as json_
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from residual.cli.text import Whole

Many = Annotated[list[str], Parameter(allow_repeating=True, negative=())]


def runs(
    *names: str,
    where: Many | None = None,
    sort: str | None = None,
    last: Whole | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the runs here; or compare the runs named: settings that differ, and final figures.

    A FIELD is a column as --json names it (run, recipe, test_top1, ...) or a setting by its path, such as
    optimiser.weight_decay.

    Parameters
    ----------
    names
        Runs to compare, or one folder that holds runs; without any, all under runs/.
    where
        Only runs with FIELD=VALUE, as in `--where recipe=cifar10-*`; also !=, <, <=, >, >=. May be given several times.
    sort
        In the order of this FIELD: numbers from the largest, words by letter. Else the oldest run comes first.
    last
        Only the newest, this many.
    json
        One JSON value instead of tables.
    """
    from residual.errors import UsageError
    from residual.runs.folder import find_run, list_runs, runs_root
    from residual.runs.selection import parse_condition, select
    from residual.runs.summary import FIELDS, compare, summarise

    conditions = [parse_condition(text) for text in where or []]
    if last is not None and last < 1:
        raise UsageError(f"{last} runs cannot be listed", "--last", "give a number above 0")
    asked = dict.fromkeys([c.field for c in conditions] + ([sort] if sort else []))
    settings = [field for field in asked if field not in FIELDS]
    folder = Path(os.path.expanduser(names[0])) if len(names) == 1 else None
    listed = list_runs(folder or runs_root()) if len(names) < 2 else []
    if not names or listed:
        if last is not None and not conditions:
            listed = listed[-last:]  # the others need not be read
        rows = select([summarise(run, settings) for run in listed], conditions, sort, last)
        if json:
            print(json_.dumps(rows))
        else:
            _list(rows, str(folder or runs_root()), settings)
        return 0
    if asked or last:
        raise UsageError("--where, --sort and --last choose from a list", "runs", "name no run, or the folder of runs")
    chosen = [find_run(name) for name in names]
    rows, unlike = [summarise(run) for run in chosen], compare(chosen)
    if json:
        print(json_.dumps({"runs": rows, "differences": unlike}))
    else:
        _list(rows, "comparison")
        _differences([row["run"] for row in rows], unlike)
    return 0


def _list(rows: list[dict[str, Any]], title: str, settings: Sequence[str] = ()) -> None:
    from rich.table import Table
    from rich.text import Text

    from residual.cli.text import printable
    from residual.cli.words import console, percent

    if not rows:
        print(printable(f"no runs in {title}: `residual train` makes one"))
        return
    table = Table(title=Text(printable(title)))
    words, numbers = ("run", "recipe", "network", "data", "seed", "step", "status"), ("seed", "step", "time")
    for column in (*words, "validation top-1", "test top-1", "time", *settings):
        table.add_column(Text(column), justify="right" if column in numbers or "top-1" in column else "left")
    for row in rows:
        if "damaged" in row:
            table.add_row(Text(printable(row["run"])), *[""] * 5, Text(printable(f"damaged: {row['damaged']}")))
            continue
        seconds = "" if row["seconds"] is None else f"{row['seconds']:,.0f} s"
        step = f"{row['step']:,}/{row['steps']:,}"
        cells = [row["recipe"], row["network"], row["data"], str(row["seed"]), step, row["status"]]
        shares = [percent(row["validation_top1"]), percent(row["test_top1"])]
        more = [str(row.get(setting, "")) for setting in settings]
        table.add_row(*(Text(printable(cell)) for cell in [row["run"], *cells, *shares, seconds, *more]))
    console().print(table)


def _differences(names: list[str], unlike: dict[str, list[Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from residual.cli.text import printable
    from residual.cli.words import console

    table = Table(title="settings that differ" if unlike else "no setting differs")
    for name in ["setting", *names]:
        table.add_column(Text(printable(name)))
    for path, values in unlike.items():
        table.add_row(path, *(Text(printable(str(value))) for value in values))
    if unlike:
        console().print(table)
