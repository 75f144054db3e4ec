"""`residual runs`."""

from __future__ import annotations

import json as json_
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from residual.cli.text import Whole

COLUMNS = ("run", "recipe", "network", "data", "seed", "step", "status", "validation top-1", "test top-1", "time")
GIVEN_UP = ("time", "seed", "network", "data", "recipe", "step", "validation top-1", "test top-1")
"""What a narrow terminal does without, first what is missed least."""
Many = Annotated[list[str], Parameter(allow_repeating=True, negative=())]


def runs(
    *names: str,
    where: Many | None = None,
    sort: str | None = None,
    last: Whole | None = None,
    top: Whole | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    studies: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the runs here and the studies; or compare the runs named: settings that differ, and final figures.

    A FIELD is a column as --json names it (run, recipe, validation_top1, ...) or a setting by its path, such as
    optimiser.weight_decay.

    Parameters
    ----------
    names
        Runs to compare, or one folder that holds runs; without any, all under runs/.
    where
        Only runs with FIELD=VALUE, as in `--where 'recipe=cifar10-*'`; also !=, <, <=, >, >=, which a shell wants in
        quotes: `--where 'validation_top1>=0.9'`. May be given several times.
    sort
        Sort by this FIELD: largest numbers first, words alphabetically. Without it, the oldest run comes first.
    last
        Show only this many of the newest runs; --sort orders these.
    top
        Show only this many runs, the first by --sort: `--sort validation_top1 --top 3` shows the three best.
    json
        One JSON value instead of tables: a list of the runs with their columns, with --studies one of the studies.
    studies
        The studies alone, which otherwise stand below the runs.
    """
    from residual.errors import UsageError
    from residual.runs.folder import find_run, list_runs, runs_root
    from residual.runs.selection import parse_condition, select
    from residual.runs.studies import list_studies, runs_of
    from residual.runs.summary import FIELDS, compare, names_of, summarise

    conditions = [parse_condition(text) for text in where or []]
    for flag, number in (("--last", last), ("--top", top)):
        if number is not None and number < 1:
            raise UsageError(f"{number} runs cannot be listed", flag, "give a number above 0")
    if top is not None and sort is None:
        raise UsageError("the first of no order", "--top", "add --sort FIELD, or ask for the newest with --last")
    asked = dict.fromkeys([c.field for c in conditions] + ([sort] if sort else []))
    settings = [field for field in asked if field not in FIELDS]
    folder = Path(os.path.expanduser(names[0])) if len(names) == 1 else None
    root = folder or runs_root()
    listed = list_runs(root) if len(names) < 2 else []
    below = list_studies(root) if len(names) < 2 and not (asked or last or json or studies) else []
    if not names or listed or below or studies:
        if studies:
            return _only_studies(list_studies(root), str(root), json)
        if last is not None and not conditions:
            listed = listed[-last:]  # the others need not be read
        rows = select([summarise(run, settings) for run in listed], conditions, sort, last, top)
        if json:
            print(json_.dumps(rows))
        else:
            _list(rows, str(root), settings, bool(below), len(listed))
            _say_studies(below)
        return 0
    if asked or last:
        raise UsageError(
            "--where, --sort, --last and --top choose from a list", "runs", "name no run, or the folder of runs"
        )
    chosen = [find_run(name) for name in runs_of(names)]
    rows, unlike = [summarise(run) for run in chosen], compare(chosen)
    if json:
        print(json_.dumps({"runs": rows, "differences": unlike}))
    else:
        called = names_of(chosen)
        _list([row | {"run": name} for row, name in zip(rows, called, strict=True)], "comparison")
        _differences(called, unlike)
    return 0


def _list(
    rows: list[dict[str, Any]], title: str, settings: Sequence[str] = (), others: bool = False, whole: int = 0
) -> None:
    from residual.analysis.elements import plural
    from residual.cli.tables import say_table
    from residual.cli.text import printable

    if not rows and whole:
        print(printable(f"none of {plural(whole, 'run', 'runs')} in {title} is such a one"))
        return
    if not rows:
        more = "" if others else ": `residual train` makes one"
        print(printable(f"no runs in {title}{more}"))
        return
    columns = {name: name in ("seed", "step", "time") or "top-1" in name for name in (*COLUMNS, *settings)}
    say_table(title, columns, [_cells(row, settings) for row in rows], given_up=GIVEN_UP)
    for one in rows:
        if "damaged" in one:
            print(printable(f"damaged  {one['run']}: {one['damaged']}"))


def _cells(row: dict[str, Any], settings: Sequence[str]) -> list[str]:
    from residual.cli.words import percent

    if "damaged" in row:
        return [row["run"], *[""] * 5, "damaged", *[""] * (3 + len(settings))]
    seconds = "" if row["seconds"] is None else f"{row['seconds']:,.0f} s"
    step = f"{row['step']:,}/{row['steps']:,}"
    words = [row["run"], row["recipe"], row["network"], row["data"], str(row["seed"]), step, row["status"]]
    shares = [percent(row["validation_top1"]), percent(row["test_top1"])]
    return [*words, *shares, seconds, *(str(row.get(setting, "")) for setting in settings)]


def _only_studies(studies: Sequence[dict[str, Any]], title: str, json: bool) -> int:
    from residual.cli.text import printable

    if json:
        print(json_.dumps(list(studies)))
    elif not studies:
        print(printable(f"no studies in {title}: `residual study --help` lists what there is"))
    _say_studies([] if json else studies)
    return 0


def _say_studies(studies: Sequence[dict[str, Any]]) -> None:
    from residual.cli.text import printable

    for study in studies:
        if "damaged" in study:
            print(printable(f"study    {study['study']}: damaged: {study['damaged']}"))
            continue
        # How many a search will train is known at its end.
        of = "" if study["kind"] == "search" else f" of {study['runs']}"
        what = f"{study['kind']}, {study['recipe']}, {study['finished']}{of} runs finished"
        print(printable(f"study    {study['study']}: {what}: {study['command']}"))


def _differences(names: list[str], unlike: dict[str, list[Any]]) -> None:
    from residual.cli.tables import say_table
    from residual.runs.summary import spelt

    if not unlike:
        print("no setting differs")
        return
    rows = [(path, *map(spelt, values)) for path, values in unlike.items()]
    say_table("settings that differ", dict.fromkeys(["setting", *names], False), rows, folding=["setting", *names])
