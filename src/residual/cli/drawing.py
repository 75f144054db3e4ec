"""Pictures at the edge: a run is worth as much without them, so a failure to draw is only a warning."""

from __future__ import annotations

from pathlib import Path

from residual.errors import ResidualError, log
from residual.runs.folder import RunFolder


def draw_run(folder: RunFolder, path: Path | None = None) -> Path | None:
    """Draw the curves of a run into its folder; None where that was not possible."""
    path = path or folder.curves_path
    if path.exists() and folder.result() is not None and path.stat().st_mtime >= folder.records_path.stat().st_mtime:
        return path
    try:
        from residual.analysis.figures import curves, draw_curves

        draw_curves({folder.name: curves(folder.records())}, path, title=folder.name)
    except (ImportError, OSError, ResidualError) as error:
        log.warning("the curves were not drawn: %s", error)
        return None
    return path
