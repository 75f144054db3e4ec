"""Evaluation: every image once, single view, weights in float32, counts summed and divided once.

The precision of training plays no part here, so a figure does not depend on how a network was trained
to reach its weights. Nor does it depend on how many processes share the work: they take whole batches by turns, and
the sums of the batches are added in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from residual.data.preprocessing import Preprocessing
from residual.data.source import Source, expect
from residual.evaluation.scores import KS, Tally, sum_type
from residual.models import ResidualNetwork
from residual.ranks import ALONE, Ranks

BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    """Figures over `images` images, and confusion_KK int64: rows are true classes, columns predicted ones."""

    images: int
    scores: dict[str, float]
    confusion: Tensor


@contextmanager
def resting(network: ResidualNetwork) -> Iterator[None]:
    """The network in evaluation mode, put back as it was afterwards."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def evaluate(
    network: ResidualNetwork,
    source: Source,
    indices: Tensor,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int = BATCH,
    halt: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
    ranks: Ranks = ALONE,
) -> Evaluation | None:
    """Top-1/3/5, loss and confusion over the images named by `indices` (int64 N).

    `halt` is asked before every batch; where it says yes to any process, there is no figure at all and None comes
    back, never one of fewer images.
    """
    classes = network.spec.classes
    hits = torch.zeros(len(KS), dtype=torch.int64, device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    halted = torch.zeros((), dtype=torch.int64, device=device)
    with torch.inference_mode(), resting(network):
        parts = indices.split(batch_size)
        losses = torch.zeros(len(parts), dtype=sum_type(device), device=device)
        for number, part in enumerate(parts[ranks.rank :: ranks.world]):
            if halt():
                halted += 1
                break
            place = ranks.rank + number * ranks.world
            pixels = source.read(part).to(device)
            for following in parts[place + ranks.world : place + ranks.world + 1]:
                expect(source, following)
            labels = source.labels.index_select(0, part).to(device)
            images = preprocessing.normalise(pixels).contiguous(memory_format=torch.channels_last)
            logits = network(images).float()
            counted = Tally.of(logits, labels)
            losses[place] = counted.loss
            hits += counted.hits
            confusion += torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
            progress(len(part))
            ranks.moved()
        ranks.add(losses, hits, confusion, halted)
        if halted:
            return None
        tally = Tally(losses.new_zeros(()), hits, len(indices))
        for loss in losses:  # one by one, as they would be added by one process
            tally.loss += loss
    return Evaluation(tally.images, tally.scores(), confusion.view(classes, classes).cpu())
