"""One training step: forward, loss, backward, the mean over the processes, test for non-finite values, update.

No weight ever moves on a loss, a gradient, a weight or a running statistic that is infinite or not a number. On a CPU
the test is read before the update. On a GPU reading would make the host wait at every step, so the update itself is
conditional on a flag on the device that stays up once it is raised, as a gradient scaler's is, and the host reads the
flags some steps later. Every process knows the faults of all before anyone's weights move.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from residual.data.batches import Batch
from residual.errors import NonFiniteError, UsageError
from residual.models.synchronised import own_statistics, sound_layers
from residual.ranks import ALONE, Ranks
from residual.training.compute import Compute
from residual.training.optimiser import OptimiserSettings
from residual.training.room import SINGLE, Room
from residual.training.scaling import Scaling

LAG = 20
"""Steps after which the host reads the flags of a GPU."""
FINE, LOSS, GRADIENT, STATE, KINDS = 0, 1, 2, 3, 4
"""What was not finite at a step, on one rank; of several also KINDS times the layers before it that were sound."""
_OR_WHOLE = ", or go on with --set compute.precision=float32 --override"
NAMES = {LOSS: "loss", GRADIENT: "gradient", STATE: "state of the network (a weight or running statistic)"}


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
    ranks: Ranks = ALONE
    samples_of: Callable[[int, int], Tensor] | None = None
    scaling: Scaling | None = None
    waiting: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    @staticmethod
    def on(device: torch.device, describe: Callable[[Tensor], str] = numbered, scaling: Scaling | None = None) -> Guard:
        """A guard at rest; `describe` puts sample numbers into words."""
        return Guard(torch.zeros((), dtype=torch.float32, device=device), describe, scaling=scaling)

    def watch(self, step: int, faults: Tensor, samples: Tensor) -> None:
        """Take what was not finite at a step on each rank, and the images of this one."""
        self.bad = torch.maximum(self.bad, (faults > FINE).any().float())
        self.waiting.append((step, faults, samples))

    def read(self, every: int = 1) -> None:
        """Look at the flags, once `every` of them wait.

        Raises:
            NonFiniteError: names the step, what was not finite there, and the first images.
        """
        if len(self.waiting) < every or not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        found = torch.stack([faults for _, faults, _ in waiting]).tolist()
        for (step, _, samples), faults in zip(waiting, found, strict=True):
            if any(faults):  # the first cause is where the fewest layers were sound before
                _, rank = min((fault // KINDS, rank) for rank, fault in enumerate(faults) if fault)
                raise self._error(step, rank, faults[rank] % KINDS, samples)

    def _error(self, step: int, rank: int, fault: int, own: Tensor) -> NonFiniteError:
        samples = own if rank == self.ranks.rank or self.samples_of is None else self.samples_of(step, rank)
        where = f" on rank {rank} of {self.ranks.world}" if self.ranks.world > 1 else ""
        return NonFiniteError(
            f"the {NAMES[fault]} is not finite at step {step}{where}",
            f"training images {self.describe(samples[:5])}, ...",
            f"lower the learning rate{_OR_WHOLE if self.scaling else ''}; the last checkpoint is whole",
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


def fault_of(loss: Tensor, size: Tensor, state: Tensor) -> Tensor:
    """FINE or what is not, int64, of a loss, the norm of its gradient and that of the network's state."""
    fault = torch.where(torch.isfinite(state), FINE, STATE)
    fault = torch.where(torch.isfinite(size), fault, GRADIENT)
    return torch.where(torch.isfinite(loss), fault, LOSS)


@torch.no_grad()
def size_of_state(network: nn.Module) -> Tensor:
    """The norm of all weights and running statistics: not finite where one of them is not, or is above 1e19.

    Loss and gradient can be finite where these are not: a ReLU hides -inf, and training does not use the statistics.
    """
    state = [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]
    return torch.nn.utils.get_total_norm(state)


def vouch(network: nn.Module, step: int) -> None:
    """See that what is about to be saved is finite, since the update of the last step has been tested by no other.

    Raises:
        NonFiniteError: names the first tensor that is not.
    """
    if not math.isfinite(float(size_of_state(network))):
        names = (name for name, t in network.state_dict().items() if t.is_floating_point() and not t.isfinite().all())
        what = f"{next(names, 'the norm of the weights')} is not finite after step {step - 1}"
        raise NonFiniteError(what, f"step {step}", "lower the learning rate; the last checkpoint is whole")


@torch.no_grad()
def share_gradients(network: nn.Module, gradients: list[Tensor], fault: Tensor, ranks: Ranks) -> Tensor:
    """Give each gradient the mean over the processes, that of the whole batch since their shares are equal.

    So it is with the running statistics of batch normalisation, where they move. Returns the faults of all ranks,
    int64 W.
    """
    shared = [*gradients, *own_statistics(network)]
    faults = torch.zeros(ranks.world, dtype=shared[0].dtype, device=shared[0].device)
    layers = sound_layers(network)
    faults[ranks.rank] = fault[0] if layers is None else torch.where(fault[0] > FINE, fault[0] + KINDS * layers, FINE)
    # Divided before they are added, so that no sum of finite values can be too large.
    flat = torch.cat([*(t.reshape(-1) / ranks.world for t in shared), faults])
    ranks.add(flat)
    *means, sums = flat.split([*(t.numel() for t in shared), ranks.world])
    for tensor, mean in zip(shared, means, strict=True):
        tensor.copy_(mean.view_as(tensor))
    faults.copy_(sums)
    return faults.long()


def _parts(batch: Batch, count: int) -> list[Batch]:
    """The batch in `count` parts of nearly equal size; of mixed images each part has those already mixed."""
    if count == 1:
        return [batch]
    whole = (batch.images, batch.labels, batch.samples, batch.partners, batch.share)
    pieces = [t.tensor_split(count) if t is not None else (None,) * count for t in whole]
    return [replace(Batch(*parts), weights=batch.weights) for parts in zip(*pieces, strict=True) if len(parts[0])]


def _gradient(
    network: nn.Module, batch: Batch, compute: Compute, smoothing: float, count: int, scaling: Scaling | None
) -> tuple[list[Tensor], Tensor]:
    """Add the gradient of a batch, computed in `count` parts, to the parameters'; the logits by part, and the loss."""
    logits, loss = [], torch.zeros((), device=batch.images.device)
    for part in _parts(batch, count):
        images = part.images.contiguous(memory_format=compute.memory_format)
        with compute.autocast():
            answers = network(images)
        answers = answers.to(torch.promote_types(answers.dtype, torch.float32))
        share = loss_of(answers, part, smoothing)
        if count > 1:
            share = share * (len(part.labels) / len(batch.labels))
        (share if scaling is None else scaling.scaled(share)).backward()
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
    scaling: Scaling | None,
) -> tuple[list[Tensor], Tensor]:
    """The same, in as many parts as the memory asks for."""
    while True:
        optimiser.zero_grad(set_to_none=True)
        try:
            return _gradient(network, batch, compute, smoothing, room.parts if room is not None else count, scaling)
        except (RuntimeError, MemoryError, ValueError) as error:
            if room is None or not room.is_short(error):
                if SINGLE in str(error):
                    what = "batch normalisation has one value a channel: a single image whose maps are one pixel"
                    where = "batch_size, optimiser.accumulate, network.norm_group"
                    raise UsageError(what, where, "let it see two images or more at a time") from None
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
        NonFiniteError: the loss, a gradient or the network's state is not finite; names the step and the first images.
        OutOfMemory: not even a single image fits.
    """
    settings, guard = settings or OptimiserSettings(), guard or Guard.on(batch.images.device)
    scaling, count = guard.scaling, settings.accumulate
    logits, loss = _gradient_in_room(network, optimiser, batch, compute, smoothing, room, count, scaling)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if scaling is not None:
        scaling.unscale(gradients)
    size = torch.nn.utils.get_total_norm(gradients)
    judged = size if scaling is None else scaling.excused(size)
    faults = fault_of(loss, judged, size_of_state(network)).unsqueeze(0)
    if guard.ranks.world > 1:
        faults = share_gradients(network, gradients, faults, guard.ranks)
        size = torch.nn.utils.get_total_norm(gradients)
    guard.watch(step, faults, batch.samples)
    on_gpu = compute.torch_device.type == "cuda"
    guard.read(LAG if on_gpu else 1)
    if on_gpu or scaling is not None:  # the fused kernels of torch leave the weights alone where the flag is up
        left_out = guard.bad if scaling is None else torch.maximum(guard.bad, scaling.overflown(size))
        optimiser.found_inf = left_out  # type: ignore[attr-defined]
    if settings.clip is not None:
        torch.nn.utils.clip_grads_with_norm_(network.parameters(), settings.clip, size)
    optimiser.step()
    whole = torch.cat(logits) if len(logits) > 1 else logits[0]
    with torch.no_grad():
        bare = replace(batch, weights=None)
        plain = loss_of(whole, bare, 0.0) if smoothing or batch.weights is not None else loss
    return StepResult(whole, batch.labels, plain * len(batch.labels))
