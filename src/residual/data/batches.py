"""`batch_at(step, rank, world)`: the batch of any step, at the same cost, from (seed, step) alone.

The samples are one endless sequence: epoch 0 in its order, then epoch 1 in its own, and so on. Step s
takes places [s*B, (s+1)*B) of it, so every batch is full, batches may span two epochs, and 64,000
steps of 128 are 163.84 epochs of 50,000 images to the last image (He et al. 2015, section 4.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from residual.chance import stream
from residual.data.augment import AugmentSettings, Draws, augment, choose, crops, on_pixels
from residual.data.balance import EvenOrder, Sampling
from residual.data.colour import add_noise, principal_colours
from residual.data.mixing import choose as choose_mixes
from residual.data.mixing import mix
from residual.data.preprocessing import Preprocessing
from residual.data.resizing import shrink, side_at
from residual.data.sending import sent
from residual.data.source import CroppingSource, FileSource, Source, resident
from residual.device import at_home
from residual.errors import UsageError


@dataclass(frozen=True)
class Batch:
    """images float32 NCHW (normalised, augmented), labels int64 N, samples int64 N (numbers in the source).

    Where images were mixed: the label of each one's partner, and the share_N of the image's own label.
    `weights` (float32 K) is what the classes count for in the loss, where that is not the same.
    """

    images: Tensor
    labels: Tensor
    samples: Tensor
    partners: Tensor | None = None
    share: Tensor | None = None
    weights: Tensor | None = None


def check_batch_size(images: int, batch_size: int) -> None:
    """Refuse a batch that is larger than the training set.

    Raises:
        UsageError: with both numbers.
    """
    if images < batch_size:
        what = f"{images} training images are fewer than one batch of {batch_size}"
        raise UsageError(what, "batch_size", f"set it to {images} or less, or give more images")


def check_crops(source: Source, image_size: tuple[int, int], settings: AugmentSettings) -> None:
    """Refuse crops of photographs where there are none, or from sides that do not hold them; turns of no squares.

    Raises:
        UsageError: with the setting.
    """
    name = "crop_scale" if settings.crop_scale else "short_side" if settings.short_side else None
    if name is not None and not isinstance(source, CroppingSource):
        what = f"{name} crops photographs while they are decoded, and these images are no files"
        raise UsageError(what, f"data.augment.{name}", "use data.augment.pad_crop")
    if settings.short_side is not None and settings.short_side[0] < max(image_size):
        what = f"a shorter side of {settings.short_side[0]} pixels holds no crop of {max(image_size)}"
        raise UsageError(what, "data.augment.short_side", f"begin at {max(image_size)}, or set a smaller image_size")
    if settings.dihedral and image_size[0] != image_size[1]:
        what = f"images of {image_size[0]} x {image_size[1]} pixels are no squares, which are turned"
        raise UsageError(what, "data.augment.dihedral", "set data.augment.mirror instead, or an image_size")


def steps_of(epochs: float, images: int, batch_size: int) -> int:
    """The number of steps after which `epochs` passes over the images are whole; 1.1 means eleven tenths exactly."""
    return max(1, math.ceil(Fraction(str(epochs)) * images / batch_size))


def stretches(seen: int, images: int, every: float) -> int:
    """How often `every` epochs of `images` images are whole in so many that were seen."""
    return int(Fraction(seen, images) // Fraction(repr(float(every))))


def share_of(batch_size: int, world: int) -> int:
    """The images of a batch that each of `world` processes has.

    Raises:
        UsageError: they cannot share it equally.
    """
    if batch_size % world:
        what = f"a batch of {batch_size} cannot be shared equally by {world} processes"
        raise UsageError(what, "batch_size", f"choose a multiple of {world}")
    return batch_size // world


def _order(images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(images, generator=stream(seed, "order", epoch))


def _shown(indices: Tensor, even: EvenOrder | None, epoch: int) -> Tensor:
    """The number in the source of the image in each row of an epoch.

    A row is an image; where classes are balanced, it is a place that an image is given for this epoch, so an image
    that comes several times is augmented anew each time.
    """
    return indices if even is None else indices.index_select(0, even.rows(epoch))


class Batches:
    """The training batches of one run."""

    def __init__(
        self,
        source: Source,
        indices: Tensor,
        preprocessing: Preprocessing,
        settings: AugmentSettings,
        batch_size: int,
        seed: int,
        device: torch.device | None = None,
        total: int = 1,
        sampling: Sampling = "natural",
        class_weights: Tensor | None = None,
    ) -> None:
        """
        Args:
            source: where the images are.
            indices: int64 N, the images to train on.
            batch_size: images per step over all ranks together.
            total: the steps of the run, for progressive resizing.
            sampling: `balanced` shows every class equally often, its images by turns.
            class_weights: K, handed on with every batch.

        Raises:
            UsageError: fewer images than one batch, or crops that these images cannot give.
        """
        check_batch_size(len(indices), batch_size)
        check_crops(source, preprocessing.image_size, settings)
        self.indices, self.preprocessing, self.settings = indices, preprocessing, settings
        self.batch_size, self.seed, self.device = batch_size, seed, device or torch.device("cpu")
        self.source = resident(source, self.device)
        self.total = total
        self.even = EvenOrder(source.labels.index_select(0, indices), seed) if sampling == "balanced" else None
        self.class_weights = None if class_weights is None else class_weights.to(self.device, torch.float32)
        # What every batch needs lies on the device: a copy in each step would have the host wait for the step before.
        self.constants = preprocessing.on(self.device)
        self.colours = principal_colours(source, indices).to(self.device) if settings.colour_noise else None
        self._remember()

    def _remember(self) -> None:
        """Two epochs, since a batch may span the border between them. These functions know nothing of this object: it
        and its images are to go when the last who uses them goes, not when cycles are collected."""
        self.order = lru_cache(maxsize=2)(partial(_order, len(self.indices), self.seed))
        self.draws = lru_cache(maxsize=2)(partial(choose, len(self.indices), self.settings, self.seed))
        self.shown = lru_cache(maxsize=2)(partial(_shown, self.indices, self.even))

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered, which follows from the rest: a loader's processes are given the batches."""
        return {name: value for name, value in vars(self).items() if name not in ("order", "draws", "shown")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._remember()

    def __len__(self) -> int:
        """Images in one epoch."""
        return len(self.indices)

    def epoch(self, step: int) -> float:
        """How many epochs have been seen before `step`."""
        return step * self.batch_size / len(self)

    def stretches(self, step: int, every: float) -> int:
        """How often so many epochs are whole before `step`: counted exactly, where .3 / .1 would be below 3."""
        return stretches(step * self.batch_size, len(self), every)

    def sequence(self, epoch: int) -> Tensor:
        """The numbers in the source of an epoch's images, int64 N, in the order in which they are seen."""
        return self.shown(epoch).index_select(0, self.order(epoch))

    def places(self, step: int, rank: int = 0, world: int = 1) -> list[tuple[int, Tensor]]:
        """(epoch, rows) of the samples of one rank at one step; rows are numbers in [0, len(self))."""
        share = share_of(self.batch_size, world)
        start = step * self.batch_size + rank * share
        found = []
        while share:
            epoch, place = divmod(start, len(self))
            count = min(share, len(self) - place)
            found.append((epoch, self.order(epoch)[place : place + count]))
            start, share = start + count, share - count
        return found

    def samples(self, step: int, rank: int = 0, world: int = 1) -> Tensor:
        """The numbers in the source, int64 N, of the images of one rank at one step."""
        places = self.places(step, rank, world)
        return torch.cat([self.shown(epoch).index_select(0, rows) for epoch, rows in places])

    def expect(self, step: int, rank: int = 0, world: int = 1) -> None:
        """Let a source that decodes files begin with a later step; that step's batch stays what it is."""
        if isinstance(self.source, FileSource):
            samples, windows = self.samples(step, rank, world), crops(self._drawn(step, rank, world), self.settings)
            if windows is None:
                self.source.expect(samples)
            elif isinstance(self.source, CroppingSource):
                self.source.expect(samples, windows)

    def _drawn(self, step: int, rank: int, world: int) -> Draws:
        return Draws.joined([self.draws(epoch).rows(rows) for epoch, rows in self.places(step, rank, world)])

    def _read(self, samples: Tensor, draws: Draws) -> Tensor:
        windows = crops(draws, self.settings)
        if windows is not None and isinstance(self.source, CroppingSource):
            return self.source.read_cropped(samples, windows)
        return self.source.read(samples)

    @at_home()
    def batch_at(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The batch of one rank at one step, on the device."""
        draws = self._drawn(step, rank, world)
        samples = self.samples(step, rank, world)
        read = sent(self._read(samples, draws), self.device)
        draws = draws.on(self.device)
        pixels = on_pixels(read, draws, self.settings)
        images = self.constants.normalise(pixels)
        if self.colours is not None:
            images = add_noise(images, draws.tables["colour_noise"], self.colours, self.constants.std)
        images = augment(images, draws, self.settings)
        images = shrink(images, side_at(self.settings.sizes, step, self.total))
        labels = sent(self.source.labels.index_select(0, samples), self.device)
        if not (self.settings.mixup or self.settings.cutmix):
            return Batch(images, labels, samples, weights=self.class_weights)
        own = slice(rank * len(samples), (rank + 1) * len(samples))
        settings = self.settings
        mixes = choose_mixes(self.batch_size, settings.mixup, settings.cutmix, self.seed, step, own)
        mixed, partners, share = mix(images, labels, mixes)
        return Batch(mixed, labels, samples, partners, share, self.class_weights)
