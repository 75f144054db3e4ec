"""`residual study seeds`."""

from __future__ import annotations

import json as json_
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from residual.cli.asked import asked, ending
from residual.cli.text import Log, Number, Whole, printable
from residual.launch import speaks


def seeds(
    recipe: str = "digits",
    /,
    *,
    seeds: Whole = 3,
    first: Whole = 0,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    data: str | None = None,
    epochs: Number | None = None,
    network: str | None = None,
    device: str | None = None,
    protocol: Literal["tune", "final"] | None = None,
    set: Annotated[list[str] | None, Parameter(allow_repeating=True, negative=())] = None,
    out: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    log: Log = "auto",
) -> int:
    """Train a recipe with several seeds: mean +- deviation in one table and one figure.

    Interrupt it as you like; the same command goes on, and trains nothing twice.

    Parameters
    ----------
    recipe
        A named recipe, a recipe.toml file, or a folder of photographs.
    seeds
        How many seeds.
    first
        The first of them.
    from_
        Begin every run from trained weights, as in `residual train`; photographs then get the settings for fine-tuning.
    data
        The folder or archive with the images.
    epochs
        Passes over the training images.
    network
        A named network.
    device
        auto, cpu, mps, cuda or cuda:N.
    protocol
        tune holds a tenth of the training images out for validation, final trains on all of them; photographs with
        a val/ of their own are validated on that under both.
    set
        Any setting by path; may be given several times.
    out
        The folder of the study; without it, runs/seeds-RECIPE.
    json
        The figures as one JSON value; the lines of the runs go to standard error.
    log
        As in `residual train`.
    """
    from residual.analysis.elements import plural
    from residual.cli.drawing import draw_run
    from residual.cli.words import console, telling
    from residual.errors import UsageError
    from residual.studies.seeds import study_seeds
    from residual.training.progress import Listener, Silent

    if seeds < 1:
        raise UsageError(f"{seeds} seeds are no study", "--seeds", "give 1 or more")
    weights = {"from": from_}
    changes = asked(set, **weights, data=data, epochs=epochs, network=network, device=device, protocol=protocol)
    changes += ending(recipe, protocol, changes)
    first_process = speaks()

    def listener(seed: int) -> Listener:
        if not first_process:
            return Silent()
        print(f"seed {seed}", file=sys.stderr if json else None, flush=True)
        return telling(log, json)

    found = study_seeds(recipe, range(first, first + seeds), set=changes, out=out, listener=listener)
    if not first_process:
        return 0
    for run in found.runs:
        draw_run(run)
    counted = plural(len(found.seeds), "seed", "seeds")
    picture = _draw(found.folder, [run.records() for run in found.runs], f"{found.recipe}, {counted}")
    if json:
        print(json_.dumps(found.as_dict() | {"picture": str(picture) if picture else None}))
        return 0
    table = Table(title=printable(f"{found.recipe}: {counted}, last step, single view"), title_justify="left")
    for name in ("split", "top-1", "top-3", "top-5", "loss"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, figures in found.final.items():
        shares = [_pair(figures[name].mean, figures[name].std, 100) + " %" for name in ("top1", "top3", "top5")]
        table.add_row(split, *shares, _pair(figures["loss"].mean, figures["loss"].std, 1, 4))
    console().print(table)
    print(f"a run    {_pair(found.seconds.mean, found.seconds.std, 1, 0)} s")
    print(printable(f"study    {found.folder}"))
    if picture is not None:
        print(printable(f"figure   {picture}"))
    return 0


def _pair(mean: float, std: float | None, scale: float, digits: int = 2) -> str:
    spread = f" ± {scale * std:.{digits}f}" if std is not None else ""
    return f"{scale * mean:.{digits}f}{spread}"


def _draw(folder: Path, records: list[list[dict[str, object]]], title: str) -> Path | None:
    from residual.cli.drawing import wanted
    from residual.errors import log

    if not wanted():
        return None
    path = folder / "study.png"
    try:
        from residual.analysis.bands import band, draw_bands
        from residual.analysis.curves import curves

        traced = [curves(found) for found in records]
        names = ("training error", "validation error", "test error")
        bands = {name.removesuffix(" error"): made for name in names if (made := band(traced, name)) is not None}
        draw_bands(bands, path, title)
    except ImportError as error:
        log.warning("the figure was not drawn: %s", error)
        return None
    return path
