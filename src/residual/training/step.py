"""One training step: forward, loss, backward, test for non-finite values, update.

No weight ever moves on a loss or gradient that is infinite or not a number. On a CPU the test is read before the
update. On a GPU reading would make the host wait at every step, so the update itself is conditional on a flag on the
device that stays up once it is raised, as a gradient scaler's is, and the host reads the flags some steps later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from residual.data.batches import Batch
from residual.errors import NonFiniteError
from residual.training.compute import Compute
from residual.training.optimiser import OptimiserSettings
from residual.training.room import Room

LAG = 20
"""Steps after which the host reads the flags of a GPU."""


@dataclass(frozen=True)
class StepResult:
    """logits_NK and labels_N of the batch, and its summed cross-entropy without smoothing, all on the device."""

    logits: Tensor
    labels: Tensor
    loss_sum: Tensor


def numbered(samples: Tensor) -> str:
    return ", ".join(str(number) for number in samples.tolist())


@dataclass
class Guard:
    """Knows on the device whether any step so far had a value that is not finite, and which one was the first."""

    bad: Tensor
    describe: Callable[[Tensor], str] = numbered
    waiting: list[tuple[int, Tensor, Tensor, Tensor]] = field(default_factory=list)

    @staticmethod
    def on(device: torch.device, describe: Callable[[Tensor], str] = numbered) -> Guard:
        """A guard at rest; `describe` puts sample numbers into words."""
        return Guard(torch.zeros((), dtype=torch.float32, device=device), describe)

    def watch(self, step: int, loss: Tensor, size: Tensor, samples: Tensor) -> None:
        """Take the loss of a step and the norm of its gradient."""
        finite = torch.isfinite(loss)
        self.bad = torch.maximum(self.bad, (~torch.isfinite(loss + size)).float())
        self.waiting.append((step, finite, self.bad, samples))

    def read(self, every: int = 1) -> None:
        """Look at the flags, once `every` of them wait.

        Raises:
            NonFiniteError: names the step, what was not finite there, and the first images.
        """
        if len(self.waiting) < every or not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        flags = torch.stack([bad for _, _, bad, _ in waiting]).tolist()
        for (step, finite, _, samples), bad in zip(waiting, flags, strict=True):
            if bad:
                raise NonFiniteError(
                    f"the {'gradient' if bool(finite) else 'loss'} is not finite at step {step}",
                    f"training images {self.describe(samples[:5])}, ...",
                    "lower the learning rate; the last checkpoint is whole",
                )


def loss_of(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Mean cross-entropy in nats; of mixed images, with both labels by their shares."""
    if batch.weights is None and batch.partners is None:
        return cross_entropy(logits, batch.labels, label_smoothing=smoothing)

    def each(labels: Tensor) -> Tensor:
        losses = cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return losses if batch.weights is None else losses * batch.weights[labels]

    own = each(batch.labels)
    if batch.partners is None or batch.share is None:
        return own.mean()
    other = each(batch.partners)
    return (batch.share * own + (1 - batch.share) * other).mean()


def _parts(batch: Batch, count: int) -> list[Batch]:
    """The batch in `count` parts of nearly equal size; of mixed images each part has those already mixed."""
    if count == 1:
        return [batch]
    whole = (batch.images, batch.labels, batch.samples, batch.partners, batch.share)
    pieces = [t.tensor_split(count) if t is not None else (None,) * count for t in whole]
    return [replace(Batch(*parts), weights=batch.weights) for parts in zip(*pieces, strict=True) if len(parts[0])]


def _gradient(
    network: nn.Module, batch: Batch, compute: Compute, smoothing: float, count: int
) -> tuple[list[Tensor], Tensor]:
    """Add the gradient of a batch, computed in `count` parts, to the parameters'; the logits by part, and the loss."""
    logits, loss = [], torch.zeros((), device=batch.images.device)
    for part in _parts(batch, count):
        images = part.images.contiguous(memory_format=compute.memory_format)
        with compute.autocast():
            answers = network(images)
        answers = answers.float()
        share = loss_of(answers, part, smoothing)
        if count > 1:
            share = share * (len(part.labels) / len(batch.labels))
        share.backward()
        loss = loss + share.detach()
        logits.append(answers.detach())
    return logits, loss


def _gradient_in_room(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    compute: Compute,
    smoothing: float,
    room: Room | None,
    count: int,
) -> tuple[list[Tensor], Tensor]:
    """The same, in as many parts as the memory asks for."""
    while True:
        optimiser.zero_grad(set_to_none=True)
        try:
            return _gradient(network, batch, compute, smoothing, room.parts if room is not None else count)
        except (RuntimeError, MemoryError, ValueError) as error:
            if room is None or not room.is_short(error):
                raise
        # Only here, with the error gone, is what the attempt had kept for its backward pass free again.
        room.halve()


def train_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    compute: Compute,
    smoothing: float,
    step: int,
    settings: OptimiserSettings | None = None,
    guard: Guard | None = None,
    room: Room | None = None,
) -> StepResult:
    """Move the weights once.

    With `settings.accumulate` parts the gradient is that of the whole batch, but for batch normalisation, whose
    statistics are those of each part. Where the memory does not hold a part, `room` makes them smaller.

    Raises:
        NonFiniteError: the loss or a gradient is not finite; names the step and the first images.
        OutOfMemory: not even a single image fits.
    """
    settings, guard = settings or OptimiserSettings(), guard or Guard.on(batch.images.device)
    logits, loss = _gradient_in_room(network, optimiser, batch, compute, smoothing, room, settings.accumulate)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    size = torch.nn.utils.get_total_norm(gradients)
    guard.watch(step, loss, size, batch.samples)
    if compute.torch_device.type == "cuda":
        optimiser.found_inf = guard.bad  # type: ignore[attr-defined]  # the fused kernels of torch leave the weights alone
        guard.read(LAG)
    else:
        guard.read()
    if settings.clip is not None:
        torch.nn.utils.clip_grads_with_norm_(network.parameters(), settings.clip, size)
    optimiser.step()
    whole = torch.cat(logits) if len(logits) > 1 else logits[0]
    with torch.no_grad():
        bare = replace(batch, weights=None)
        plain = loss_of(whole, bare, 0.0) if smoothing or batch.weights is not None else loss
    return StepResult(whole, batch.labels, plain * len(batch.labels))
