"""What a report says of one run or of several, as frozen values: read from run folders, nothing is trained.

Losses in nats, `top1`, `top3`, `top5`, precision, recall, F1 and probabilities are shares in [0, 1] (None
where a run has no such figure); confusion rows are true classes, columns predicted ones. What could not be
had is named in `missing` with its reason. Predictions are computed once and kept in the run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from residual.analysis.curves import Curves, Retraced, run_curves, unknown
from residual.analysis.explain import overlays
from residual.analysis.origins import Setting, settings
from residual.data.source import Source
from residual.errors import DataError, ModelError, UsageError, log
from residual.evaluation.calibration import Calibration, calibration
from residual.evaluation.classifier import Classifier
from residual.evaluation.figures import finite
from residual.evaluation.judged import Split
from residual.evaluation.predictions import Predictions, answers
from residual.evaluation.statistics import (
    ClassFigures,
    Confused,
    Example,
    Mistake,
    class_figures,
    confusion_of,
    confusions,
    mean_figures,
    surest_right,
    worst_first,
    worst_mistakes,
)
from residual.files import Damaged, Facts
from residual.homes import without_home
from residual.models.counting import count
from residual.runs.folder import RunFolder
from residual.runs.records import last_of
from residual.runs.summary import compare, names_of, summarise

MOST_MISTAKES = 24
MOST_CONFUSIONS = 14
MOST_EXAMPLES = 24
PLAIN = "plain images, single view, weights of this step, float32"

Progress = Callable[[str, int, int], None]
Stated = Callable[[Facts], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Figures:
    """Loss and top-1/3/5 over `images` images, and how they came about."""

    split: str
    protocol: str
    step: int
    images: int
    loss: float | None
    top1: float | None
    top3: float | None
    top5: float | None


@dataclass(frozen=True)
class Judged:
    """What the model answers to the images of a split. Of each mistake shown, `titles` has the file or the number of
    the image, and `images` its pixels, uint8 CHW; none where the images are not there. So of the examples, which are
    those of the worst classes. `maps` and `example_maps` show where the network found the answer, uint8 CHW."""

    split: Split
    figures: Figures
    classes: tuple[ClassFigures, ...]
    means: Mapping[str, float | None]
    confusion: Tensor
    confusions: tuple[Confused, ...]
    taken_for: Mapping[int, Confused]
    mistakes: tuple[Mistake, ...]
    titles: tuple[str, ...]
    images: tuple[Tensor, ...]
    wrong: int
    calibration: Calibration
    examples: tuple[Example, ...]
    example_titles: tuple[str, ...]
    example_images: tuple[Tensor, ...]
    maps: tuple[Tensor, ...] = ()
    example_maps: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class RunReport:
    """One run. `network`, `data` and so on are those of `run.json`."""

    name: str
    finished: bool
    step: int
    steps: int
    seconds: float | None
    created: str
    network: Facts
    parameters: int | None
    multiply_adds: int | None
    data: Facts
    recipe: str
    source: str
    departures: tuple[str, ...]
    seed: int
    command: str
    protocol: Facts
    versions: Facts
    machine: Facts
    compute: Facts
    sittings: tuple[Facts, ...]
    settings: tuple[Setting, ...]
    curves: Curves
    figures: tuple[Figures, ...]
    judged: Judged | None
    missing: tuple[str, ...]

    def as_dict(self) -> Facts:
        """Ready for JSON, without the pixels of the images."""
        facts = {name: value for name, value in vars(self).items() if name not in ("curves", "judged")}
        facts["curves"] = {
            name: {"epoch": series.epochs, "step": series.steps, "value": series.values}
            for name, series in self.curves.series.items()
        }
        facts["figures"] = [asdict(row) for row in self.figures]
        facts["settings"] = [setting.as_dict() for setting in self.settings]
        facts["judged"] = None if self.judged is None else _judged_dict(self.judged)
        return facts


@dataclass(frozen=True)
class ReportData:
    """All runs of a report; `differences` has the settings that are not the same in all of them."""

    runs: tuple[RunReport, ...]
    damaged: Mapping[str, str]
    differences: Mapping[str, Sequence[Any]]

    def as_dict(self) -> Facts:
        """Ready for JSON; a number that is not finite is null."""
        facts = {
            "format": 1,
            "kind": "report",
            "runs": [run.as_dict() for run in self.runs],
            "damaged": dict(self.damaged),
            "differences": dict(self.differences),
        }
        return dict(finite(facts))


def read_report(
    runs: Sequence[RunFolder],
    *,
    split: Split | None = None,
    data: str | None = None,
    device: str = "auto",
    stated: Stated = lambda _: None,
    retraced: Retraced = unknown,
    progress: Progress = lambda _run, _done, _all: None,
) -> ReportData:
    """Read the runs and let their models answer. A damaged run is named and hides no other.

    Args:
        split: the images to judge by; without it, those of the test, or of the validation where no test was read.
        data: where the images are, if not where they were at training.
        stated: tells the settings that the recipe of a `run.json` states itself; what it leaves out is a default.
        retraced: tells the learning rates between those recorded.
        progress: told the run, and how many images of how many are done.

    Raises:
        ModelError: every run is damaged.  UsageError: a single run has no such images.
    """
    found: list[RunReport] = []
    sound: list[RunFolder] = []
    damaged: dict[str, str] = {}
    names = names_of(runs)
    for run, name in zip(runs, names, strict=True):
        reason = summarise(run).get("damaged")
        if reason is None:
            try:
                report = _read(run, name, stated, retraced)
            except (ModelError, Damaged) as error:
                reason = error.what
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                reason = f"its files are not as written: {error!r:.80}"
        if reason is not None:
            damaged[name] = reason
            log.warning("left out, the run is damaged (%s): %s", name, reason)
            continue
        found.append(report)
        sound.append(run)
    if not found:
        what = f"no run can be reported, {next(iter(damaged.values()))}"
        raise ModelError(what, runs[0].path, "restore it from a copy, or name another run")
    if split is not None and not any(run.data.get(split) for run in found):
        raise UsageError(f"no run here has {split} images", "--split", "leave it out, or choose another")
    judged = [_answered(report, run, split, data, device, progress) for report, run in zip(found, sound, strict=True)]
    unlike = {path: [_shown(value) for value in values] for path, values in compare(sound).items()}
    return ReportData(tuple(judged), damaged, unlike)


def _read(run: RunFolder, name: str, stated: Stated, retraced: Retraced) -> RunReport:
    """All that stands in the records of a run."""
    facts, result, records = run.facts(), run.result(), run.records()
    row = summarise(run)
    counts = facts.get("counted", {})
    data = dict(facts["data"]) | {"origin": without_home(facts["data"]["origin"])}
    missing = () if result else (f"The run is not finished: it stands at step {row['step']:,} of {row['steps']:,}.",)
    return RunReport(
        name=name,
        finished=result is not None,
        step=row["step"],
        steps=row["steps"],
        seconds=row["seconds"],
        created=facts["created"],
        network=facts["network"],
        parameters=counts.get("parameters"),
        multiply_adds=counts.get("multiply_adds"),
        data=data,
        recipe=facts["recipe"]["name"],
        source=facts["recipe"].get("source", ""),
        departures=tuple(facts["recipe"].get("departures", ())),
        seed=facts["recipe"]["seed"],
        command=without_home(facts["command"]),
        protocol=result.get("protocol", {}) if result else {},
        versions=facts["versions"],
        machine=facts["machine"],
        compute=facts["chosen"],
        sittings=tuple({k: s.get(k) for k in ("event", "step", "at", "device")} for s in run.sessions()),
        settings=tuple(settings(facts, stated(facts))),
        curves=run_curves(run, retraced),
        figures=tuple(_recorded(records)),
        judged=None,
        missing=missing,
    )


def _recorded(records: Sequence[Facts]) -> list[Figures]:
    """The last figures of training, validation and test, each with its protocol."""
    running = "running mean since the record before: augmented images, weights still moving"
    rows = [
        ("training", running, last_of(records, "train")),
        *((split, PLAIN, last_of(records, "evaluation", split)) for split in ("validation", "test")),
        *((f"{r['split']}, weights that were kept", PLAIN, r) for r in records if r["kind"] == "kept"),
    ]
    return [_figures(split, how, r["of_step" if "of_step" in r else "step"], r) for split, how, r in rows if r]


def _figures(split: str, protocol: str, step: int, scores: Mapping[str, Any]) -> Figures:
    loss, top1, top3, top5 = (scores.get(name) for name in ("loss", "top1", "top3", "top5"))
    return Figures(split, protocol, step, scores["images"], loss, top1, top3, top5)


def _answered(
    report: RunReport, run: RunFolder, split: Split | None, data: str | None, device: str, progress: Progress
) -> RunReport:
    """The report with the answers of the run's model, or with the reason why there are none."""
    unread = run.facts()["recipe"].get("evaluation", {}).get("test") is False
    chosen = split or ("test" if report.data.get("test") and not unread else "validation")
    missing = list(report.missing)
    if unread:
        missing.append("This run does not read the test images (evaluation.test), so none are shown unless asked for.")
    elif not report.data.get("test"):
        missing.append("The data of this run have no test images.")
    if not report.data.get(chosen):
        missing.append(f"The run has no {chosen} images, so there is nothing to judge the classes by.")
        return replace(report, missing=tuple(missing))

    def tell(done: int, total: int) -> None:
        progress(report.name, done, total)

    try:
        found = answers(run, chosen, data=data, device=device, progress=tell)
        files = run.split().get("files", {}).get(chosen)
    except (DataError, ModelError) as error:
        what = "The model was not evaluated, so its classes and mistakes are not shown"
        missing.append(f"{what}: {without_home(str(error))}.")
        return replace(report, missing=tuple(missing))
    judged, absence = judge(found.predictions, found.classifier.class_names, found.source, files)
    judged = explained(judged, found.classifier)
    if why := found.absence or absence:
        missing.append(f"The most wrong images are named but not shown: {without_home(str(why))}.")
    if found.predictions.step != report.steps:
        kept = "weights that were kept, of" if report.finished else "checkpoint of"
        missing.append(f"Classes and mistakes are those of the {kept} step {found.predictions.step:,}.")
    counts = count(found.classifier.spec, found.classifier.preprocessing.image_size)
    return replace(
        report,
        judged=judged,
        missing=tuple(missing),
        parameters=counts.parameters,
        multiply_adds=counts.multiply_adds,
    )


def judge(
    given: Predictions, names: Sequence[str], source: Source | None = None, files: Sequence[str] | None = None
) -> tuple[Judged, DataError | None]:
    """Everything that follows from predictions; and why the images could not be read, if so.

    Args:
        names: of the classes, in their order.
        source: the images, where they are there.
        files: their files, in the order of the predictions, where they have any.
    """
    confusion = confusion_of(given.logits, given.labels)
    classes = class_figures(confusion, names)
    pairs = confusions(confusion)
    mistakes = worst_mistakes(given.logits, given.labels, MOST_MISTAKES)
    ordered = worst_first(classes)
    rank = {one.number: place for place, one in enumerate(ordered)}
    examples = sorted(surest_right(given.logits, given.labels), key=lambda e: rank[e.number])[:MOST_EXAMPLES]
    rows = [m.row for m in mistakes] + [e.row for e in examples]
    numbers = given.numbers[torch.tensor(rows, dtype=torch.int64)]
    titles = [files[row] for row in rows] if files else [f"no. {n}" for n in numbers.tolist()]
    images: tuple[Tensor, ...] = ()
    absence: DataError | None = None
    if source is not None and rows:
        try:
            images = tuple(source.read(numbers))
        except DataError as error:
            absence = error
    shown = len(mistakes)
    figures = _figures(given.split, PLAIN, given.step, {**given.scores(), "images": len(given.labels)})
    judged = Judged(
        split=given.split,
        figures=figures,
        classes=tuple(ordered),
        means=mean_figures(classes),
        confusion=confusion,
        confusions=tuple(pairs[:MOST_CONFUSIONS]),
        taken_for={pair.true: pair for pair in reversed(pairs)},
        mistakes=tuple(mistakes),
        titles=tuple(titles[:shown]),
        images=images[:shown],
        wrong=len(given.labels) - int(confusion.diagonal().sum()),
        calibration=calibration(given.logits, given.labels),
        examples=tuple(examples),
        example_titles=tuple(titles[shown:]),
        example_images=images[shown:],
    )
    return judged, absence


def explained(judged: Judged, classifier: Classifier) -> Judged:
    """With the maps of what was answered, for the images that are there."""
    return replace(
        judged,
        maps=overlays(classifier, judged.images, [m.predicted for m in judged.mistakes]),
        example_maps=overlays(classifier, judged.example_images, [e.number for e in judged.examples]),
    )


def _judged_dict(judged: Judged) -> Facts:
    named = zip(judged.mistakes, judged.titles, strict=True)
    mistakes = [asdict(mistake) | {"image": title} for mistake, title in named]
    return {
        "figures": asdict(judged.figures),
        "classes": [one.as_dict() for one in judged.classes],
        "means": dict(judged.means),
        "confusion": judged.confusion.tolist(),
        "confusions": [asdict(pair) for pair in judged.confusions],
        "wrong": judged.wrong,
        "mistakes": mistakes,
        "calibration": judged.calibration.as_dict(),
        "examples": [
            asdict(one) | {"image": title} for one, title in zip(judged.examples, judged.example_titles, strict=True)
        ],
    }


def _shown(value: Any) -> Any:
    return without_home(value) if isinstance(value, str) else value
