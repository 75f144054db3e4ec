"""Statistics of batch normalisation as true averages over training images, computed once after training.

The running averages of training lag behind the weights and come from augmented images. The authors' release of the
ImageNet networks computed the statistics anew (He et al. 2016, github.com/KaimingHe/deep-residual-networks). Images
are normalised float NCHW, weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn


def parts_of(count: int, batch_size: int, shares: int = 1) -> int:
    """In how many parts so many images are taken: none larger than that share of a batch.

    Parts are of nearly equal size, since each counts alike, and one image alone has no variance.
    """
    most = max(2, batch_size // shares)
    parts = -(-count // most)
    return parts if shares == 1 else max(1, min(parts, count // 2))


@torch.no_grad()
def measure_statistics(
    network: nn.Module,
    batches: Iterable[Tensor],
    halt: Callable[[], bool] = lambda: False,
    fixed: Collection[nn.Module] = (),
) -> bool:
    """Replace the statistics by the means over the batches of each batch's mean and variance; not those of `fixed`.

    Returns False, and leaves them as they were, where `halt` said yes in between; an error leaves them so, too.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module not in fixed]
    before = [(n.momentum, {k: t.clone() for k, t in n.named_buffers()}) for n in norms]
    training = {module: module.training for module in network.modules()}
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then keeps the plain mean of all batches
        norm.train()
    whole = False
    try:
        for images in batches:
            if halt():
                break
            network(images)
        else:
            whole = True
    finally:
        for norm, (momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(buffers["num_batches_tracked"])
            if not whole:
                for name, tensor in buffers.items():
                    norm.get_buffer(name).copy_(tensor)
        for module, mode in training.items():
            module.training = mode
    return whole
