"""Everything that follows from an answer sheet: figures with their intervals, classes, calibration, mistakes.

Shares in [0, 1], losses in nats. Top-k shares have 95 % intervals (Wilson), which tell how sure a count over so many
images is; what another training would give, several runs tell. Balanced accuracy is the mean recall of the classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from residual.evaluation.calibration import Calibration, Temperature, calibration
from residual.evaluation.evaluate import BATCH, Evaluation
from residual.evaluation.intervals import WILSON, Interval, wilson
from residual.evaluation.scores import KS, Tally, rank_of_truth
from residual.evaluation.sheets import Sheet
from residual.evaluation.statistics import (
    ClassFigures,
    Mistake,
    brier,
    class_figures,
    confusion_of,
    mean_figures,
    separated,
    worst_mistakes,
)

MOST_MISTAKES = 24


@dataclass(frozen=True)
class Top:
    """How many images have their class among the first `k` answers, and the share with its interval."""

    k: int
    hits: int
    images: int
    accuracy: float
    interval: Interval

    @property
    def error(self) -> float:
        return 1 - self.accuracy

    @property
    def error_interval(self) -> Interval:
        return 1 - self.interval[1], 1 - self.interval[0]


@dataclass(frozen=True)
class Calibrated:
    """The same answers after their logits were divided by a temperature."""

    temperature: Temperature
    loss: float
    calibration: Calibration


@dataclass(frozen=True)
class Report:
    """An evaluation with what it must be quoted beside."""

    sheet: Sheet
    evaluation: Evaluation
    tops: tuple[Top, ...]
    classes: tuple[ClassFigures, ...]
    means: dict[str, float | None]
    brier: float
    calibration: Calibration
    calibrated: Calibrated | None
    mistakes: tuple[Mistake, ...]

    def __repr__(self) -> str:
        """A line, since a notebook shows it; `as_dict` has all of it."""
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.evaluation.scores.items())
        return f"<Report of {self.place}: {self.evaluation.images:,} {self.split} images, {figures}>"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.sheet.class_names

    @property
    def place(self) -> str:
        return self.sheet.place

    @property
    def split(self) -> str:
        return str(self.sheet.facts["split"])

    @property
    def step(self) -> int:
        return int(self.sheet.facts["step"])

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: figures, classes, confusion (rows true, columns predicted), each with how it came about."""
        facts = self.sheet.facts
        kept = (
            "place",
            "step",
            "dataset",
            "origin",
            "split",
            "protocol",
            "words",
            "views",
            "average",
            "members",
            "selected",
        )
        table = {
            **{name: facts[name] for name in kept if name in facts},
            "images": self.evaluation.images,
            **self.evaluation.scores,
            "intervals": {"method": WILSON} | {f"top{top.k}": list(top.interval) for top in self.tops},
            "errors": {f"top{top.k}": top.error for top in self.tops},
            "error_intervals": {"method": WILSON} | {f"top{top.k}": list(top.error_interval) for top in self.tops},
            "balanced_accuracy": self.means["recall"],
            "means": self.means,
            "brier": self.brier,
            "classes": {one.name: one.recall for one in self.classes},
            "by_class": [one.as_dict() for one in self.classes],
            "confusion": self.evaluation.confusion.tolist(),
            "calibration": self.calibration.as_dict(),
            "calibrated": None if self.calibrated is None else _calibrated(self.calibrated),
            "most_wrong": [asdict(one) | {"image": self.sheet.images[one.row]} for one in self.mistakes],
            "device": facts["device"],
            "seconds": round(facts["seconds"], 2),
        }
        return dict(finite(table))


def finite(value: Any) -> Any:
    """A value for JSON, which has no word for what is not a finite number: None stands in its place."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
    return value


def _calibrated(found: Calibrated) -> dict[str, Any]:
    told = {"temperature": found.temperature.value, "fitted_on_validation_images": found.temperature.images}
    return told | {"loss": found.loss} | found.calibration.as_dict()


def report(sheet: Sheet) -> Report:
    """All figures of a sheet."""
    confusion = confusion_of(sheet.logits, sheet.labels)
    probabilities = sheet.logits.double().softmax(1)
    classes = separated(class_figures(confusion, sheet.class_names), probabilities, sheet.labels)
    images, ranks = len(sheet.labels), rank_of_truth(sheet.logits, sheet.labels)
    hits = {k: int((ranks < k).sum()) for k in KS}
    return Report(
        sheet=sheet,
        evaluation=Evaluation(images, _scores(sheet.logits, sheet), confusion),
        tops=tuple(Top(k, n, images, n / max(1, images), wilson(n, images)) for k, n in hits.items()),
        classes=tuple(classes),
        means=mean_figures(classes),
        brier=brier(probabilities, sheet.labels),
        calibration=calibration(sheet.logits, sheet.labels),
        calibrated=_recalibrate(sheet),
        mistakes=tuple(worst_mistakes(sheet.logits, sheet.labels, MOST_MISTAKES)),
    )


def _scores(logits_NK: torch.Tensor, sheet: Sheet) -> dict[str, float]:
    """loss, top1, top3, top5, summed as an evaluation sums them."""
    tally = Tally.empty(torch.device("cpu"))
    for logits, labels in zip(logits_NK.split(BATCH), sheet.labels.split(BATCH), strict=True):
        tally.add(logits, labels)
    return tally.scores()


def _recalibrate(sheet: Sheet) -> Calibrated | None:
    fitted = sheet.facts.get("temperature")
    if fitted is None:
        return None
    temperature = Temperature(float(fitted["value"]), int(fitted["images"]))
    logits = sheet.logits / temperature.value
    return Calibrated(temperature, _scores(logits, sheet)["loss"], calibration(logits, sheet.labels))
