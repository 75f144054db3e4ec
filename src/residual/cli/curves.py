"""`residual curves`."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from residual.cli.text import printable


def curves(*runs: str, out: str | None = None) -> int:
    """Draw loss, error and learning rate of one run, or of several in one picture.

    Parameters
    ----------
    runs
        The runs to draw; without any, the last one.
    out
        A .png or .svg file, or a .csv file for the numbers, a row for each step at which something was recorded;
        without it, curves.png in the folder of a single run. What an earlier call wrote there is replaced.
    """
    from residual.analysis.curves import named_curves, table
    from residual.analysis.figures import draw_curves
    from residual.analysis.style import is_ours
    from residual.data.tables import begins_with
    from residual.errors import UsageError
    from residual.evaluation.destination import mind_places
    from residual.files import replace_file
    from residual.runs.folder import find_run
    from residual.runs.studies import runs_of
    from residual.training.rates import rates_of

    chosen = [find_run(name) for name in runs_of(runs or ("last",))]
    if out is None and len(chosen) > 1:
        raise UsageError("several runs need a file to be drawn into", "curves", "name it with --out curves.png")
    path = Path(os.path.expanduser(out)) if out is not None else chosen[0].curves_path
    numbers = path.suffix.lower() == ".csv"
    if out is not None:
        mind_places([path], "--out", (lambda one: begins_with(one, "run,step,epoch,")) if numbers else is_ours)
    if numbers:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table(named_curves(chosen)))
        replace_file(path, text.getvalue().encode(errors="backslashreplace"))
        print(printable(str(path)))
        return 0
    lines = named_curves(chosen, rates_of)
    draw_curves(lines, path, title=", ".join(lines) if len(lines) < 4 else f"{len(lines)} runs")
    print(printable(str(path)))
    return 0
