"""`residual evaluate`."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def evaluate(
    run: str = "last",
    /,
    *,
    split: Literal["test", "validation", "training"] | None = None,
    data: str | None = None,
    follow_links: bool = False,
    device: str = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Evaluate a trained network: top-1/3/5, loss, accuracy of each class.

    Parameters
    ----------
    run
        A run, a model folder or a checkpoint; without it, the last run.
    split
        Which images: test, or those a run held out or trained on. Without it, the test images, and where there
        are none, the held-out ones.
    data
        Where the images are, if not where they were at training; or another folder of photographs, all of whose
        images are judged, with class folders of the same names.
    follow_links
        Also read files that links in a folder of photographs lead out to.
    device
        auto, cpu, mps, cuda or cuda:N.
    json
        One JSON value instead of tables.
    """
    from residual.environment import check_versions

    check_versions()
    from rich.table import Table
    from rich.text import Text

    from residual.cli.text import printable
    from residual.cli.words import console, percent, scores_table
    from residual.evaluation.use import evaluate_run

    report = evaluate_run(run, split=split, data=data, device=device, follow_links=follow_links)
    value = report.as_dict()
    if json:
        print(json_.dumps(value))
        return 0
    name = Path(run).name if run != "last" else "the last run"
    dataset = report.origin if report.dataset == "folder" else report.dataset
    title = f"{name} at step {report.step:,} on {dataset}, single view, {report.device}, {report.seconds:.1f} s"
    console().print(scores_table(title, [(report.split, value)]))
    if split is None and report.split != "test":
        print(f"there are no test images: these are the {report.split} images")
    table = Table(title="by class")
    for column in ("class", "images", "top-1", "most often taken for"):
        table.add_column(column, justify="left" if column in ("class", "most often taken for") else "right")
    for row, label in enumerate(report.class_names):
        counts = report.evaluation.confusion[row]
        wrong = counts.clone()
        wrong[row] = 0
        most = int(wrong.argmax())
        confused = f"{report.class_names[most]} ({int(wrong[most])})" if int(wrong[most]) else ""
        cells = (label, str(int(counts.sum())), percent(value["classes"][label]), confused)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(table)
    return 0
