"""`residual evaluate`."""

from __future__ import annotations

import json as json_
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from residual.cli.text import Number, Whole

if TYPE_CHECKING:
    from residual.evaluation.figures import Report
    from residual.evaluation.intervals import Interval
    from residual.evaluation.together import Together

_PICTURE = re.compile(r"(confusion|reliability)(-\d+)?\.(png|svg)")
_MOST_CLASSES, _WORST_CLASSES = 40, 20
_MORE = " (--json has all)"
_WORST = 8  # mistakes named in the terminal; --json has 24, --predictions all


def evaluate(
    *runs: str,
    protocol: Literal["1-crop", "10-crop", "multi-scale"] | None = None,
    average: Literal["probabilities", "logits"] | None = None,
    split: Literal["test", "validation", "training"] | None = None,
    data: str | None = None,
    follow_links: bool = False,
    image_size: Whole | None = None,
    crop: Number | None = None,
    calibrate: bool = False,
    predictions: str | None = None,
    from_predictions: Annotated[
        tuple[str, ...], Parameter(allow_repeating=True, consume_multiple=True, negative=(), show_default=False)
    ] = (),
    figures: str | None = None,
    device: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Evaluate a trained network, or several as an ensemble: top-1/3/5 with intervals, classes, calibration.

    Parameters
    ----------
    runs
        Runs, model folders or checkpoints; without any, the last run. Of several: figures of each, a test of
        significance for every pair, and the figures of their ensemble.
    protocol
        The views of each image: 1-crop (the default) is the image as it is; 10-crop the four corners, the centre and
        their mirror images; multi-scale the whole image and its mirror image at five sizes.
    average
        What is averaged over views and over runs: probabilities (the default) or logits.
    split
        Which images: test, validation (those a run held out) or training. Without it, the test images, or the
        validation images if there are none.
    data
        Where the images are, if not where they were at training; or another folder of photographs with class folders
        of the same names: all its images are judged, or those of its test/ or val/ where it has parts.
    follow_links
        Also follow links that lead out of a folder of photographs.
    image_size
        Resize photographs to this side in pixels instead of the model's own; the results mention it.
    crop
        The share of the resized side that the centre keeps, as .875; without it, the model's own.
    calibrate
        Also fit a temperature on the held-out validation images, and say how it changes the figures.
    predictions
        Write every answer into this file; one of an earlier call is replaced. .csv has a row for each image (truth,
        answer, probabilities, loss); .npz and .safetensors have all logits.
    from_predictions
        Evaluate predictions saved in .npz or .safetensors files instead of runs; no model or images are needed.
    figures
        Also draw the confusion matrix and the reliability diagram as PNG and SVG into this folder; those of an
        earlier call are replaced.
    device
        auto (the default), cpu, mps, cuda or cuda:N.
    json
        One JSON value instead of tables.
    """
    from residual.environment import check_versions
    from residual.errors import UsageError

    if from_predictions:
        given: dict[str, object] = {
            "a run": runs,
            "--protocol": protocol,
            "--split": split,
            "--data": data,
            "--device": device,
        }
        given |= {"--follow-links": follow_links, "--calibrate": calibrate}
        given |= {"--image-size": image_size is not None, "--crop": crop is not None}
        if idle := [name for name, value in given.items() if value]:
            what = f"{' and '.join(idle)} cannot change answers that are read from a file"
            raise UsageError(what, "--from-predictions", "leave it out, or name the runs instead of the file")
    check_versions()
    from residual.cli.words import bar
    from residual.evaluation.answer_table import SUFFIX, is_answers
    from residual.evaluation.destination import PREDICTIONS, holds, mind_places, told_of
    from residual.evaluation.sheets import check_name
    from residual.evaluation.together import evaluate_together, from_files
    from residual.sealed import mind_sealed

    path = Path(predictions).expanduser() if predictions is not None else None
    if path is not None:
        check_name(path, [SUFFIX])
        own = is_answers if path.suffix.lower() == SUFFIX else holds(PREDICTIONS)
        mind_places([path], "--predictions", own)
    album = Path(figures).expanduser() if figures is not None else None
    if album is not None and album.exists() and not album.is_dir():
        raise UsageError("this is not a folder", album, "name a folder with --figures")
    if album is not None:
        mind_sealed(album / "confusion.png", "--figures")
    if from_predictions:
        found = from_files(from_predictions, average)
        facts = [one.sheet.facts for one in found.members]
        _mind_album(album, len(found.reports))
        _mind_photographs(album, [one["origin"] for one in facts if one["dataset"] == "folder"])
    else:
        _mind_album(album, len(runs) + 1 if len(runs) > 1 else 1)
        with bar("evaluating") as progress:
            found = evaluate_together(
                runs or ("last",),
                protocol=protocol or "1-crop",
                average=average or "probabilities",
                split=split,
                data=data,
                follow_links=follow_links,
                device=device or "auto",
                calibrate=calibrate,
                image_size=image_size,
                crop=crop,
                found=partial(_mind_photographs, album),
                progress=progress,
            )
    if path is not None:
        with told_of("--predictions"):
            found.save(path)
    drawn: list[Path] = []
    if album is not None:
        from residual.analysis.reliability import draw_reports

        with told_of("--figures"):
            drawn = draw_reports(found.reports, album)
    if json:
        print(json_.dumps(found.as_dict(), allow_nan=False))
        return 0
    _say(found, split)
    from residual.cli.text import printable

    if path is not None:
        print(printable(f"predictions  {path}"))
    if drawn:
        print(printable(f"figures      {drawn[0].parent}: {len(drawn)} files"))
    return 0


def _mind_album(album: Path | None, reports: int) -> None:
    """Look at the folder of figures before anything is computed; say which pictures there this call does not draw."""
    from residual.analysis.reliability import pictures
    from residual.analysis.style import is_ours
    from residual.evaluation.destination import mind_places, tell_left

    if album is None:
        return
    drawn = pictures(album, reports)
    mind_places(drawn, "--figures", is_ours)
    others = (one for one in sorted(album.glob("*")) if _PICTURE.fullmatch(one.name) and one not in drawn)
    tell_left([one for one in others if is_ours(one)])


def _mind_photographs(album: Path | None, folders: Sequence[str]) -> None:
    from residual.evaluation.destination import mind_images

    if album is not None:
        mind_images([album], "--figures", folders)


def _say(found: Together, split: str | None) -> None:
    from residual.cli.text import printable
    from residual.runs.summary import shortest_ends

    facts = found.members[0].sheet.facts
    dataset = facts["origin"] if facts["dataset"] == "folder" else facts["dataset"]
    places = [one.place for one in found.reports]
    names = dict(zip(places, shortest_ends(places), strict=True))
    steps = ", ".join(
        names[one.place] + ("" if one.sheet.facts.get("trained_elsewhere") else f" at step {one.step:,}")
        for one in found.members
    )
    times = f"{sum(one.sheet.facts['seconds'] for one in found.members):.1f} s"
    print(printable(f"{steps} on {dataset}, {facts['protocol']}, {facts['device']}, {times}"))
    print(printable(f"protocol  {facts['words']}"))
    if found.ensemble is not None:
        print(f"ensemble  average of the {found.ensemble.sheet.facts['average']} of {len(found.members)}")
    _tops(found, names)
    _others(found, names)
    if found.pairs:
        _pairs(found, names)
    if found.ensemble is None and found.members[0].calibrated is not None and facts["protocol"] == "1-crop":
        print("next      `residual predict RUN IMAGE --temperature calibrated` divides the logits by this temperature")
    if chose := facts.get("selected"):
        print(printable(f"these images have chosen {chose}: the figures flatter a little"))
    if split is None and facts["split"] != "test":
        print(f"there are no test images: these are the {facts['split']} images")
    shown = found.reports[-1]
    _classes(shown, names[shown.place])
    if shown.mistakes:
        _mistakes(shown, names[shown.place])


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _between(interval: Interval) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def _tops(found: Together, names: Mapping[str, str]) -> None:
    from residual.cli.tables import say_table
    from residual.cli.words import percent
    from residual.evaluation.intervals import WILSON

    rows = []
    for one in found.reports:
        for top in one.tops:
            if top.k > 1 and top.k >= len(one.class_names):
                continue  # every answer is among the first k, which says nothing
            counts = (f"{top.hits:,}", f"{top.images:,}")
            shares = (percent(top.accuracy), _between(top.interval), percent(top.error), _between(top.error_interval))
            rows.append((names[one.place], one.split, f"top-{top.k}", *counts, *shares))
    columns = {"": False, "split": False, "among the first": False, "right": True, "images": True, "accuracy": True}
    columns |= {"95 % interval": True, "error": True, "its 95 % interval": True}
    title = f"{found.members[0].sheet.facts['protocol']}; intervals: {WILSON}"
    given_up = ("its 95 % interval", "error", "split", "images", "right")
    say_table(title, columns, rows, folding=[""], given_up=given_up, more=_MORE)


def _others(found: Together, names: Mapping[str, str]) -> None:
    from residual.cli.tables import say_table
    from residual.cli.words import percent, points

    rows = []
    for one in found.reports:
        means = [percent(one.means[name]) for name in ("recall", "precision", "f1")]
        told = [_decimal(one.means["auc"]), f"{one.brier:.4f}", points(one.calibration.error)]
        cells = [names[one.place], f"{one.evaluation.scores['loss']:.4f}", *means, *told]
        if one.calibrated is not None:
            fitted = one.calibrated.temperature
            cells += [f"{fitted.value:.3f}", f"{fitted.images:,}"]
            cells += [f"{one.calibrated.loss:.4f}", points(one.calibrated.calibration.error)]
        elif any(other.calibrated is not None for other in found.reports):
            cells += [""] * 4
        rows.append(tuple(cells))
    columns = {"": False, "loss": True, "balanced accuracy": True, "mean precision": True, "mean F1": True}
    columns |= {"mean AUC": True, "Brier": True, "ECE": True}
    if len(rows[0]) > len(columns):
        columns |= {"temperature": True, "fitted on": True, "loss with it": True, "ECE with it": True}
    bins = len(found.members[0].calibration.bins)
    protocol = found.members[0].sheet.facts["protocol"]
    title = f"{protocol}; means over classes; ECE: {bins} bins of equal width"
    given_up = ("Brier", "mean precision", "mean F1", "mean AUC", "fitted on", "balanced accuracy")
    say_table(title, columns, rows, folding=[""], given_up=given_up, more=_MORE)


def _pairs(found: Together, names: Mapping[str, str]) -> None:
    from residual.cli.tables import say_table
    from residual.evaluation.intervals import AGRESTI_MIN

    rows = [
        (
            names[pair.first],
            names[pair.second],
            *(f"{count:,}" for count in (pair.both, pair.only_first, pair.only_second, pair.neither)),
            f"{100 * pair.difference:+.2f}",
            _between(pair.interval),
            f"{pair.exact:.3g}",
            f"{pair.mid_p:.3g}",
        )
        for pair in found.pairs
    ]
    columns = {"first": False, "second": False, "both right": True, "only first": True, "only second": True}
    columns |= {"neither": True, "second less first, points": True, "95 % interval": True}
    columns |= {"exact p": True, "mid-p": True}
    title = f"{found.members[0].sheet.facts['protocol']}; McNemar, two-sided; interval: {AGRESTI_MIN}"
    title += "; p not corrected for many pairs" if len(rows) > 1 else ""
    given_up = ("neither", "both right", "exact p", "only first", "only second", "95 % interval")
    say_table(title, columns, rows, folding=["first", "second"], given_up=given_up, more=_MORE)


def _classes(one: Report, name: str) -> None:
    from residual.cli.tables import say_table
    from residual.cli.words import percent
    from residual.evaluation.statistics import worst_first

    rows = []
    many = len(one.classes) > _MOST_CLASSES
    for figures in worst_first(one.classes)[:_WORST_CLASSES] if many else one.classes:
        wrong = one.evaluation.confusion[figures.number].clone()
        wrong[figures.number] = 0
        most = int(wrong.argmax())
        confused = f"{one.class_names[most]} ({int(wrong[most])})" if int(wrong[most]) else ""
        shares = [percent(share) for share in (figures.recall, figures.precision, figures.f1)]
        rows.append((figures.name, f"{figures.images:,}", *shares, _decimal(figures.auc), confused))
    columns = {"class": False, "images": True, "top-1 (recall)": True, "precision": True, "F1": True, "AUC": True}
    title = f"by class: {name}, {one.sheet.facts['protocol']}"
    if many:
        title += f"; the {_WORST_CLASSES} worst of {len(one.classes):,}, --json has all"
    columns["most often taken for"] = False
    given_up = ("AUC", "F1", "images", "precision")
    say_table(title, columns, rows, folding=["class", "most often taken for"], given_up=given_up, more=_MORE)


def _mistakes(one: Report, name: str) -> None:
    from residual.cli.tables import say_table
    from residual.cli.words import percent

    names = one.class_names
    rows = [
        (
            one.sheet.images[wrong.row],
            names[wrong.true],
            names[wrong.predicted],
            percent(wrong.probability),
            percent(wrong.probability_of_truth),
            f"{wrong.loss:.2f}",
        )
        for wrong in one.mistakes[:_WORST]
    ]
    columns = {"image": False, "truth": False, "taken for": False, "probability": True, "of the truth": True}
    wrong = one.evaluation.images - one.tops[0].hits
    title = f"most wrong: {name}, {one.sheet.facts['protocol']}; of highest loss first"
    title += f", {len(rows)} of {wrong:,}; --predictions FILE.csv has every answer" if wrong > len(rows) else ""
    folding = ["image", "truth", "taken for"]
    say_table(title, columns | {"loss": True}, rows, folding=folding, given_up=("of the truth", "loss"), more=_MORE)
