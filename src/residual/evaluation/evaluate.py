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
from residual.data.sending import sent
from residual.data.source import Source, expect
from residual.errors import OutOfMemory, lacks_memory, log
from residual.evaluation.scores import KS, Tally, sum_type
from residual.models import ResidualNetwork, layout_of
from residual.ranks import ALONE, Ranks

BATCH = 500
PIXELS = BATCH * 64 * 64
"""In one batch: larger images are taken fewer at a time."""


@dataclass(frozen=True)
class Evaluation:
    """Figures over `images` images, and confusion_KK int64: rows are true classes, columns predicted ones."""

    images: int
    scores: dict[str, float]
    confusion: Tensor


def batch_size(height: int, width: int) -> int:
    """How many images of that size are taken at a time."""
    return max(1, min(BATCH, PIXELS // (height * width)))


@contextmanager
def resting(network: ResidualNetwork) -> Iterator[None]:
    """The network in evaluation mode, every part put back as it was afterwards: some may rest in training, too."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def halved(images: int) -> int:
    """How many images are taken at a time where so many do not fit.

    Raises:
        OutOfMemory: it was one.
    """
    if images == 1:
        what = "out of memory while a single image was evaluated"
        raise OutOfMemory(what, "network, data.image_size", "make one of them smaller")
    log.warning("out of memory: %d images are evaluated at a time, not %d", images // 2, images)
    return images // 2


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
    back, never one of fewer images. One of several processes whose memory does not hold a batch takes fewer images at a
    time by itself; one alone raises what it met.
    """
    classes = network.spec.classes
    hits = torch.zeros(len(KS), dtype=torch.int64, device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    halted = torch.zeros((), dtype=torch.int64, device=device)
    with torch.inference_mode(), resting(network):
        parts, most = indices.split(batch_size), batch_size
        sight, layout = preprocessing.on(device), layout_of(device)
        losses = torch.zeros(len(parts), dtype=sum_type(device), device=device)
        for number, part in enumerate(parts[ranks.rank :: ranks.world]):
            if halt():
                halted += 1
                break
            place = ranks.rank + number * ranks.world
            pixels = source.read(part)
            for following in parts[place + ranks.world : place + ranks.world + 1]:
                expect(source, following)
            labels, done = sent(source.labels.index_select(0, part), device), 0
            while done < len(part):
                some = slice(done, done + most)
                try:
                    images = sight.normalise(sent(pixels[some], device)).contiguous(memory_format=layout)
                    logits = network(images).float()
                    counted = Tally.of(logits, labels[some])
                    cells = labels[some] * classes + logits.argmax(1)
                    cells = torch.bincount(cells, minlength=classes * classes)
                except (RuntimeError, MemoryError) as error:
                    if ranks.world == 1 or not lacks_memory(error):
                        raise
                    most = halved(len(labels[some]))  # the others do not meet this one before the end
                    continue
                losses[place] += counted.loss
                hits += counted.hits
                confusion += cells
                done += len(images)
            progress(len(part))
            ranks.moved()
        ranks.add(losses, hits, confusion, halted)
        if halted:
            return None
        tally = Tally(losses.new_zeros(()), hits, len(indices))
        for loss in losses:  # one by one, as they would be added by one process
            tally.loss += loss
    return Evaluation(tally.images, tally.scores(), confusion.view(classes, classes).cpu())
