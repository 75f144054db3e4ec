"""The range test: the learning rate rises step by step over one short run, and the loss says where it is useful.

Chance follows from the step, so the batches of the test are had without disturbing those of any run, and the
network is a copy: nothing outside this file changes. Rates and losses are float64 N, losses in nats per image.
Sources: Smith 2017 (Cyclical Learning Rates), section 3.3; the suggestions "steepest" and "valley" as in
fastai's `lr_find` (Howard and Gugger 2020).
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch

from residual.chance import derive, seed_device
from residual.data.batches import Batch
from residual.errors import NonFiniteError, UsageError
from residual.models import ResidualNetwork
from residual.training.compute import Compute
from residual.training.freezing import StartSettings, make_freezing
from residual.training.optimiser import OptimiserSettings, alike, make_optimiser, set_rate
from residual.training.scaling import Scaling
from residual.training.step import Guard, train_step

Shape = Literal["exponential", "linear"]
DIVERGED = 4.0
"""The test ends where the smoothed loss is this many times its least value (fastai's choice)."""
_SMOOTH = 0.98
_FEWEST = 10
_LEAST_HEAD = 3  # losses that stand for the beginning and the end of the fall: a tenth of all, these at least
_CLEAR = 5.0  # a fall of fewer standard errors is taken for chance


@dataclass(frozen=True)
class Suggestion:
    """A rate, and in words where it stands on the curve."""

    name: str
    rate: float
    meaning: str


@dataclass(frozen=True)
class RangeTest:
    """What was measured: the loss at each rate as it was and smoothed, why it ended, and what follows."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: Literal["diverged", "not finite", "stop reached"]
    verdict: str
    suggestions: tuple[Suggestion, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "rates": list(self.rates),
            "losses": list(self.losses),
            "smoothed": list(self.smoothed),
            "ended": self.ended,
            "verdict": self.verdict,
            "suggestions": {s.name: {"rate": s.rate, "meaning": s.meaning} for s in self.suggestions},
        }


def rates_of(start: float, stop: float, steps: int, shape: Shape) -> list[float]:
    """`steps` rates from start to stop, both included: a constant ratio or a constant difference apart.

    Raises:
        UsageError: a range without width, or too few steps to see a curve.
    """
    if not 0 < start < stop < math.inf:
        raise UsageError(f"the range {start:g} to {stop:g} is none", "--start, --stop", "give 0 < start < stop")
    if steps < _FEWEST:
        raise UsageError(f"{steps} steps are too few", "--steps", f"give at least {_FEWEST}")
    shares = [step / (steps - 1) for step in range(steps)]
    if shape == "linear":
        return [start + (stop - start) * share for share in shares]
    return [start * (stop / start) ** share for share in shares]


def smooth(losses: Sequence[float], weight: float = _SMOOTH) -> list[float]:
    """Exponential moving average, corrected for its start at zero."""
    average, found = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = weight * average + (1 - weight) * loss
        found.append(average / (1 - weight**count))
    return found


def sweep(
    network: ResidualNetwork,
    settings: OptimiserSettings,
    batch_at: Callable[[int], Batch],
    compute: Compute,
    rates: Sequence[float],
    *,
    first: int = 0,
    smoothing: float = 0.0,
    seed: int = 0,
    start: StartSettings | None = None,
    total: int = 1,
    stepped: Callable[[int, float], None] = lambda step, loss: None,
    halt: Callable[[], bool] = lambda: False,
) -> list[float]:
    """The loss before each update with a rising rate, on a copy of the network; ends where it diverges.

    Every step is one of training as the settings have it, accumulation, clipping and mixed images included; the loss
    is that of the images' own labels, without smoothing. A step that is not finite is the last, its loss NaN.

    Args:
        batch_at: the batch of a step; the test takes those of steps first, first + 1, ...
        seed: what dropout draws from; torch's own generators are as before afterwards.
        start, total: what of the network learns; as it is at step `first` of a run of so many, all through the test.
        stepped: told of every step and its loss.
    """
    trial = copy.deepcopy(network).train()
    freezing = make_freezing(trial, start or StartSettings(), total)
    if freezing is not None:
        freezing.apply(first)
    optimiser = make_optimiser(trial, settings, freezing.group if freezing is not None else alike)
    scaling = Scaling(optimiser) if compute.precision == "float16" else None
    losses: list[float] = []
    devices = [compute.torch_device] if compute.torch_device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        for number, rate in enumerate(rates):
            if halt():
                break
            seed_device(derive(seed, "range test", number), compute.torch_device)
            batch = batch_at(first + number)
            set_rate(optimiser, rate, settings.momentum)
            try:
                guard = Guard.on(compute.torch_device, scaling=scaling)
                taken = train_step(trial, optimiser, batch, compute, smoothing, first + number, settings, guard)
                guard.read()
                losses.append(taken.loss_sum.item() / len(batch.labels))
            except NonFiniteError:
                losses.append(math.nan)
            stepped(number + 1, losses[-1])
            averaged = smooth(losses)
            if not math.isfinite(losses[-1]) or averaged[-1] > DIVERGED * min(averaged):
                break
    return losses


def judge(rates: Sequence[float], losses: Sequence[float], chance_level: float) -> RangeTest:
    """What the curve says; suggestions only where the loss clearly fell and rose again.

    Args:
        rates: all that were planned, at least as many as losses.
        chance_level: the loss of a network that knows nothing, log K.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    ended: Literal["diverged", "not finite", "stop reached"] = "stop reached"
    averaged = smooth(finite)
    if len(finite) < len(losses):
        ended = "not finite"
    elif averaged and averaged[-1] > DIVERGED * min(averaged):
        ended = "diverged"
    tried = tuple(rates[: len(finite)])
    parts = (tried, tuple(finite), tuple(averaged), ended)
    if len(finite) < _FEWEST:
        return RangeTest(*parts, f"the loss diverges at once, at {rates[0]:.1e}: begin lower with --start", ())
    lowest = min(range(len(averaged)), key=averaged.__getitem__)
    first = max(_LEAST_HEAD, len(finite) // 10)
    head = sum(finite[:first]) / first
    fall = head - averaged[lowest]
    if lowest < first or fall < 0.02 * max(head, chance_level):
        return RangeTest(*parts, "the loss never falls: begin lower, or take more steps", ())
    drop = head - sum(finite[lowest + 1 - first : lowest + 1]) / first
    doubt = _noise(finite[: lowest + 1]) * math.sqrt(2 / first)
    if drop < _CLEAR * doubt:
        what = f"the loss falls by {drop:.2g} where chance alone gives {doubt:.1g}: that is no answer"
        return RangeTest(*parts, f"{what}; take more steps, as in --steps {max(100, 2 * len(rates))}", ())
    if ended == "stop reached" and averaged[-1] < averaged[lowest] + 0.1 * fall:
        return RangeTest(*parts, f"the loss still falls at {tried[-1]:.2g}: end higher with --stop", ())
    verdict = f"the loss falls until {tried[lowest]:.2g} and rises after it"
    begin = max((i for i in range(lowest) if averaged[i] >= head - 0.1 * fall), default=0)
    means = [sum(finite[i + 1 - first : i + 1]) / first for i in range(first - 1, lowest)]
    # At first the smoothed loss follows single batches, and chance makes it fall faster than any rate does.
    half = max((i for i, mean in enumerate(means, first - 1) if mean >= head - 0.5 * drop), default=begin)
    valley = _valley(averaged, len(rates) // 10)
    return RangeTest(*parts, verdict, _suggestions(tried, averaged, begin, max(begin, half), lowest, valley))


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of single losses around their course: from second differences, so that a slope is no noise."""
    bends = [abs(losses[i - 1] - 2 * losses[i] + losses[i + 1]) for i in range(1, len(losses) - 1)]
    return statistics.median(bends) / (0.6745 * math.sqrt(6)) if bends else 0.0


def _suggestions(
    rates: Sequence[float], losses: Sequence[float], begin: int, half: int, lowest: int, valley: int
) -> tuple[Suggestion, ...]:
    """Rates between the beginning of the fall and the least loss, the lowest first; at `half` it is half done."""
    found = [
        (rates[_steepest(rates, losses, half, lowest)], "steepest", "the smoothed loss falls fastest here"),
        (rates[valley], "valley", "half-way down the longest fall, fastai's default peak for one cycle"),
        (rates[lowest] / 10, "before-divergence", "a tenth of the rate of least loss"),
    ]
    found = sorted((one for one in found if rates[begin] <= one[0] <= rates[lowest]), key=lambda one: one[0])
    among = {2: " of the two", 3: " of the three"}.get(len(found), "")
    near = ", near to where the loss rises" if found[-1][0] > rates[lowest] / 3 else ""
    place = {0: f"; the safest{among}", len(found) - 1: f"; the boldest{among}{near}"} if among else {0: near}
    return tuple(Suggestion(name, rate, words + place.get(i, "")) for i, (rate, name, words) in enumerate(found))


def _steepest(rates: Sequence[float], losses: Sequence[float], begin: int, lowest: int) -> int:
    def slope(place: int) -> float:
        return (losses[place + 1] - losses[place]) / math.log(rates[place + 1] / rates[place])

    return min(range(begin, lowest), key=slope)


_LAST: Final = 5
"""Losses at the end that fastai leaves out."""


def _valley(losses: Sequence[float], first: int) -> int:
    """The middle of the stretch that the longest decreasing subsequence ends, as fastai counts it.

    As there the first tenth of the planned steps and the last five losses are left out, unless nothing remains.
    """
    if len(losses) - first - _LAST < _FEWEST:
        first, used = 0, list(losses)
    else:
        used = list(losses[first:-_LAST])
    lengths, end = [1] * len(used), 0
    for i in range(1, len(used)):
        lengths[i] = 1 + max((lengths[j] for j in range(i) if used[i] < used[j]), default=0)
        if lengths[i] > lengths[end]:
            end = i
    start = end - lengths[end]
    third = (end - start) / 3
    return first + max(0, start + int(third) + int(third / 2))
