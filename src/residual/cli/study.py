"""`residual study`: its verbs, and `show`."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from residual.cli import study_arms, study_cost, study_runs
from residual.cli.study_compare import compare
from residual.cli.study_seeds import seeds
from residual.cli.text import printable

study = cyclopts.App(name="study", help="Studies: what takes several trainings, or measures trained networks.")
study.command(seeds)
study.command(compare)
for verb in (
    study_arms.degradation,
    study_arms.units,
    study_arms.shortcuts,
    study_arms.momentum,
    study_arms.batchnorm,
    study_arms.dropout,
    study_arms.initialisation,
    study_arms.seed001,
    study_runs.responses,
    study_runs.lesion,
    study_runs.probes,
    study_cost.cost,
):
    study.command(verb)
study.command(study_cost.cifar10, name="cifar-10")
study.command(study_cost.rates, name="find-rate")
MOST_ROWS = 200


@study.command
def show(
    name: str,
    /,
    *,
    storage: str | None = None,
    out: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show a search by `residual tune`: its individuals with genes and fitness, the best, a figure of how it went.

    Parameters
    ----------
    name
        The name of the study.
    storage
        Its database; without it $RESIDUAL_STORAGE, else the file in runs/NAME.
    out
        A .png or .svg file for the figure; without it, study.png in runs/NAME.
    json
        One JSON value instead of a table, without a figure.
    """
    from residual.tuning import need_optuna

    need_optuna()
    from residual.analysis.style import is_ours
    from residual.evaluation.destination import mind_places
    from residual.tuning.study import open_study
    from residual.tuning.summary import summarise

    opened = open_study(name, storage or os.environ.get("RESIDUAL_STORAGE"))
    summary = summarise(opened)
    opened.close()
    if json:
        print(json_.dumps(summary))
        return 0
    path = None if out is None else Path(out).expanduser()
    if path is not None:
        mind_places([path], "--out", is_ours)
    _table(summary)
    if summary["individuals"]:
        picture = draw(summary, opened.folder, path)
        if picture is not None:
            print(printable(f"figure   {picture}"))
    if opened.address.file is not None:
        print(printable(f"more     optuna-dashboard sqlite:///{opened.address.file}"))
    return 0


def draw(summary: dict[str, Any], folder: Path, path: Path | None = None) -> Path | None:
    """Draw the study; None, with a warning, where its own folder takes no picture."""
    from residual.analysis.tuning_figures import draw_study, history
    from residual.errors import ResidualError, log

    algorithm = summary["algorithm"]["name"]
    title = f"{summary['study']}: {algorithm}, generation {summary['generation']} of {summary['generations']}"
    try:
        draw_study(history(summary), path or folder / "study.png", title)
    except (ImportError, OSError, ResidualError) as error:
        if path is not None:
            raise
        log.warning("the study was not drawn: %s", error)
        return None
    return path or folder / "study.png"


def _table(summary: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import console, percent

    counts = ", ".join(f"{count} {word}" for word, count in summary["counts"].items() if count)
    head = f"{summary['study']}: {summary['algorithm']['name']}, {summary['status']}; {counts or 'no individual yet'}"
    table = Table(title=Text(printable(head)), title_justify="left")
    paths = list(summary["space"]["genes"])
    for column in ("individual", "generation", "state", "validation top-1", *paths, "came about", "note"):
        table.add_column(Text(printable(column)), overflow="fold", justify="right" if column in paths else "left")
    rows = summary["individuals"]
    for row in rows[-MOST_ROWS:]:
        values = [row["genes"][path] for path in paths]
        parents = f" ({', '.join(map(str, row['parents']))})" if row["parents"] else ""
        twin = summary["duplicates"].get(str(row["number"]))
        note = row["reason"] or ("" if twin is None else f"the genes of {twin}")
        cells = [
            str(row["number"]),
            str(row["generation"]),
            row["state"],
            percent(row["fitness"]),
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values),
            f"{row['how']}{parents}",
            note,
        ]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(table)
    if len(rows) > MOST_ROWS:
        print(f"the last {MOST_ROWS} of {len(rows):,} individuals; --json has them all")
    best = summary["best"]
    if best is not None:
        print(f"best     individual {best['number']}: validation top-1 {best['fitness']:.2%}")
