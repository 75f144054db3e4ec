"""The numbers behind curves: what `records.jsonl` says about loss, error, rate and momentum, by step and epoch.

Losses in nats, errors in percent, shares 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Records = Iterable[Mapping[str, Any]]
Against = Literal["epoch", "step"]


class Series(NamedTuple):
    """The points of one curve, in the order of the steps."""

    epochs: tuple[float, ...]
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def points(self, against: Against) -> tuple[Sequence[float], Sequence[float]]:
        """x and y of the points."""
        return (self.epochs if against == "epoch" else self.steps), self.values


@dataclass(frozen=True)
class Curves:
    """The curves of one run by name; a name is absent where the run recorded nothing of it."""

    series: Mapping[str, Series]


def percent_wrong(top1: float) -> float:
    return 100 * (1 - top1)


def curves(records: Records) -> Curves:
    """Loss and top-1 error of training (the running measure), validation and test; rate and momentum.

    Of records of the same step the last one counts; a value that is absent or not finite leaves a gap.
    """
    points: dict[str, dict[int, tuple[float, float]]] = {}
    for record in records:
        kind = record.get("kind")
        if kind == "train" and record.get("measure", "running") == "running":
            part = "training"
            found = {"learning rate": record.get("rate"), "momentum": record.get("momentum")}
        elif kind == "evaluation" and record.get("split") in ("validation", "test"):
            part, found = record["split"], {}
        else:
            continue
        top1 = record.get("top1")
        found[f"{part} loss"] = record.get("loss")
        found[f"{part} error"] = None if top1 is None else percent_wrong(top1)
        for name, value in found.items():
            if value is not None and math.isfinite(value):
                points.setdefault(name, {})[record["step"]] = (float(record["epoch"]), float(value))
    series = {}
    for name, by_step in points.items():
        steps = tuple(sorted(by_step))
        epochs, values = zip(*(by_step[step] for step in steps), strict=True)
        series[name] = Series(epochs, steps, values)
    return Curves(series)


def axis_scale(values: Sequence[float]) -> Literal["log", "linear"]:
    """Logarithmic for positive values that span more than a factor of 30."""
    return "log" if values and min(values) > 0 and max(values) > 30 * min(values) else "linear"
