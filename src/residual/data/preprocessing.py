"""From pixels to what a network sees: constants measured on the training images, stored with the model.

images_NCHW uint8, pixels 0-255, become float32. `per-pixel-mean` subtracts the mean image and divides
by nothing but 255, which only sets the scale (He et al. 2015, section 4.2, subtract the mean image);
`mean-std` subtracts one mean and divides by one deviation per channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from residual.data.geometry import Geometry, Interpolation, Resize
from residual.data.source import FileSource, Source, expect
from residual.device import at_home
from residual.errors import UsageError

Normalisation = Literal["per-pixel-mean", "mean-std"]
_LARGEST = 1 << 14  # channels, or pixels on a side
_LEAST = 0.1  # share of an image that the centre may be
_PART = 1 << 24  # values read at a time, so that the sums need little memory
_MOST = 10_000  # images of files that are decoded for it
_FLAT = (
    1.0  # least deviation in grey levels: less is a channel that says nothing, and noise of a jitter in it would rule
)
_EXACT = (1 << 24) // 255  # bytes whose sum float32 holds exactly, in whatever order they are added


@dataclass(frozen=True)
class Preprocessing:
    """Geometry and constants: image_size (H, W), channels C, mean_CHW or mean_C11, std_C11, in pixels / 255.

    `crop` is the share of the resized side that the centre keeps: 224 / 256 for most weights of ImageNet.
    `train_size` (H, W) is what the network was trained on, where it is judged on images of another size.
    """

    image_size: tuple[int, int]
    channels: int
    normalisation: Normalisation
    mean: Tensor
    std: Tensor
    crop: float = 1.0
    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"
    train_size: tuple[int, int] | None = None

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.resize, self.interpolation, self.crop)

    def of(self, geometry: Geometry, size: tuple[int, int] | None = None) -> Preprocessing:
        """The same constants for images brought to (H, W) in another way."""
        way: dict[str, Any] = {
            "resize": geometry.resize,
            "interpolation": geometry.interpolation,
            "crop": geometry.share,
        }
        if size is None or size == self.image_size:
            return replace(self, **way)
        return replace(self.with_size(size), train_size=self.train_size or self.image_size, **way)

    def mind_pictures(self, where: object) -> None:
        """See that image files can reach the model.

        Raises:
            UsageError: it takes other channels than any of them has.
        """
        if self.channels not in (1, 3):
            what = f"image files give 1 or 3 channels and the model takes {self.channels}"
            raise UsageError(what, where, "give uint8 tensors of C x H x W to Classifier.logits")

    def with_size(self, size: tuple[int, int]) -> Preprocessing:
        """The same constants for images of (H, W): a mean image resized (bilinear), means of channels as they are."""
        if tuple(self.mean.shape[1:]) in (size, (1, 1)):
            return replace(self, image_size=size)
        mean = self.mean.unsqueeze(0)
        resized = interpolate(mean, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
        return replace(self, image_size=size, mean=resized)

    def on(self, device: torch.device) -> Preprocessing:
        """The same with its constants on a device."""
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))

    def normalise(self, images: Tensor) -> Tensor:
        """float32 NCHW from uint8 NCHW, on the images' device."""
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return images.float().div_(255).sub_(mean).div_(std)

    def flat(self) -> list[int]:
        """The channels that are the same all over the training images, from 0."""
        if self.normalisation != "mean-std":
            return []
        return [number for number, std in enumerate(self.std.flatten().tolist()) if std < 1.001 * _FLAT / 255]

    def facts(self) -> dict[str, Any]:
        return {
            "image_size": list(self.image_size),
            "channels": self.channels,
            "normalisation": self.normalisation,
            "resize": self.geometry.words(),
            **({} if self.crop == 1 else {"crop": self.crop}),
            **({} if self.resize == "crop" else {"mode": self.resize}),
            **({} if self.interpolation == "bilinear" else {"interpolation": self.interpolation}),
            **({} if self.train_size is None else {"train_size": list(self.train_size)}),
        }

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "std": self.std}

    def with_channels(self, channels: int) -> Preprocessing:
        """The constants for other channels: their mean for one, else repeated in turn."""

        def turned(values: Tensor) -> Tensor:
            return values.mean(0, keepdim=True) if channels == 1 else values[torch.arange(channels) % self.channels]

        return replace(self, channels=channels, mean=turned(self.mean), std=turned(self.std))

    @staticmethod
    def restore(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Preprocessing:
        """What `facts` and `tensors` gave; raises ValueError or KeyError where they cannot be used."""
        (height, width), channels, normalisation = facts["image_size"], facts["channels"], facts["normalisation"]
        train_size = facts.get("train_size")
        sides = (height, width, *(() if train_size is None else (train_size[0], train_size[1])))
        if not all(type(value) is int and 0 < value <= _LARGEST for value in (*sides, channels)):
            raise ValueError(f"an image of {channels} x {height} x {width} is not possible")
        if normalisation not in get_args(Normalisation):
            raise ValueError(f"no normalisation {normalisation!r:.40}")
        mean, std = tensors["mean"], tensors["std"]
        shapes = {"per-pixel-mean": (channels, height, width), "mean-std": (channels, 1, 1)}
        for name, tensor, shape in (("mean", mean, shapes[normalisation]), ("std", std, (channels, 1, 1))):
            if tensor.shape != shape or tensor.dtype != torch.float32 or not tensor.isfinite().all():
                raise ValueError(f"{name} is not {' x '.join(map(str, shape))} finite float32 numbers")
        if not (std > 0).all():
            raise ValueError("std is not above 0")
        crop = facts.get("crop", 1.0)
        if type(crop) not in (int, float) or not _LEAST <= crop <= 1:
            raise ValueError(f"crop is {crop!r:.40}, not a share between {_LEAST} and 1")
        resize, interpolation = facts.get("mode", "crop"), facts.get("interpolation", "bilinear")
        for word, known in ((resize, Resize), (interpolation, Interpolation)):
            if word not in get_args(known):
                raise ValueError(f"images cannot be resized by {word!r:.40}")
        sizes: tuple[Any, Any] = (float(crop), None if train_size is None else tuple(train_size))
        return Preprocessing(
            (height, width), channels, normalisation, mean, std, sizes[0], resize, interpolation, sizes[1]
        )


@at_home()
def measure(source: Source, indices: Tensor, normalisation: Normalisation) -> Preprocessing:
    """The constants of the images named by `indices` (the training part, never the held images).

    Sums are those of integers, each held exactly, so the order of the images does not matter. Of files, at most
    10,000 are decoded for it, evenly spread over those named.
    """
    if isinstance(source, FileSource) and len(indices) > _MOST:
        indices = indices[torch.arange(_MOST) * len(indices) // _MOST]
    first = source.read(indices[:1])
    _, channels, height, width = first.shape
    total = torch.zeros(channels, height, width, dtype=torch.float64)
    frequencies = torch.zeros(channels, 256, dtype=torch.int64)
    parts = indices.split(min(_EXACT, max(1, _PART // first[0].numel())))
    for number, part in enumerate(parts):
        pixels = source.read(part)
        for following in parts[number + 1 : number + 2]:
            expect(source, following)
        total += pixels.float().sum(0)
        frequencies += torch.stack([channel.flatten().bincount(minlength=256) for channel in pixels.unbind(1)])
    square = (frequencies * torch.arange(256).square()).sum(1).double()
    count = len(indices)
    mean_image = total / count
    if normalisation == "per-pixel-mean":
        mean, std = mean_image / 255, torch.ones(channels, 1, 1, dtype=torch.float64)
    else:
        centre = mean_image.mean((1, 2))
        spread = (square / (count * height * width) - centre.square()).clamp_min(0).sqrt().clamp_min(_FLAT)
        mean, std = centre.view(-1, 1, 1) / 255, spread.view(-1, 1, 1) / 255
    return Preprocessing((height, width), channels, normalisation, mean.float(), std.float())
