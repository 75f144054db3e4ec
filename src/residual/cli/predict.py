"""`residual predict`."""

from __future__ import annotations

import csv
import io
import json as json_
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from residual.cli.text import Whole, printable

_DRAWN = 36  # images that a picture shows
STANDARD_INPUT = "<standard input>"
"""What `-` is called among the images."""

if TYPE_CHECKING:
    from residual.data.preprocessing import Preprocessing
    from residual.errors import ResidualError
    from residual.evaluation.classifier import Classifier
    from residual.evaluation.predicting import Prediction, Temperature


def predict(
    run: str,
    /,
    *images: str,
    top_k: Whole = 3,
    format: Literal["table", "json", "csv"] | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    picture: str | None = None,
    embeddings: str | None = None,
    temperature: str | None = None,
    device: str = "auto",
) -> int:
    """Name the classes of image files, or of all images in folders.

    Parameters
    ----------
    run
        A run, a model folder or a checkpoint; `last` is the last run.
    images
        Image files (PNG, JPEG, WebP, GIF, BMP, TIFF, PPM), folders of them, patterns such as "photos/*.jpg"; - reads
        names from standard input, one a line.
    top_k
        How many classes to name for each image.
    format
        A table (unless given), JSON or CSV.
    json
        The same as --format json.
    picture
        Also draw the images with their classes into this .png or .svg file; one of an earlier call is replaced.
    embeddings
        Also write the feature vector of each image, from which its class is predicted, as a row of this .safetensors or
        .npz file; one of an earlier call is replaced.
    temperature
        Divide the logits by this number; calibrated fits it on the held-out validation images of the run.
    device
        auto, cpu, mps, cuda or cuda:N.
    """
    from residual.environment import check_versions
    from residual.errors import DataError, UsageError, log

    if json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} cannot both be", "predict", "leave one of the two out")
    mind_first_word(run, "predict", images)
    images = _named(images)
    check_versions()
    from residual.analysis.style import is_ours, picture_format
    from residual.cli.words import bar
    from residual.evaluation.destination import EMBEDDINGS, holds, mind_images, mind_places, photographs, told_of
    from residual.evaluation.embeddings import Collector, check_name, save
    from residual.evaluation.predicting import predict as look

    drawn = Path(picture).expanduser() if picture is not None else None
    if drawn is not None:
        picture_format(drawn)
        mind_images([drawn], "--picture", [Path(name).expanduser() for name in images])
        mind_places([drawn], "--picture", is_ours)
    vectors = Path(embeddings).expanduser() if embeddings is not None else None
    if vectors is not None:
        check_name(vectors)
        mind_places([vectors], "--embeddings", holds(EMBEDDINGS))
    collector = Collector()
    loaded: list[Classifier] = []

    def prepared(classifier: Classifier) -> None:
        loaded.append(classifier)
        if drawn is not None:
            mind_images([drawn], "--picture", [photographs(classifier.provenance.get("data", {}))])
        if vectors is not None:
            collector.listen(classifier)

    bad: list[ResidualError] = []
    with bar("predicting") as progress:
        found = look(
            run,
            images,
            top_k=top_k,
            device=device,
            temperature=_temperature(temperature),
            unreadable=bad.append,
            prepared=prepared,
            progress=lambda done, whole: progress(run, done, whole),
        )
    if json or format == "json":
        _json(found, bad)
    elif format == "csv":
        _csv(found, bad)
    else:
        _table(found)
    if vectors is not None and found:
        with told_of("--embeddings"):
            save(vectors, collector.features(), [p.file for p in found], collector.facts)
    if drawn is not None and found:
        with told_of("--picture"):
            _draw(found, drawn, loaded[0].preprocessing)
    if not json and format in (None, "table"):
        for word, path in (("embeddings", vectors), ("picture", drawn)):
            if path is not None and found:
                print(printable(f"{word}  {path}"))
    for error in bad:
        log.warning("left out: %s", error)
    if bad:
        total = len(bad) + len(found)
        raise DataError(f"{len(bad)} of {total} images could not be read", bad[0].where, "replace or remove them")
    return 0


def _named(images: Sequence[str]) -> tuple[str, ...]:
    """The images, with those that standard input names in its place.

    Raises:
        UsageError: it is named twice, or names nothing.
    """
    from residual.errors import UsageError

    if STANDARD_INPUT not in images:
        return tuple(images)
    remedy = "as in `ls photos/*.jpg | residual predict RUN -`"
    if images.count(STANDARD_INPUT) > 1:
        raise UsageError("standard input is read once", "-", remedy)
    lines = [name for line in _standard_input() if (name := line.rstrip("\r\n"))]
    if not lines:
        raise UsageError("no image was named on standard input", "-", remedy)
    place = images.index(STANDARD_INPUT)
    return (*images[:place], *lines, *images[place + 1 :])


def _standard_input() -> Iterable[str]:
    """Lines of names, as any system writes them; none where it is closed."""
    if isinstance(sys.stdin, io.TextIOWrapper):  # names of any bytes, and on Windows those that our own output has
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    return sys.stdin or ()


def _temperature(text: str | None) -> Temperature | None:
    from residual.errors import UsageError

    if text is None:
        return None
    if text == "calibrated":
        return "calibrated"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no temperature", "--temperature", "a number above 0, or calibrated") from None


def mind_first_word(run: str, verb: str, images: Sequence[str] = ("",)) -> None:
    """The run is named first: say so where an image stands in its place, or where nothing follows it.

    Raises:
        UsageError: there is an image instead, or no image at all.  ModelError: it is a file of another program.
    """
    from residual.data.formats import SUFFIXES
    from residual.errors import UsageError, argument

    path = Path(run).expanduser()
    try:
        stands, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError, RuntimeError):
        stands, folder = False, False
    if stands:
        from residual.evaluation.use import refuse_file

        refuse_file(str(path))
    like = path.suffix.lower() in SUFFIXES and not folder
    if like and (stands or not images):
        what = "the first word is the run, and this is an image"
        raise UsageError(what, run, f"as in `residual {verb} last {argument(run)}`")
    if not images:
        raise UsageError("no image was named", verb, f"as in `residual {verb} RUN IMAGE_OR_FOLDER ...`")


def _table(found: Sequence[Prediction]) -> None:
    from residual.cli.tables import say_table
    from residual.cli.words import percent

    if not found:
        return
    most = max(len(p.best) for p in found)
    columns = ["image", *("class" if place == 0 else f"{place + 1}." for place in range(most))]
    rows = []
    for prediction in found:
        answers = [f"{name} ({percent(share)})" for name, share in prediction.best]
        rows.append((prediction.file, *answers, *[""] * (most - len(answers))))
    say_table("", dict.fromkeys(columns, False), rows, folding=columns)


def _json(found: Sequence[Prediction], bad: Sequence[ResidualError]) -> None:
    rows: list[dict[str, object]] = [
        {"file": p.file, "predictions": [{"class": name, "probability": share} for name, share in p.best]}
        for p in found
    ]
    rows += [{"file": str(error.where), "predictions": [], "error": error.what} for error in bad]
    print(json_.dumps(rows))


def _csv(found: Sequence[Prediction], bad: Sequence[ResidualError]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "probability", "error"])
    for p in found:
        writer.writerows([p.file, rank, name, f"{share:.6f}", ""] for rank, (name, share) in enumerate(p.best, 1))
    writer.writerows([error.where, "", "", "", error.what] for error in bad)


def _draw(found: Sequence[Prediction], path: Path, preprocessing: Preprocessing) -> None:
    from residual.analysis.figures import draw_predictions
    from residual.data.images import read_image
    from residual.runs.summary import shortest_ends

    files = [p.file for p in found[:_DRAWN]]
    called = dict(zip(files, shortest_ends(files), strict=True))
    shown = [read_image(Path(p.file), preprocessing).permute(1, 2, 0).squeeze(2).numpy() for p in found[:_DRAWN]]
    blank = [shown[0]] * (len(found) - len(shown))
    names = [called.get(p.file, p.file) for p in found]
    images, answers = [*shown, *blank], [p.best for p in found]
    draw_predictions(images, names, answers, path)
