"""One training step: forward, loss, backward, test for non-finite values, update.

The test comes before the update, so no weight ever moves on a loss or gradient that is infinite or
not a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from residual.data.batches import Batch
from residual.errors import NonFiniteError
from residual.training.compute import Compute


@dataclass(frozen=True)
class StepResult:
    """logits_NK and labels_N of the batch, and its summed plain cross-entropy, all on the device."""

    logits: Tensor
    labels: Tensor
    loss_sum: Tensor


def train_step(
    network: nn.Module, optimiser: torch.optim.Optimizer, batch: Batch, compute: Compute, smoothing: float, step: int
) -> StepResult:
    """Move the weights once.

    Raises:
        NonFiniteError: the loss or a gradient is not finite; names the step and the first images.
    """
    images = batch.images.contiguous(memory_format=compute.memory_format)
    with compute.autocast():
        logits = network(images)
    logits = logits.float()
    loss = cross_entropy(logits, batch.labels, label_smoothing=smoothing)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    size = torch.nn.utils.get_total_norm(gradients)
    if not bool(torch.isfinite(loss.detach() + size)):
        what = "gradient" if bool(torch.isfinite(loss)) else "loss"
        raise NonFiniteError(
            f"the {what} is not finite at step {step}",
            f"training images {', '.join(str(i) for i in batch.samples[:5].tolist())}, ...",
            "lower the learning rate; the last checkpoint is whole",
        )
    optimiser.step()
    with torch.no_grad():
        plain = cross_entropy(logits, batch.labels, reduction="sum") if smoothing else loss.detach() * len(batch.labels)
    return StepResult(logits.detach(), batch.labels, plain)
