"""`residual curves`."""

from __future__ import annotations

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
        A .png or .svg file; without it, curves.png in the folder of a single run.
    """
    from residual.analysis.curves import run_curves
    from residual.analysis.figures import draw_curves
    from residual.analysis.style import is_ours
    from residual.errors import UsageError
    from residual.evaluation.destination import mind_places
    from residual.runs.folder import find_run
    from residual.runs.studies import runs_of
    from residual.training.rates import rates_of

    chosen = [find_run(name) for name in runs_of(runs or ("last",))]
    if out is None and len(chosen) > 1:
        raise UsageError("several runs need a file to be drawn into", "curves", "name it with --out curves.png")
    path = Path(os.path.expanduser(out)) if out is not None else chosen[0].curves_path
    if out is not None:
        mind_places([path], "--out", is_ours)
    lines = {
        run.name if len({r.name for r in chosen}) == len(chosen) else str(run.path): run_curves(run, rates_of)
        for run in chosen
    }
    draw_curves(lines, path, title=", ".join(lines) if len(lines) < 4 else f"{len(lines)} runs")
    print(printable(str(path)))
    return 0
