"""What follows from predictions alone: figures of each class, the usual confusions, the worst mistakes.

confusion_KK int64: rows are true classes, columns predicted ones. logits_NK float, labels_N int64.
Precision, recall and F1 are shares in [0, 1], or None where there is nothing to divide by (van Rijsbergen
1979, chapter 7: F1 = 2TP / (2TP + FP + FN)). Loss is cross-entropy in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from residual.evaluation.intervals import wilson


@dataclass(frozen=True)
class ClassFigures:
    """One class: how many images are of it, how many were taken for it, how many rightly."""

    number: int
    name: str
    images: int
    predicted: int
    right: int
    precision: float | None
    recall: float | None
    f1: float | None
    auc: float | None = None
    average_precision: float | None = None

    def as_dict(self) -> dict[str, Any]:
        interval = list(wilson(self.right, self.images)) if self.images else None
        return asdict(self) | {"recall_interval": interval}


@dataclass(frozen=True)
class Confused:
    """`count` images of one class taken for another; `share` is of the images of the true class."""

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """A wrong answer; `row` is its place among the predictions. Probabilities of the answer and of the truth."""

    row: int
    true: int
    predicted: int
    probability: float
    probability_of_truth: float
    loss: float


@dataclass(frozen=True)
class Example:
    """The image of a class that was answered rightly and most surely; `row` is its place among the predictions."""

    row: int
    number: int
    probability: float


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def class_figures(confusion_KK: Tensor, names: Sequence[str]) -> list[ClassFigures]:
    """The figures of each class, in the order of the classes."""
    right = confusion_KK.diagonal().tolist()
    images, predicted = confusion_KK.sum(1).tolist(), confusion_KK.sum(0).tolist()
    return [
        ClassFigures(k, name, n, p, r, share(r, p), share(r, n), share(2 * r, n + p))
        for k, (name, n, p, r) in enumerate(zip(names, images, predicted, right, strict=True))
    ]


def separated(figures: Sequence[ClassFigures], probabilities_NK: Tensor, labels_N: Tensor) -> list[ClassFigures]:
    """The figures with how well each class is told from all others, whatever the threshold.

    `auc` is the area under the ROC curve, the share of pairs of an image of the class and another one in which the
    first has the higher probability, ties by half (Hanley and McNeil 1982). `average_precision` is the mean of the
    precision at every distinct probability, weighed by the recall it adds. None where there are no such pairs.
    """
    found = []
    for one in figures:
        own = labels_N == one.number
        scores = probabilities_NK[:, one.number].double()
        # What is no number ranks an image of the class last and another one first: it flatters nobody.
        scores = torch.where(scores.isnan(), torch.where(own, -1.0, 2.0), scores)
        of, others = int(own.sum()), int((~own).sum())
        if not of or not others:
            found.append(one)
            continue
        _, place, counts = scores.unique(return_inverse=True, return_counts=True)
        right = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, place, own.double())
        ranks = counts.cumsum(0) - (counts - 1) / 2  # from 1, of equal ones their mean
        auc = float(((ranks * right).sum() - of * (of + 1) / 2) / (of * others))
        above, hits = counts.flip(0).cumsum(0), right.flip(0).cumsum(0)
        precision = float((right.flip(0) * hits / above).sum() / of)
        found.append(replace(one, auc=auc, average_precision=precision))
    return found


def brier(probabilities_NK: Tensor, labels_N: Tensor) -> float:
    """Mean over the images of the squared distance of the probabilities from the truth, 0 to 2 (Brier 1950)."""
    wanted = torch.zeros_like(probabilities_NK).scatter_(1, labels_N.unsqueeze(1), 1.0)
    return float((probabilities_NK - wanted).square().sum(1).mean()) if len(labels_N) else math.nan


def worst_first(figures: Sequence[ClassFigures]) -> list[ClassFigures]:
    """By F1, then recall; classes that had no image stand last, since nothing is known of them."""
    return sorted(figures, key=lambda c: (c.images == 0, c.f1 or 0, c.recall or 0, c.number))


def mean_figures(figures: Sequence[ClassFigures]) -> dict[str, float | None]:
    """Precision, recall, F1, AUC and average precision, each the plain mean over the classes (macro average).

    A class that has images and is never answered has the precision 0, as in its F1; one without images that is never
    answered has none of them.
    """
    found: dict[str, float | None] = {}
    for name in ("auc", "average_precision"):
        known = [value for one in figures if (value := getattr(one, name)) is not None]
        found[name] = sum(known) / len(known) if known else None
    for name in ("precision", "recall", "f1"):
        able = [one for one in figures if one.images or (name != "recall" and one.predicted)]
        values = [getattr(one, name) or 0.0 for one in able]
        found[name] = sum(values) / len(values) if values else None
    return found


def confusions(confusion_KK: Tensor) -> list[Confused]:
    """The pairs of classes that were confused, most often first; of equal counts the larger share stands first."""
    wrong = confusion_KK.clone()
    wrong.fill_diagonal_(0)
    images = confusion_KK.sum(1).tolist()
    pairs = [(t, p, int(wrong[t, p])) for t, p in wrong.nonzero().tolist()]
    found = [Confused(t, p, count, count / images[t]) for t, p, count in pairs]
    return sorted(found, key=lambda c: (-c.count, -c.share, c.true, c.predicted))


def answers_of(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
    """int64 N, the most probable classes. A row that holds a not-a-number is wrong, as `rank_of_truth` has it: where it
    would name the true class, the one after it stands in its place."""
    answers = logits_NK.argmax(1)
    named = logits_NK.isnan().any(1) & (answers == labels_N)
    return torch.where(named, (labels_N + 1) % logits_NK.shape[1], answers)


def confusion_of(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
    """confusion_KK of the most probable classes."""
    classes, answers = logits_NK.shape[1], answers_of(logits_NK, labels_N)
    return torch.bincount(labels_N * classes + answers, minlength=classes * classes).view(classes, classes)


def worst_mistakes(logits_NK: Tensor, labels_N: Tensor, most: int) -> list[Mistake]:
    """The wrong answers of highest loss, the most surely wrong; a loss that is no number counts as highest."""
    logs = logits_NK.double().log_softmax(1)
    answers = answers_of(logits_NK, labels_N)
    losses = -logs.gather(1, labels_N.unsqueeze(1)).squeeze(1)
    wrong = (answers != labels_N).nonzero().squeeze(1)
    order = losses[wrong].nan_to_num(nan=torch.inf, posinf=torch.inf).argsort(descending=True, stable=True)
    return [
        Mistake(
            row=row,
            true=int(labels_N[row]),
            predicted=int(answers[row]),
            probability=float(logs[row, answers[row]].exp()),
            probability_of_truth=float(logs[row, labels_N[row]].exp()),
            loss=float(losses[row]),
        )
        for row in wrong[order[:most]].tolist()
    ]


def surest_right(logits_NK: Tensor, labels_N: Tensor) -> list[Example]:
    """For each class, in their order, the right answer of highest probability; none of a class without any."""
    shares = logits_NK.double().softmax(1)
    right = answers_of(logits_NK, labels_N) == labels_N
    found = []
    for number in range(logits_NK.shape[1]):
        rows = (right & (labels_N == number)).nonzero().squeeze(1)
        if len(rows):
            row = int(rows[shares[rows, number].argmax()])
            found.append(Example(row, number, float(shares[row, number])))
    return found
