"""Room for a step: where the memory does not hold a batch, its gradient is computed in twice as many parts.

The batch that moves the weights stays the same, and so does its gradient, but for batch normalisation, whose
statistics are those of a part. Each halving is an event with the step at which it happened, and the number of parts
follows from the recorded events alone, so a resumed run cuts its batches as the one that was interrupted did.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping

import torch
from torch import Tensor, nn

from residual.data.preprocessing import Preprocessing
from residual.data.source import Source
from residual.errors import OutOfMemory, lacks_memory
from residual.evaluation.evaluate import Evaluation, evaluate, halved
from residual.models import ResidualNetwork
from residual.ranks import ALONE, Ranks
from residual.training.schedules import HALVED

SINGLE = "more than 1 value per channel"
"""In what torch says where a part is a single image whose maps have a single pixel: it cannot be normalised."""


class Room:
    """How many parts the steps of a run are computed in."""

    def __init__(
        self,
        network: nn.Module,
        happened: MutableMapping[str, int],
        batch_size: int,
        accumulate: int = 1,
        halved: Callable[[str, int], None] = lambda name, parts: None,
        alone: bool = True,
    ) -> None:
        """
        Args:
            happened: the events of the run, name to step; a halving is added to them.
            accumulate: the parts that the recipe asks for.
            halved: told of every halving, with the name of its event and the number of parts.
            alone: whether this process may halve; one of several may not, since the others would not know.
        """
        self._happened, self._batch_size, self._accumulate, self._halved = happened, batch_size, accumulate, halved
        self._step, self._alone = 0, alone
        statistics = list(network.buffers())  # of batch normalisation; these tensors change in place
        self._statistics = [[t for t in statistics if t.is_floating_point() == kind] for kind in (True, False)]
        self._kept = [[t.clone() for t in group] for group in self._statistics]

    @property
    def parts(self) -> int:
        """The parts of a step now."""
        halvings = sum(name.startswith(HALVED) for name in self._happened)
        return min(self._batch_size, self._accumulate << halvings)

    def enter(self, step: int) -> None:
        """Begin step number `step`: remember the statistics, which an attempt that fails half-way has moved."""
        self._step = step
        _copy(self._statistics, self._kept)

    def is_short(self, error: BaseException) -> bool:
        """Whether what stopped an attempt is a lack of memory, or follows from parts made too small for want of it."""
        single = SINGLE in str(error) and self.parts > self._accumulate
        return self._alone and (single or lacks_memory(error))

    def halve(self) -> None:
        """Make the parts half as large and put everything back to where the step began.

        Raises:
            OutOfMemory: they are single images already.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what the failed attempt left may be cut into pieces of the wrong sizes
        _copy(self._kept, self._statistics)
        if self.parts >= self._batch_size:
            raise OutOfMemory(
                f"out of memory at step {self._step}, even with a single image at a time",
                "network, data.image_size",
                "make one of them smaller, or close other programs; the last checkpoint is whole",
            )
        name = f"{HALVED}{1 + sum(name.startswith(HALVED) for name in self._happened)}"
        self._happened[name] = self._step
        self._halved(name, self.parts)


@torch.no_grad()
def _copy(source: list[list[Tensor]], target: list[list[Tensor]]) -> None:
    for found, place in zip(source, target, strict=True):
        if found:
            torch._foreach_copy_(place, found)


def evaluate_in_room(
    network: ResidualNetwork,
    source: Source,
    indices: Tensor,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int,
    halt: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> Evaluation | None:
    """`evaluate`, with as many images at a time as the memory holds; the figures are the same up to rounding.

    Raises:
        OutOfMemory: not even a single image fits.
    """
    while True:
        try:
            return evaluate(network, source, indices, preprocessing, device, batch_size, halt, ranks=ranks)
        except (RuntimeError, MemoryError) as error:
            if ranks.world > 1 or not lacks_memory(error):  # of several, each makes room for itself
                raise
        batch_size = halved(batch_size)
