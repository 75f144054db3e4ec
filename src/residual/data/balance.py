"""Uneven classes: every class as often as any other in training, or the loss of an image weighed by its class.

Sampling. Places of the endless sequence of samples are dealt to the classes in turn, so in any epoch their numbers
differ by one at most. A class fills its places with its images in a drawn order, all of them before any comes again,
on and on over the epochs: no image of a class is seen more than once oftener than another. Everything follows from
(seed, epoch) alone.

Weights_K. `balanced`: N / (K n) for a class of n of the N images (King and Zeng 2001). `effective`:
(1 - b) / (1 - b^n), the inverse of the number of images that n images with their overlap are worth (Cui et al. 2019,
equation 2). Both are scaled so that the mean over the training images is 1, which leaves the learning
rate its meaning.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from residual.chance import stream
from residual.data.splits import by_class

Sampling = Literal["natural", "balanced"]
Weighing = Literal["none", "balanced", "effective"]


class EvenOrder:
    """Which images an epoch sees where every class has its turn.

    Args:
        labels: int64 N, of the images trained on.
    """

    def __init__(self, labels: Tensor, seed: int) -> None:
        self.seed, self.images = seed, len(labels)
        members = by_class(labels)
        self.classes, self.members = list(members), list(members.values())

    def rows(self, epoch: int) -> Tensor:
        """int64 N in [0, N): the image in each of the epoch's places, class by class; the epoch mixes them."""
        start, count = epoch * self.images, len(self.classes)
        found = []
        for turn, members in enumerate(self.members):
            first, last = (-((turn - place) // count) for place in (start, start + self.images))
            found.append(members[self._stretch(turn, len(members), first, last)])
        return torch.cat(found)

    def _stretch(self, turn: int, size: int, first: int, last: int) -> Tensor:
        """Numbers in [0, size) at the places [first, last) of one order after the other."""
        if size == 1:
            return torch.zeros(last - first, dtype=torch.int64)
        label, rounds = self.classes[turn], range(first // size, -(-last // size))
        orders = [torch.randperm(size, generator=stream(self.seed, "order", "class", label, r)) for r in rounds]
        start = rounds.start * size
        return torch.cat(orders)[first - start : last - start] if orders else torch.zeros(0, dtype=torch.int64)


def weigh(counts: Tensor, how: Weighing, beta: float) -> Tensor:
    """Weights float64 K of classes with so many training images; a class without any has weight 0."""
    numbers = counts.double()
    weights = 1 / numbers if how == "balanced" else (1 - beta) / (1 - beta**numbers)
    return scaled(torch.where(counts > 0, weights, 0.0), counts)


def scaled(weights: Tensor, counts: Tensor) -> Tensor:
    """The weights in their proportions, with a mean of 1 over the images."""
    return weights * (counts.sum() / (weights * counts).sum())
