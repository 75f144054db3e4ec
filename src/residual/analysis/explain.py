"""Grad-CAM: where in an image a network found what speaks for a class.

The class's logit is followed back to the last stage's maps A_NCHW; each map is weighted by the mean of its gradient
over all places, and what the weighted sum has above zero is the map L_NHW of the class:
L = relu(sum_c mean_hw(d logit / d A_c) A_c). It is as coarse as the last stage, and negative evidence is not in it.
Source: Selvaraju et al. 2017, section 3.

images_NCHW float, normalised; classes_NT int64, T classes for each image; pixels uint8 CHW, 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from residual.evaluation.classifier import Classifier
from residual.evaluation.evaluate import resting
from residual.evaluation.logits import finite
from residual.models import ResidualNetwork, layout_of, put

_BATCH_PIXELS = 8 * 224 * 224
_STRONGEST = 0.75  # share of the colour where the map is 1
_GREY: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Dark violet, red, orange, light yellow: told apart by their lightness alone too.
_COLOURS: Final = ((66, 10, 104), (187, 55, 84), (249, 142, 9), (252, 255, 164))


@dataclass(frozen=True)
class Explanation:
    """What a network sees of an image, its first answers (name, probability), and a map 0..1 for each, THW."""

    pixels: Tensor
    answers: tuple[tuple[str, float], ...]
    maps: Tensor


def grad_cam(network: ResidualNetwork, images_NCHW: Tensor, classes_NT: Tensor) -> Tensor:
    """The maps of the classes, (N, T, h, w) in the size of the last stage and in the unit of its maps, 0 or above.

    In evaluation mode, whatever mode the network is in; neither it nor its gradients are changed.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            last_NCHW = network.features(images_NCHW)[-1]
        with torch.enable_grad():
            maps_NCHW = last_NCHW.detach().clone().requires_grad_()
            logits_NK = network.classifier(network.dropout(network.head(maps_NCHW)))
            found = []
            for classes_N1 in classes_NT.split(1, dim=1):
                # An image's logit depends on its own maps alone, so the sum has the gradient of each.
                logit = logits_NK.gather(1, classes_N1).sum()
                (gradient_NCHW,) = torch.autograd.grad(logit, maps_NCHW, retain_graph=True)
                weights_NC11 = gradient_NCHW.mean((2, 3), keepdim=True)
                found.append((weights_NC11 * maps_NCHW.detach()).sum(1).relu())
    finally:
        network.train(training)
    return torch.stack(found, 1)


def relative(maps_NTHW: Tensor, size: tuple[int, int]) -> Tensor:
    """The maps in the size (H, W) of the image, bilinear, each divided by its largest value; one of nothing stays 0."""
    resized = interpolate(maps_NTHW.nan_to_num(0, 0, 0), size=size, mode="bilinear", align_corners=False)
    largest = resized.amax((2, 3), keepdim=True)
    return torch.where(largest > 0, resized / largest.clamp_min(torch.finfo(resized.dtype).tiny), 0.0)


def explain(
    classifier: Classifier, pixels: Sequence[Tensor], top_k: int = 3, classes: Sequence[int] | None = None
) -> list[Explanation]:
    """The first answers to uint8 images CHW in the classifier's geometry, each with its map.

    Args:
        classes: the answers that are asked for instead of the first.
    """
    found: list[Explanation] = []
    for some in _batches(pixels):
        logits = _logits(classifier, some)
        if classes is None:  # by the logits: many probabilities may be 0
            chosen = logits.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        else:
            chosen = torch.tensor([*classes], dtype=torch.int64).expand(len(logits), -1)
        shares = logits.softmax(1).gather(1, chosen)
        maps = _maps(classifier, some, chosen)
        for image, share, order, of_image in zip(some, shares.tolist(), chosen.tolist(), maps, strict=True):
            answers = tuple((classifier.class_names[c], p) for c, p in zip(order, share, strict=True))
            found.append(Explanation(image, answers, of_image))
    return found


def overlays(classifier: Classifier, pixels: Sequence[Tensor], classes: Sequence[int]) -> tuple[Tensor, ...]:
    """uint8 CHW for each image: the map of its class laid over it."""
    found: list[Tensor] = []
    for some in _batches(pixels):
        chosen = torch.tensor(classes[len(found) : len(found) + len(some)], dtype=torch.int64)
        maps = _maps(classifier, some, chosen.unsqueeze(1))
        found += [overlay(image, of_image[0]) for image, of_image in zip(some, maps, strict=True)]
    return tuple(found)


def overlay(pixels_CHW: Tensor, map_HW: Tensor) -> Tensor:
    """uint8 CHW, RGB: the image in grey, coloured where the map (0..1) is high."""
    image = pixels_CHW.float()
    weights = torch.tensor(_GREY).view(3, 1, 1)
    grey = (image[:3] * weights).sum(0) if len(image) >= 3 else image[0]
    colours = torch.tensor(_COLOURS, dtype=torch.float32)
    place = map_HW.clamp(0, 1) * (len(colours) - 1)
    low = place.floor().long().clamp_max(len(colours) - 2)
    part = (place - low).unsqueeze(-1)
    colour = ((1 - part) * colours[low] + part * colours[low + 1]).permute(2, 0, 1)
    share = _STRONGEST * map_HW.clamp(0, 1)
    return ((1 - share) * grey + share * colour).round().clamp(0, 255).byte()


def _batches(pixels: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    if not pixels:
        return []
    height, width = pixels[0].shape[1:]
    count = max(1, min(64, _BATCH_PIXELS // (height * width)))
    return [pixels[start : start + count] for start in range(0, len(pixels), count)]


def _seen(classifier: Classifier, pixels: Sequence[Tensor]) -> Tensor:
    device = classifier.network.classifier.weight.device
    # Laid out as for evaluation, so that a map does not depend on whether the network has just been evaluated.
    put(classifier.network, device)
    images_NCHW = classifier.preprocessing.normalise(torch.stack(list(pixels)).to(device))
    return images_NCHW.contiguous(memory_format=layout_of(device))


def _logits(classifier: Classifier, pixels: Sequence[Tensor]) -> Tensor:
    with torch.no_grad(), resting(classifier.network):
        logits: Tensor = classifier.network(_seen(classifier, pixels))
    return finite(logits.float().cpu(), classifier.spec.name)


def _maps(classifier: Classifier, pixels: Sequence[Tensor], classes_NT: Tensor) -> Tensor:
    """0..1 NTHW in the size of the images, on the CPU."""
    images = _seen(classifier, pixels)
    with resting(classifier.network):
        maps = grad_cam(classifier.network, images, classes_NT.to(images.device))
    return relative(maps.float().cpu(), (images.shape[2], images.shape[3]))
