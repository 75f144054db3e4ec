"""What a linear classifier can read from each unit's maps, and how alike the maps of two units are.

Axes: features_NC float64, one row an image: a unit's maps averaged over pixels. A probe is ridge regression on one-hot
labels, solved in closed form on training images and judged on others (Alain and Bengio 2016, with least squares in the
place of a softmax). Likeness is linear CKA (Kornblith et al. 2019, section 3), unbiased: 1 for maps equal up to a
rotation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from residual.models import ResidualNetwork

RIDGE = 1e-3
"""Times the mean variance of a feature."""


@dataclass(frozen=True)
class Probes:
    """By stem and unit, in order: the accuracy of a probe in percent; the likeness of each to the one before it, and
    whether both stand in one stage."""

    names: tuple[str, ...]
    accuracy: tuple[float, ...]
    similarity: tuple[float, ...]
    within: tuple[bool, ...]


@torch.inference_mode()
def features(network: ResidualNetwork, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """features_NC of the stem and of every unit, by name, in evaluation mode over batches of normalised images."""
    points = {"stem": network.stem} | {
        f"stages.{stage}.{place}": unit
        for stage, units in enumerate(network.stages)
        for place, unit in enumerate(units.children())
    }
    kept: dict[str, list[Tensor]] = {name: [] for name in points}
    hooks = [module.register_forward_hook(_keeper(kept[name])) for name, module in points.items()]
    was_training = network.training
    try:
        network.eval()
        for images in batches:
            network(images)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in kept.items()}


def _keeper(kept: list[Tensor]):  # type: ignore[no-untyped-def]  # torch's own type of a hook
    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        kept.append(output.cpu().double().mean((2, 3)))  # no device of Apple has float64

    return keep


def probe(train_NC: Tensor, labels_N: Tensor, test_NC: Tensor, truth_N: Tensor, classes: int) -> float:
    """Accuracy in percent on test features of a ridge classifier fitted on training features."""
    mean = train_NC.mean(0)
    spread = train_NC.std(0).clamp_min(1e-12)
    x, y = (train_NC - mean) / spread, (test_NC - mean) / spread
    targets = torch.nn.functional.one_hot(labels_N, classes).double()
    centre = targets.mean(0)
    ridge = RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ (targets - centre))
    answers = (y @ weights + centre).argmax(1)
    return float(100 * (answers == truth_N).double().mean())


def linear_cka(a_NC: Tensor, b_NC: Tensor) -> float:
    """Linear CKA of two sets of features of the same images, without the bias of few images; 0 where one is constant.

    The plain estimator grows with channels over images: unrelated features of 512 channels and 2,000 images have .2.
    This one is about 0 there, a little below as well as above. At least four images are needed.
    Source: Song et al. 2012, equation 5; Nguyen et al. 2021, section 3.
    """
    a, b = a_NC - a_NC.mean(0), b_NC - b_NC.mean(0)
    across, alone = _hsic(a, b), _hsic(a, a) * _hsic(b, b)
    return across / math.sqrt(alone) if alone > 0 and a.any() and b.any() else 0.0


def _hsic(a_NC: Tensor, b_NC: Tensor) -> float:
    """The unbiased HSIC of linear kernels, from features: no N x N matrix is needed."""
    n = len(a_NC)
    own_a, own_b = a_NC.square().sum(1), b_NC.square().sum(1)  # the diagonals, which the estimator leaves out
    sums_a, sums_b = a_NC @ a_NC.sum(0) - own_a, b_NC @ b_NC.sum(0) - own_b
    trace = (a_NC.T @ b_NC).square().sum() - (own_a * own_b).sum()
    whole = sums_a.sum() * sums_b.sum() / ((n - 1) * (n - 2))
    return float(trace + whole - 2 / (n - 2) * (sums_a * sums_b).sum()) / (n * (n - 3))


def probes(
    train: dict[str, Tensor], labels_N: Tensor, test: dict[str, Tensor], truth_N: Tensor, classes: int
) -> Probes:
    """Probes and likenesses of every unit from its features of training and test images."""
    names = tuple(train)
    accuracy = tuple(probe(train[name], labels_N, test[name], truth_N, classes) for name in names)
    return Probes(names, accuracy, *likeness(test))


def likeness(test: dict[str, Tensor]) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """The likeness of each unit to the one before it, and whether both stand in one stage."""
    neighbours = list(pairwise(test))
    similarity = tuple(linear_cka(test[a], test[b]) for a, b in neighbours)
    return similarity, tuple(a.rpartition(".")[0] == b.rpartition(".")[0] for a, b in neighbours)
