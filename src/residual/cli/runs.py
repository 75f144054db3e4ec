"""`residual runs`."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def runs(*names: str, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the runs here; or compare the runs named: settings that differ, and final figures.

    Parameters
    ----------
    names
        Runs to compare, or one folder that holds runs; without any, all under runs/.
    json
        One JSON value instead of tables.
    """
    from residual.runs.folder import find_run, list_runs, runs_root
    from residual.runs.summary import compare, summarise

    folder = Path(os.path.expanduser(names[0])) if len(names) == 1 else None
    if not names or (folder is not None and list_runs(folder)):
        rows = [summarise(run) for run in list_runs(folder or runs_root())]
        if json:
            print(json_.dumps(rows))
        else:
            _list(rows, str(folder or runs_root()))
        return 0
    chosen = [find_run(name) for name in names]
    rows, unlike = [summarise(run) for run in chosen], compare(chosen)
    if json:
        print(json_.dumps({"runs": rows, "differences": unlike}))
    else:
        _list(rows, "comparison")
        _differences([row["run"] for row in rows], unlike)
    return 0


def _list(rows: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from residual.cli.text import printable
    from residual.cli.words import console, percent

    if not rows:
        print(printable(f"no runs in {title}: `residual train` makes one"))
        return
    table = Table(title=Text(printable(title)))
    for column in (
        "run",
        "recipe",
        "network",
        "data",
        "seed",
        "step",
        "status",
        "validation top-1",
        "test top-1",
        "time",
    ):
        table.add_column(column, justify="right" if column in ("seed", "step", "time") or "top-1" in column else "left")
    for row in rows:
        if "damaged" in row:
            table.add_row(Text(printable(row["run"])), *[""] * 5, Text(f"damaged: {row['damaged']}"))
            continue
        seconds = "" if row["seconds"] is None else f"{row['seconds']:,.0f} s"
        step = f"{row['step']:,}/{row['steps']:,}"
        cells = [row["recipe"], row["network"], row["data"], str(row["seed"]), step, row["status"]]
        shares = [percent(row["validation_top1"]), percent(row["test_top1"])]
        table.add_row(*(Text(printable(cell)) for cell in [row["run"], *cells, *shares, seconds]))
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
