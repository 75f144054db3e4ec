"""What the validation images decide, where a recipe asks for it: which weights are kept, and when a run ends early.

The test images never come here. Neither choice bends a schedule: the rate stays a function of the step and of the
length the run was begun with. Shares lie in [0, 1], losses are in nats; better is strictly better, so of equal
figures the earlier stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from residual.errors import UsageError

Metric = Literal["top1", "top3", "top5", "loss", "balanced"]
"""`balanced` is the mean over the classes of the share of their images that are recognised."""


def is_better(metric: Metric, figure: float, than: float | None) -> bool:
    """Whether a figure is better than the best so far; the first one is."""
    if than is None:
        return True
    return figure < than if metric == "loss" else figure > than


def refuse_without_validation(best: Metric | None, watched: Metric | None, held_out: int) -> None:
    """Refuse to choose by images that are not there; never by the test images instead.

    Raises:
        UsageError: with the setting.
    """
    if held_out == 0 and (best or watched):
        chosen, where = ("weights are", "evaluation.best") if best else ("end of the run is", "evaluation.patience")
        what = f"the {chosen} chosen on validation images, and no images are held out"
        raise UsageError(what, where, "use --protocol tune, or leave it out")


class Best:
    """The weights and statistics that were best on the validation images so far; a part of the training state."""

    def __init__(self, network: nn.Module, metric: Metric) -> None:
        self.metric = metric
        self._current = network.state_dict()  # its tensors change in place
        self._kept = {name: tensor.clone() for name, tensor in self._current.items()}
        self.step: int | None = None
        self.epoch = 0.0
        self.scores: dict[str, Any] = {}

    def judge(self, step: int, epoch: float, scores: Mapping[str, Any]) -> None:
        """Keep the weights the network has now, where their figures are better than those of the kept ones."""
        if not is_better(self.metric, scores[self.metric], self.scores.get(self.metric)):
            return
        self.step, self.epoch, self.scores = step, epoch, dict(scores)
        _copy(self._current, self._kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with the kept weights; those it had come back afterwards, bit for bit."""
        own = {name: tensor.clone() for name, tensor in self._current.items()}
        _copy(self._kept, self._current)
        try:
            yield
        finally:
            _copy(own, self._current)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self._kept) if self.step is not None else {}

    def facts(self) -> dict[str, Any]:
        return {"step": self.step, "epoch": self.epoch, "scores": self.scores}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.step, self.epoch, self.scores = facts["step"], facts["epoch"], dict(facts["scores"])
        if self.step is not None:
            _copy(tensors, self._kept)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])


class Patience:
    """Counts the validations since the last better one (Prechelt 1998, Early stopping - but when?)."""

    def __init__(self, metric: Metric, most: int) -> None:
        self.metric, self.most = metric, most
        self.best: float | None = None
        self.waited = 0

    def judge(self, scores: Mapping[str, Any]) -> bool:
        """Whether these figures are the last that were waited for in vain."""
        figure = scores[self.metric]
        if is_better(self.metric, figure, self.best):
            self.best, self.waited = figure, 0
        else:
            self.waited += 1
        return self.waited >= self.most

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def facts(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.best, self.waited = facts["best"], facts["waited"]
