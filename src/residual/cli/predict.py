"""`residual predict`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from residual.cli.text import Whole

if TYPE_CHECKING:
    from residual.evaluation.classifier import Classifier
    from residual.evaluation.use import Prediction


def predict(
    run: str,
    /,
    *images: str,
    top_k: Whole = 3,
    format: Literal["table", "json", "csv"] = "table",
    picture: str | None = None,
    embeddings: str | None = None,
    device: str = "auto",
) -> int:
    """Name the classes of image files, or of all images in folders.

    Parameters
    ----------
    run
        A run, a model folder or a checkpoint; `last` is the last run.
    images
        PNG, JPEG or WebP files, or folders of them.
    top_k
        How many classes to name for each image.
    format
        A table, JSON or CSV.
    picture
        Also draw the images with their classes into this .png or .svg file.
    embeddings
        Also write the vector the classes are read from, a row for each image, into this .safetensors or .npz file.
    device
        auto, cpu, mps, cuda or cuda:N.
    """
    from residual.environment import check_versions
    from residual.errors import DataError, ResidualError, UsageError, log

    if not images:
        raise UsageError("no image was named", "predict", "as in `residual predict RUN IMAGE_OR_FOLDER ...`")
    check_versions()
    from residual.evaluation.embeddings import Collector, check_name, save
    from residual.evaluation.use import predict as look

    vectors = Path(embeddings).expanduser() if embeddings is not None else None
    if vectors is not None:
        check_name(vectors)
    collector = Collector()
    prepared: Callable[[Classifier], None] = collector.listen if vectors is not None else lambda _: None
    bad: list[ResidualError] = []
    found = look(run, images, top_k=top_k, device=device, unreadable=bad.append, prepared=prepared)
    _WRITERS[format](found)
    if vectors is not None and found:
        save(vectors, collector.features(), [p.file for p in found], collector.facts)
    if picture is not None and found:
        _draw(found, Path(picture), run)
    for error in bad:
        log.warning("left out: %s", error)
    if bad:
        total = len(bad) + len(found)
        raise DataError(f"{len(bad)} of {total} images could not be read", bad[0].where, "replace or remove them")
    return 0


def _table(found: Sequence[Prediction]) -> None:
    from rich.table import Table
    from rich.text import Text

    from residual.cli.text import printable
    from residual.cli.words import console, percent

    table = Table()
    table.add_column("image", overflow="fold")
    for place in range(max((len(p.best) for p in found), default=0)):
        table.add_column("class" if place == 0 else f"{place + 1}.")
    for prediction in found:
        cells = [Text(f"{printable(name)} {percent(share)}") for name, share in prediction.best]
        table.add_row(Text(printable(prediction.file)), *cells)
    console().print(table)


def _json(found: Sequence[Prediction]) -> None:
    rows = [
        {"file": p.file, "predictions": [{"class": name, "probability": share} for name, share in p.best]}
        for p in found
    ]
    print(json.dumps(rows))


def _csv(found: Sequence[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "probability"])
    for p in found:
        writer.writerows([p.file, rank, name, f"{share:.6f}"] for rank, (name, share) in enumerate(p.best, 1))


_WRITERS = {"table": _table, "json": _json, "csv": _csv}


def _draw(found: Sequence[Prediction], path: Path, run: str) -> None:
    from residual.analysis.figures import draw_predictions
    from residual.data.images import read_image
    from residual.evaluation.use import load

    preprocessing = load(run).preprocessing
    shown = [read_image(Path(p.file), preprocessing).permute(1, 2, 0).squeeze(2).numpy() for p in found[:36]]
    blank = [shown[0]] * (len(found) - len(shown))
    draw_predictions([*shown, *blank], [Path(p.file).name for p in found], [p.best for p in found], path)
