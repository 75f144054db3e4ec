"""The numbers behind curves: what `records.jsonl` says about loss, error, rate and momentum, by step and epoch.

Losses in nats, errors in percent, shares 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from residual.files import Facts
from residual.runs.folder import RunFolder

Records = Iterable[Mapping[str, Any]]
Against = Literal["epoch", "step"]
Rates = Callable[[int], tuple[float, float]]
"""Learning rate and momentum of a step, counted from 0."""
Retraced = Callable[[Facts, Sequence[Facts]], Rates | None]
"""Tells the rates of every step from `run.json` and the records; None where it cannot."""
_GRID, _BEND = 64, 0.005


def unknown(facts: Facts, records: Sequence[Facts]) -> Rates | None:
    """Of no run more than what it recorded."""
    return None


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
    """The curves of one run by name; a name is absent where the run recorded nothing of it.

    `retraced` is whether learning rate and momentum are those of every step, rather than of the steps recorded.
    """

    series: Mapping[str, Series]
    retraced: bool = False


def percent_wrong(top1: float) -> float:
    return 100 * (1 - top1)


def named_curves(runs: Sequence[RunFolder], retraced: Retraced = unknown) -> dict[str, Curves]:
    """The curves of runs by what each is called: its name, or its path where two have the same name."""
    alike = len({run.name for run in runs}) < len(runs)
    return {str(run.path) if alike else run.name: run_curves(run, retraced) for run in runs}


def run_curves(run: RunFolder, retraced: Retraced = unknown) -> Curves:
    """The curves of a run; an extension begins where its parent has ended."""
    facts, records = run.facts(), run.records()
    return curves(records, retraced(facts, records), facts.get("parent", {}).get("step", 0))


def curves(records: Records, rates: Rates | None = None, first: int = 0) -> Curves:
    """Loss and top-1 error of training (the running measure), validation and test; rate and momentum.

    Of records of the same step the last one counts; a value that is absent or not finite leaves a gap.

    Args:
        rates: those of every step, where they are known. They count if the recorded ones are among them, which those
            of an extension need not be: what happened before it is not in its records.
        first: the step with which the run began.
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
    rate, momentum = series.get("learning rate"), series.get("momentum")
    if rates is None or rate is None or momentum is None or not (_among(rates, rate, 0) and _among(rates, momentum, 1)):
        return Curves(series)
    last = rate.steps[-1]
    taken = bends(rates, first, last - 1)
    steps = tuple(step + 1 for step in taken)  # steps are counted when they are finished, as in the records
    epochs = tuple(step * rate.epochs[-1] / last for step in steps)
    every = zip(*(rates(step) for step in taken), strict=True)
    names = ("learning rate", "momentum")
    return Curves(series | {name: Series(epochs, steps, v) for name, v in zip(names, every, strict=True)}, True)


def table(runs: Mapping[str, Curves]) -> Iterator[list[object]]:
    """A head, and a row for each run and step at which something was recorded; errors in percent, losses in nats."""
    names = list(dict.fromkeys(name for one in runs.values() for name in one.series))
    yield ["run", "step", "epoch", *(name.replace(" ", "_") for name in names)]
    for run, one in runs.items():
        rows: dict[int, tuple[float, dict[str, float]]] = {}
        for name, series in one.series.items():
            for epoch, step, value in zip(*series, strict=True):
                rows.setdefault(step, (epoch, {}))[1][name] = value
        for step in sorted(rows):
            epoch, found = rows[step]
            yield [run, step, f"{epoch:.6g}", *(f"{found[name]:.8g}" if name in found else "" for name in names)]


def _among(rates: Rates, recorded: Series, which: int) -> bool:
    """Whether the values recorded are those of the steps they were recorded after."""
    pairs = zip(recorded.steps, recorded.values, strict=True)
    return all(math.isclose(rates(step - 1)[which], value, rel_tol=1e-6) for step, value in pairs)


def bends(rates: Rates, first: int, last: int) -> list[int]:
    """Steps between which straight lines are the rates of all others, to half a percent; of a jump both its sides."""

    def between(low: int, high: int) -> list[int]:
        middle = (low + high) // 2
        if middle == low:
            return []
        share = (middle - low) / (high - low)
        ends = zip(rates(low), rates(middle), rates(high), strict=True)
        if all(abs(a + (b - a) * share - m) <= _BEND * abs(m) for a, m, b in ends):
            return []
        return [*between(low, middle), middle, *between(middle, high)]

    grid = sorted({first + round(number * (last - first) / _GRID) for number in range(_GRID + 1)})
    return [grid[0], *(step for low, high in pairwise(grid) for step in (*between(low, high), high))]


def axis_scale(values: Sequence[float]) -> Literal["log", "linear"]:
    """Logarithmic for positive values that span more than a factor of 30."""
    return "log" if values and min(values) > 0 and max(values) > 30 * min(values) else "linear"
