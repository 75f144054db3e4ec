"""What each class counts for in the loss: asked for by the recipe, measured on the training images, in run.json."""

from __future__ import annotations

import torch
from torch import Tensor

from residual.data.balance import scaled, weigh
from residual.data.datasets import Division
from residual.data.source import Dataset
from residual.errors import UsageError, nearest
from residual.files import Facts
from residual.training.recipe import LossSettings


def class_weights(loss: LossSettings, dataset: Dataset, division: Division) -> Tensor | None:
    """float64 K with a mean of 1 over the training images; None where every class counts the same.

    Raises:
        UsageError: a table names a class that is none.
    """
    if loss.class_weights == "none":
        return None
    names = dataset.class_names
    counts = dataset.train.labels.index_select(0, division.training).bincount(minlength=len(names))
    if loss.class_weights == "balanced" or loss.class_weights == "effective":
        return weigh(counts, loss.class_weights, loss.effective_beta)
    for name in loss.class_weights:
        if name not in names:
            what = f"no class is named {name[:80]!r}"
            raise UsageError(what, "loss.class_weights", nearest(name[:80], list(names)))
    given = torch.tensor([loss.class_weights.get(name, 1.0) for name in names], dtype=torch.float64)
    return scaled(given, counts)


def weight_facts(weights: Tensor | None, dataset: Dataset) -> Facts:
    """What run.json remembers of them; nothing where there are none."""
    if weights is None:
        return {}
    return {"class_weights": dict(zip(dataset.class_names, weights.tolist(), strict=True))}
