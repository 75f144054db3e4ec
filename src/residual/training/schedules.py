"""Learning rate and momentum as pure functions of (step, total steps, recorded events).

Nothing is multiplied from step to step, so a resumed run has the rate of an uninterrupted one. The
first step is number 0. Sources: He et al. 2015, section 4.2 (steps, hold); He et al. 2016, appendix
(400 warm-up iterations); Smith 2018 (one cycle); Loshchilov and Hutter 2017 (cosine).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from residual.errors import UsageError

Events = Mapping[str, int]
BELOW = "training-error-below"
"""The event that ends a hold: the step after which the running training error was below the threshold."""
PLATEAU = "plateau-"
"""With a number, the event that lowers the rate: the step after which the watched error had stopped falling."""

HALVED = "out-of-memory-"
"""With a number, the event that halves the parts in which a batch is computed, from this step on; moves no rate."""

STOPPED = "stopped-early"
"""The event that ends the run before its length: the step after which patience with the validation figures ended."""

Rate = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Hold(BaseModel, frozen=True, extra="forbid"):
    """A low rate until the training error has fallen below a threshold (He et al. 2015, 110 layers)."""

    rate: Rate = Field(0.01, description="the rate that is held")
    until_error: float = Field(0.8, gt=0, lt=1, description="held until the training error is below this share")
    window: int = Field(50, ge=1, description="steps over which the error is taken")


class WarmUp(BaseModel, frozen=True, extra="forbid"):
    """The first steps: a constant lower rate, or a straight line from it to the full rate."""

    steps: int = Field(0, ge=0, description="length of the warm-up in steps; 0 for none")
    rate: float = Field(0.01, ge=0, le=1e3, allow_inf_nan=False, description="rate at step 0")
    shape: Literal["constant", "linear"] = Field("linear", description="stay at that rate, or rise to the full rate")

    def apply(self, step: int, full: float) -> float:
        if step >= self.steps:
            return full
        return self.rate if self.shape == "constant" else self.rate + (full - self.rate) * step / self.steps


class Steps(BaseModel, frozen=True, extra="forbid"):
    """A constant rate times a factor at given iterations, and at given shares of the run."""

    kind: Literal["steps"] = "steps"
    rate: Rate = Field(0.1, description="rate before the first drop")
    drops: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32_000, 48_000), description="steps at which the rate drops"
    )
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (), description="drops as shares of the run: 1/3 is after 30 of 90 epochs"
    )
    factor: float = Field(0.1, gt=0, lt=1, description="what each drop multiplies the rate by")
    warmup: WarmUp = WarmUp()
    hold: Hold | None = None

    def rate_at(self, step: int, total: int, events: Events) -> float:
        if self.hold is not None and step < events.get(BELOW, total):
            return self.hold.rate
        places = (*self.drops, *(share * total for share in self.shares))
        full = self.rate * self.factor ** sum(step >= place for place in places)
        return self.warmup.apply(step, full)

    def momentum_at(self, step: int, total: int, base: float) -> float:
        return base


class OneCycle(BaseModel, frozen=True, extra="forbid"):
    """Rate up, down, then far below the start; momentum mirrored.

    With cosine halves and rise .25 this is fastai's `fit_one_cycle`: start peak/25, end peak/1e5.
    The last step, total - 1, has the end rate. `first` is where another run has ended, and this cycle begins.
    """

    kind: Literal["one-cycle"] = "one-cycle"
    peak: Rate = Field(0.1, description="the highest rate")
    rise: float = Field(0.25, gt=0, lt=1, description="share of the steps before the peak")
    start_divisor: float = Field(25, ge=1, le=1e6, description="the first rate is the peak divided by this")
    end_divisor: float = Field(1e5, ge=1, le=1e12, description="the last rate is the peak divided by this")
    shape: Literal["cosine", "linear"] = Field("cosine", description="shape of the rise and of the fall")
    momentum_low: Share | None = Field(None, description="momentum at the peak; none keeps the optimiser's")
    first: int = Field(0, ge=0, description="step at which the cycle begins")

    def _between(self, start: float, end: float, share: float) -> float:
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return start + (end - start) * share

    def _place(self, step: int, total: int) -> tuple[bool, float]:
        """Whether the rate still rises, and the share of that part that is done."""
        progress = max(0, step - self.first) / max(1, total - 1 - self.first)
        if progress < self.rise:
            return True, progress / self.rise
        return False, min(1.0, (progress - self.rise) / (1 - self.rise))

    def rate_at(self, step: int, total: int, events: Events) -> float:
        rising, share = self._place(step, total)
        if rising:
            return self._between(self.peak / self.start_divisor, self.peak, share)
        return self._between(self.peak, self.peak / self.end_divisor, share)

    def momentum_at(self, step: int, total: int, base: float) -> float:
        if self.momentum_low is None:
            return base
        rising, share = self._place(step, total)
        return (
            self._between(base, self.momentum_low, share) if rising else self._between(self.momentum_low, base, share)
        )


class Cosine(BaseModel, frozen=True, extra="forbid"):
    """Half a cosine from the full rate to the end rate, after a warm-up."""

    kind: Literal["cosine"] = "cosine"
    rate: Rate = Field(0.1, description="the highest rate")
    end_rate: float = Field(0.0, ge=0, le=1e3, allow_inf_nan=False, description="at the end of the run")
    warmup: WarmUp = WarmUp()
    first: int = Field(0, ge=0, description="step at which it begins, where another run has ended")

    def rate_at(self, step: int, total: int, events: Events) -> float:
        step, total = max(0, step - self.first), total - self.first
        if step < self.warmup.steps:
            return self.warmup.apply(step, self.rate)
        span = max(1, total - self.warmup.steps)
        share = (step - self.warmup.steps) / span
        return self.end_rate + (self.rate - self.end_rate) * (1 + math.cos(math.pi * share)) / 2

    def momentum_at(self, step: int, total: int, base: float) -> float:
        return base


class Plateau(BaseModel, frozen=True, extra="forbid"):
    """The rate times a factor whenever the error has stopped falling (He et al. 2015, section 3.4).

    The paper does not say when that is. Here: after `patience` evaluations in a row none of which was
    better than the best before them by more than `threshold`.
    """

    kind: Literal["plateau"] = "plateau"
    rate: Rate = Field(0.1, description="before it first falls")
    factor: float = Field(0.1, gt=0, lt=1, description="of the rate each time")
    watch: Literal["validation", "training"] = Field("validation", description="whose top-1 error; never the test set")
    patience: int = Field(5, ge=1, description="evaluations without a better one before the rate falls")
    threshold: float = Field(1e-3, ge=0, lt=1, description="the error must fall by more than this share of images")
    most: int = Field(3, ge=1, le=20, description="how often the rate may fall")
    warmup: WarmUp = WarmUp()

    def rate_at(self, step: int, total: int, events: Events) -> float:
        drops = sum(step >= at for name, at in events.items() if name.startswith(PLATEAU))
        return self.warmup.apply(step, self.rate * self.factor**drops)

    def momentum_at(self, step: int, total: int, base: float) -> float:
        return base


AnySchedule = Steps | OneCycle | Cosine | Plateau
Schedule = Annotated[AnySchedule, Field(discriminator="kind")]
SCHEDULES: dict[str, type[AnySchedule]] = {
    "steps": Steps,
    "one-cycle": OneCycle,
    "cosine": Cosine,
    "plateau": Plateau,
}


def hold_of(schedule: AnySchedule) -> Hold | None:
    """The event a schedule waits for, if any."""
    return schedule.hold if isinstance(schedule, Steps) else None


def in_proportion(schedule: AnySchedule, planned: int, total: int) -> AnySchedule:
    """The schedule for a run of another length: what stands at given steps keeps its share of the run.

    That is the drops of `steps`, which the paper has at a half and three quarters of its run. The other schedules
    follow the length, or what happens, by themselves. A warm-up keeps its steps, since it is there for the first
    updates, not for a share of the run.

    Raises:
        ValueError: the run is too short to hold the warm-up, or the drops one after the other.
    """
    warmup = 0 if isinstance(schedule, OneCycle) else schedule.warmup.steps
    if warmup < planned and warmup >= total:
        raise ValueError(f"the warm-up alone takes {warmup:,}")
    if not isinstance(schedule, Steps):
        return schedule
    drops = tuple(max(1, round(drop * total / planned)) for drop in schedule.drops)
    if len({*drops}) < len({*schedule.drops}) or (warmup and min(drops, default=total) <= warmup < min(schedule.drops)):
        raise ValueError(f"the drops of the rate would be at steps {', '.join(str(drop) for drop in drops)}")
    return schedule.model_copy(update={"drops": drops})


def check_length(schedule: AnySchedule, total: int) -> list[str]:
    """What of a schedule a run of `total` steps never reaches, in words that may be shown.

    Raises:
        UsageError: the rate itself is never reached, since a warm-up or a hold takes the whole run.
    """
    warmup = 0 if isinstance(schedule, OneCycle) else schedule.warmup.steps
    if warmup >= total:
        what = f"the warm-up takes {warmup:,} steps, and the run has {total:,}"
        raise UsageError(what, "schedule.warmup.steps", "shorten it, or train for longer")
    hold = hold_of(schedule)
    if hold is not None and hold.window > total:
        what = f"the rate may rise after {hold.window:,} steps at the earliest, and the run has {total:,}"
        raise UsageError(what, "schedule.hold.window", "shorten it, train for longer, or set schedule.hold to none")
    late = [drop for drop in schedule.drops if drop >= total] if isinstance(schedule, Steps) else []
    if not late:
        return []
    drops = " and ".join(f"{drop:,}" for drop in late)
    return [
        f"the run ends after {total:,} steps, before the rate falls at {drops} (schedule.drops); as shares of the run: "
        "--set schedule.drops=[] --set schedule.shares=[0.5,0.75]"
    ]
