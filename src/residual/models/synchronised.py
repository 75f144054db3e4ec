"""Batch normalisation over the batch of all processes, as one process with the whole batch would have it.

Each process gives the count, the sum and the sum of squares of its part of every channel; these are added in float64,
and so are, on the way back, the two sums that the gradient needs (Ioffe and Szegedy 2015, section 3: the batch that
is normalised is the one that moves the weights). Works on every device; torch's own SyncBatchNorm refuses a CPU.

Axes: maps NCHW, all else C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.models.layers import GroupedBatchNorm
from residual.ranks import ALONE, Ranks


class _Normalise(torch.autograd.Function):
    """(maps, scale, shift) -> maps normalised over all processes; mean, variance, count; whether our part is finite."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, scale: Tensor, shift: Tensor, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        own = maps.numel() // maps.shape[1]
        # The statistics to be moved are not of interest; they say in which precision to compute.
        found = torch.batch_norm_update_stats(maps, torch.zeros_like(scale), torch.ones_like(scale), 0.0)
        mean, variance = (t.double() for t in found)
        sound = torch.isfinite(mean + variance).all()
        sums = torch.stack([torch.ones_like(mean), mean, variance + mean.square()]) * own
        ranks.add(sums)
        count = sums[0]
        mean = sums[1] / count
        variance = (sums[2] / count - mean.square()).clamp_min(0)
        mean, variance = mean.to(scale.dtype), variance.to(scale.dtype)
        ctx.save_for_backward(maps, scale, mean, variance, count)
        ctx.eps, ctx.ranks = eps, ranks
        ctx.mark_non_differentiable(mean, variance, count, sound)
        return F.batch_norm(maps, mean, variance, scale, shift, False, 0.0, eps), mean, variance, count, sound

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        maps, scale, mean, variance, count = ctx.saved_tensors
        gradient = gradients[0]
        # With mean and variance given, torch's own kernel sums gradient x normalised, and gradient. That for CUDA wants
        # the statistics of a training step to be there, if empty: it then takes mean and variance.
        none = mean.new_empty(0)
        _, of_scale, of_shift = torch.ops.aten.native_batch_norm_backward(
            gradient, maps, scale, mean, variance, none, none, False, ctx.eps, [False, True, True]
        )
        sums = torch.stack([of_scale, of_shift]).double()
        ctx.ranks.add(sums)
        along, level = sums / count
        inverse = (variance.double() + ctx.eps).rsqrt()
        factor = scale * inverse
        slope, offset, factor, middle = (
            t.to(scale.dtype).view(1, -1, 1, 1) for t in (-factor * inverse * along, -factor * level, factor, mean)
        )
        back = torch.addcmul(offset, maps - middle, slope).addcmul_(gradient, factor)
        return back.to(maps.dtype), of_scale, of_shift, None, None


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation that sees the batch of all processes in training; in evaluation it is the plain one.

    `sound` tells whether the maps of this process were finite when they last came in.
    """

    ranks: Ranks = ALONE
    sound: Tensor | None = None
    normalise: Any = None

    @staticmethod
    def of(norm: nn.BatchNorm2d, ranks: Ranks) -> SynchronisedBatchNorm:
        """A layer with the very parameters and statistics of a plain one."""
        made = SynchronisedBatchNorm(norm.num_features, norm.eps, norm.momentum, device="meta")
        made._parameters.update(norm._parameters)
        made._buffers.update(norm._buffers)
        made.ranks = ranks
        made.normalise = torch.compiler.disable(_Normalise.apply)  # a compiled network meets the others uncompiled
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.ranks.world == 1:
            return super().forward(input)
        output, mean, variance, count, sound = self.normalise(input, self.weight, self.bias, self.eps, self.ranks)
        self.sound = sound
        with torch.no_grad():
            seen = self.get_buffer("num_batches_tracked").add_(1)
            share = self.momentum if self.momentum is not None else 1 / int(seen)
            self.get_buffer("running_mean").lerp_(mean, share)
            unbiased = variance.double() * (count / (count - 1))
            self.get_buffer("running_var").lerp_(unbiased.to(variance.dtype), share)
        made: Tensor = output
        return made


def synchronise(network: nn.Module, ranks: Ranks) -> None:
    """Let the batch normalisations of a network see the batch of all processes; alone, nothing is changed.

    Those that see a group of images at a time stay: a group lies in one process.
    """
    if ranks.world == 1:
        return
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, GroupedBatchNorm):
                setattr(module, name, SynchronisedBatchNorm.of(child, ranks))


@contextmanager
def apart(network: nn.Module) -> Iterator[None]:
    """Within, every process normalises what it has alone, as all of them compute the same."""
    norms = [module for module in network.modules() if isinstance(module, SynchronisedBatchNorm)]
    ranks = [norm.ranks for norm in norms]
    for norm in norms:
        norm.ranks = ALONE
    try:
        yield
    finally:
        for norm, own in zip(norms, ranks, strict=True):
            norm.ranks = own


def sound_layers(network: nn.Module) -> Tensor | None:
    """How many synchronised layers, counted from the first, had finite maps in this process; None without any.

    What is not finite in one process is so in all of them from the next layer on: the smallest number names it.
    """
    sound = [m.sound for m in network.modules() if isinstance(m, SynchronisedBatchNorm) and m.sound is not None]
    return torch.stack(sound).long().cumprod(0).sum() if sound else None


def own_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances that each process has measured on its own images; not those that rest."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    return [
        buffer
        for norm in norms
        if not isinstance(norm, SynchronisedBatchNorm)
        for buffer in norm.buffers(recurse=False)
        if buffer.is_floating_point()
    ]
