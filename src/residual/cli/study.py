"""`residual study`: its verbs, and `show`."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter

from residual.cli import study_arms, study_cost, study_runs
from residual.cli.study_compare import compare
from residual.cli.study_seeds import seeds
from residual.cli.text import printable

if TYPE_CHECKING:
    from rich.table import Table

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
    from residual.errors import log

    algorithm = summary["algorithm"]["name"]
    title = f"{summary['study']}: {algorithm}, generation {summary['generation']} of {summary['generations']}"
    try:
        draw_study(history(summary), path or folder / "study.png", title)
    except Exception as error:  # a search of hours is not lost over its picture
        if path is not None:
            raise
        log.warning("the study was not drawn: %s", error)
        return None
    return path or folder / "study.png"


def _table(summary: dict[str, Any]) -> None:
    """The individuals, no number ever broken: three genes fit into 80 columns, more may share one."""
    from rich.measure import Measurement

    from residual.cli.words import console

    screen = console()
    table = _individuals(summary, apart=True)
    needed = Measurement.get(screen, screen.options.update(width=10_000), table).minimum
    screen.print(table if needed <= screen.width else _individuals(summary, apart=False))
    if len(summary["individuals"]) > MOST_ROWS:
        print(f"the last {MOST_ROWS} of {len(summary['individuals']):,} individuals; --json has them all")
    best = summary["best"]
    if best is not None:
        print(f"best     individual {best['number']}: validation top-1 {best['fitness']:.2%}")


def _individuals(summary: dict[str, Any], *, apart: bool) -> Table:
    """The table, each gene in a column of its own or all in one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import percent

    counts = ", ".join(f"{count} {word}" for word, count in summary["counts"].items() if count)
    head = f"{summary['study']}: {summary['algorithm']['name']}, {summary['status']}; {counts or 'no individual yet'}"
    table = Table(title=Text(printable(head)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    paths = list(summary["space"]["genes"])
    for column in ("no.", "gen.", "validation\ntop-1"):
        table.add_column(column, justify="right", no_wrap=True)
    for path in paths if apart else []:
        # A line for the section and one for the setting.
        parts = [printable(part) for part in path.partition(".")]
        table.add_column(Text(f"{parts[0]}{parts[1]}\n{parts[2]}"), justify="right", no_wrap=True)
    if not apart:
        table.add_column("genes", no_wrap=True)
    table.add_column("came about", min_width=14 if apart else 6, overflow="fold")
    for row in summary["individuals"][-MOST_ROWS:]:
        genes = {path: _short(row["genes"][path]) for path in paths}
        parents = f" ({', '.join(map(str, row['parents']))})" if row["parents"] else ""
        twin = summary["duplicates"].get(str(row["number"]))
        state = "" if row["state"] == "trained" else row["state"]
        note = row["reason"] or ("" if twin is None else f"the genes of {twin}")
        cells = [
            str(row["number"]),
            str(row["generation"]),
            percent(row["fitness"]),
            *(genes.values() if apart else ["\n".join(f"{path} {gene}" for path, gene in genes.items())]),
            "; ".join(part for part in (state, f"{row['how']}{parents}", note) if part),
        ]
        table.add_row(*(Text("\n".join(printable(line) for line in cell.splitlines())) for cell in cells))
    return table


def _short(gene: object) -> str:
    return f"{gene:.4g}" if isinstance(gene, float) else str(gene)
