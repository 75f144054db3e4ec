"""Two images in one: mixup and CutMix. The loss is shared between the two labels as the pixels are.

images are float NCHW. Each image is mixed with its neighbour in the batch, 0 with 1, 2 with 3: a pair lies
in one rank's part of the batch however many processes share it. Sources: Zhang et al. 2018 (mixup: Beyond
Empirical Risk Minimization), section 2; Yun et al. 2019 (CutMix), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from residual.chance import derive
from residual.data.sending import sent
from residual.errors import UsageError

Alpha = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


@dataclass(frozen=True)
class Mixes:
    """For N images: share_N of the image itself in [0, 1], whether by a box, and the box's centre_N2 in [0, 1)."""

    share: Tensor
    boxed: Tensor
    centre: Tensor


def choose(batch: int, mixup: float, cutmix: float, seed: int, step: int, own: slice) -> Mixes:
    """The mixes of a step, drawn for the whole batch, for the images in the slice `own` of it.

    Both images of a pair keep the same share, Beta(alpha, alpha), and the same box.

    Raises:
        UsageError: a pair would be cut in two.
    """
    if own.start % 2 or (own.stop - own.start) % 2:
        raise UsageError(
            f"mixup and CutMix mix pairs, and a process has {own.stop - own.start} images of a batch",
            "batch_size",
            "make it even",
        )
    pairs = batch // 2
    random = np.random.Generator(np.random.PCG64(derive(seed, "augment", "mix", step)))
    which, centre = random.random(pairs), random.random((pairs, 2))
    boxed = which < 0.5 if mixup and cutmix else np.full(pairs, bool(cutmix))
    blend, cut = (random.beta(alpha or 1.0, alpha or 1.0, pairs) for alpha in (mixup, cutmix))

    def both(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values.repeat(2, axis=0)[own])

    return Mixes(both(np.where(boxed, cut, blend)).float(), both(boxed), both(centre).float())


def mix(images: Tensor, labels: Tensor, mixes: Mixes) -> tuple[Tensor, Tensor, Tensor]:
    """(images, labels of the partners, share_N of the image itself) after mixing.

    A box that is cut at the image's edge leaves more of the image: its share is that of the pixels left.
    """
    partner = torch.arange(len(images), device=images.device) ^ 1
    others = images.index_select(0, partner)
    share = sent(mixes.share, images.device)
    weight = share.view(-1, 1, 1, 1)
    blended = images * weight + others * (1 - weight)
    height, width = images.shape[2:]
    side = (1 - share).clamp_min(0).sqrt()
    centre = sent(mixes.centre, images.device)
    edges = []
    for axis, length in enumerate((height, width)):
        middle, extent = (centre[:, axis] * length).long(), (side * length).long()
        edges.append(((middle - extent // 2).clamp(0, length), (middle - extent // 2 + extent).clamp(0, length)))
    (top, bottom), (left, right) = edges
    rows = torch.arange(height, device=images.device).view(1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1)

    def wide(edge: Tensor) -> Tensor:
        return edge.view(-1, 1, 1)

    box = (rows >= wide(top)) & (rows < wide(bottom)) & (columns >= wide(left)) & (columns < wide(right))
    cut = torch.where(box.unsqueeze(1), others, images)
    boxed = sent(mixes.boxed, images.device)
    left_over = 1 - ((bottom - top) * (right - left)).float() / (height * width)
    mixed = torch.where(boxed.view(-1, 1, 1, 1), cut, blended)
    return mixed, labels.index_select(0, partner), torch.where(boxed, left_over, share)
