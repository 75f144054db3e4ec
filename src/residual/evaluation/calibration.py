"""Whether probabilities mean what they say: reliability by bins, the calibration error, one temperature.

logits_NK float, labels_N int64. Confidence is the probability of the answer given; a bin holds the answers whose
confidence lies in (b/B, (b+1)/B]. The expected calibration error is the mean over answers of the distance between the
accuracy and the mean confidence of their bin; with few answers in a bin it is biased upwards. The temperature T
divides the logits and is fitted by least loss on validation images, never on those that are reported. Source: Guo,
Pleiss, Sun and Weinberger 2017, sections 2 and 4.2; they take 15 bins.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from residual.evaluation.scores import rank_of_truth

BINS = 15
_HOTTEST, _COLDEST = 1e-4, 1e4  # 1 / T is looked for between them
_HALVINGS = 200


@dataclass(frozen=True)
class Bin:
    """Answers of similar confidence; means are None where there are none."""

    low: float
    high: float
    images: int
    accuracy: float | None
    confidence: float | None


@dataclass(frozen=True)
class Calibration:
    """The bins and the expected calibration error, a share in [0, 1]."""

    bins: tuple[Bin, ...]
    error: float

    def as_dict(self) -> dict[str, Any]:
        rows = [asdict(one) for one in self.bins]
        return {"expected_error": self.error, "bins_of_equal_width": len(rows), "bins": rows}


@dataclass(frozen=True)
class Temperature:
    """What the logits are divided by, and on how many validation images it was fitted."""

    value: float
    images: int


def calibration(logits_NK: Tensor, labels_N: Tensor, bins: int = BINS) -> Calibration:
    """Reliability of the answers. Logits that are no numbers are answers of no confidence."""
    probabilities = logits_NK.double().softmax(1).nan_to_num(nan=0.0)
    confidence = probabilities.amax(1)
    right = (rank_of_truth(logits_NK, labels_N) == 0).double()
    places = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    counts = torch.bincount(places, minlength=bins).tolist()
    hits = torch.bincount(places, right, minlength=bins).tolist()
    sums = torch.bincount(places, confidence, minlength=bins).tolist()
    found = tuple(
        Bin(k / bins, (k + 1) / bins, n, h / n if n else None, s / n if n else None)
        for k, (n, h, s) in enumerate(zip(counts, hits, sums, strict=True))
    )
    error = sum(abs(h - s) for h, s in zip(hits, sums, strict=True)) / max(1, len(labels_N))
    return Calibration(found, error)


def fit_temperature(logits_NK: Tensor, labels_N: Tensor) -> Temperature | None:
    """The temperature of least loss on validation images; None where none is least.

    The loss is convex in 1/T, and its slope there is the mean over images of the expected logit less the logit of the
    truth: the root is found by halving. There is none where every image is answered rightly (the loss falls without end
    as T does) or where the answers are worse than chance.
    """
    logits = logits_NK.double()
    if not len(labels_N) or not logits.isfinite().all():
        return None
    logits = logits - logits.amax(1, keepdim=True)
    truth = logits.gather(1, labels_N.unsqueeze(1)).squeeze(1)

    def slope(inverse: float) -> float:
        return float(((logits * inverse).softmax(1).mul(logits).sum(1) - truth).mean())

    low, high = _HOTTEST, _COLDEST
    if slope(low) >= 0 or slope(high) <= 0:
        return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        if not low < middle < high:
            break
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return Temperature(2 / (low + high), len(labels_N))
