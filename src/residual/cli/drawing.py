"""Pictures at the edge: a run is worth as much without them, so a failure to draw is only a warning."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from residual.errors import ResidualError, log
from residual.runs.folder import RunFolder

VARIABLE = "RESIDUAL_PICTURES"
_ANSWERS = {
    **dict.fromkeys(("", "yes", "1", "true", "on"), True),
    **dict.fromkeys(("no", "0", "false", "off", "none"), False),
}


def wanted() -> bool:
    """Whether to draw pictures that no command asks for: loading what draws takes a second or two of each training."""
    said = os.environ.get(VARIABLE, "").strip().lower()
    if said not in _ANSWERS:
        _warn(said)
    return _ANSWERS.get(said, True)


@cache
def _warn(said: str) -> None:
    """Once, and not for every run of a study."""
    log.warning("%s is %r, neither yes nor no: pictures are drawn", VARIABLE, said[:20])


def draw_run(folder: RunFolder, path: Path | None = None) -> Path | None:
    """Draw the curves of a run into its folder; None where that was not possible or is not wanted."""
    path = path or folder.curves_path
    if path.exists() and folder.result() is not None and path.stat().st_mtime >= folder.records_path.stat().st_mtime:
        return path
    if not wanted():
        return None
    try:
        from residual.analysis.curves import run_curves
        from residual.analysis.figures import draw_curves
        from residual.training.rates import rates_of

        draw_curves({folder.name: run_curves(folder, rates_of)}, path, title=folder.name)
    except Exception as error:  # a broken matplotlib fails in any way it likes; the run is whole
        reason = str(error) if isinstance(error, ImportError | ResidualError) else f"{type(error).__name__}: {error}"
        log.warning("the curves were not drawn: %.300s", reason)
        return None
    return path
