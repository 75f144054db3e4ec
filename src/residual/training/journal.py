"""What the run remembers between two lines of its records: running sums, events, what was evaluated.

The *running* training error is that of augmented images under moving weights, as papers plot it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from residual.evaluation.scores import Tally
from residual.training.schedules import BELOW, PLATEAU, AnySchedule, Plateau, hold_of


def _tensors(prefix: str, tally: Tally) -> dict[str, Tensor]:
    return {f"{prefix}.loss": tally.loss, f"{prefix}.hits": tally.hits}


def _fill(prefix: str, tally: Tally, tensors: dict[str, Tensor], images: int) -> None:
    tally.loss.copy_(tensors[f"{prefix}.loss"])
    tally.hits.copy_(tensors[f"{prefix}.hits"])
    tally.images = images


class Journal:
    """Running sums since the last line about training, and the steps of the last lines."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.tally = Tally.empty(device)
        self.reported = 0
        self.evaluated = 0

    def restart(self, step: int) -> None:
        self.tally, self.reported = Tally.empty(self.device), step

    def tensors(self) -> dict[str, Tensor]:
        return _tensors("running", self.tally)

    def facts(self) -> dict[str, Any]:
        return {"images": self.tally.images, "reported": self.reported, "evaluated": self.evaluated}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        _fill("running", self.tally, tensors, facts["images"])
        self.reported, self.evaluated = facts["reported"], facts["evaluated"]


class Events:
    """The events a schedule waits for, and what is remembered until the next one is told."""

    def __init__(self, schedule: AnySchedule, device: torch.device) -> None:
        self.hold, self.device = hold_of(schedule), device
        self.plateau = schedule if isinstance(schedule, Plateau) else None
        self.happened: dict[str, int] = {}
        self.window = Tally.empty(device)
        self.best: float | None = None
        self.waited = 0

    def watch(self, step: int, counted: Tally) -> float | None:
        """Take the counts of the step that has just been finished; the error where an event happened.

        `step` counts finished steps. Windows do not overlap, so the host reads once a window.
        """
        if self.hold is None or BELOW in self.happened:
            return None
        self.window.join(counted)
        if step % self.hold.window:
            return None
        error = 1 - self.window.scores()["top1"]
        self.window = Tally.empty(self.device)
        if error >= self.hold.until_error:
            return None
        self.happened[BELOW] = step
        return error

    def judge(self, step: int, split: str, error: float) -> str | None:
        """Take the top-1 error of an evaluation after `step` steps; the name of the event, where one happened."""
        plateau = self.plateau
        if plateau is None or split != plateau.watch:
            return None
        if self.best is None or error < self.best - plateau.threshold:
            self.best, self.waited = error, 0
            return None
        self.waited += 1
        drops = sum(name.startswith(PLATEAU) for name in self.happened)
        if self.waited < plateau.patience or drops >= plateau.most:
            return None
        self.waited = 0
        name = f"{PLATEAU}{drops + 1}"
        self.happened[name] = step
        return name

    def tensors(self) -> dict[str, Tensor]:
        return _tensors("window", self.window)

    def facts(self) -> dict[str, Any]:
        waiting = {"best": self.best, "waited": self.waited} if self.plateau is not None else {}
        return {"happened": dict(self.happened), "images": self.window.images, **waiting}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        _fill("window", self.window, tensors, facts["images"])
        self.happened = dict(facts["happened"])
        self.best, self.waited = facts.get("best"), facts.get("waited", 0)
