"""The table of every schedule, beside the formula of its source."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from residual.errors import UsageError
from residual.training.journal import Events
from residual.training.recipes import RECIPES
from residual.training.schedules import (
    BELOW,
    PLATEAU,
    SCHEDULES,
    AnySchedule,
    Cosine,
    Hold,
    OneCycle,
    Plateau,
    Steps,
    WarmUp,
    check_length,
)
from residual.training.train import train


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1), (399, 0.1), (400, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)],
)
def test_the_paper_divides_by_ten_at_32k_and_48k(step: int, rate: float) -> None:
    schedule = RECIPES["cifar10-paper"].schedule
    assert schedule.rate_at(step, 64_000, {}) == pytest.approx(rate, rel=1e-12)
    assert schedule.momentum_at(step, 64_000, 0.9) == 0.9


@pytest.mark.parametrize(
    ("step", "events", "rate"),
    [
        (0, {}, 0.01),
        (399, {}, 0.01),
        (400, {}, 0.01),
        (5_000, {}, 0.01),
        (399, {BELOW: 400}, 0.01),
        (400, {BELOW: 400}, 0.1),
        (31_999, {BELOW: 400}, 0.1),
        (32_000, {BELOW: 400}, 0.01),
        (48_000, {BELOW: 400}, 0.001),
    ],
)
def test_a_hold_ends_with_its_event_and_leaves_the_drops_where_they_are(
    step: int, events: dict[str, int], rate: float
) -> None:
    # He et al. 2015, section 4.2: .01 until the training error is below 80 %, then .1 and the same schedule.
    schedule = Steps(hold=Hold(rate=0.01, until_error=0.8))
    assert schedule.rate_at(step, 64_000, events) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.01), (399, 0.01), (400, 0.1), (32_000, 0.01), (48_000, 0.001)])
def test_a_constant_warm_up_of_400_iterations(step: int, rate: float) -> None:
    # He et al. 2016, appendix: .01 for the first 400 iterations.
    schedule = Steps(warmup=WarmUp(steps=400, rate=0.01, shape="constant"))
    assert schedule.rate_at(step, 64_000, {}) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.1), (29, 0.1), (30, 0.01), (59, 0.01), (60, 0.001), (89, 0.001)])
def test_thirty_sixty_ninety(epoch: int, rate: float) -> None:
    # Gross and Wilber 2016, as torchvision's reference: .1 * .1 ** (epoch // 30) over 90 epochs, at any batch.
    recipe = RECIPES["imagenet-steps"]
    for steps_an_epoch in (5, 5005):
        for step in (epoch * steps_an_epoch, (epoch + 1) * steps_an_epoch - 1):
            assert recipe.schedule.rate_at(step, 90 * steps_an_epoch, {}) == pytest.approx(rate, rel=1e-12)


def test_drops_by_steps_and_by_shares_count_together() -> None:
    schedule = Steps(rate=1.0, drops=(10,), shares=(0.5,), factor=0.1)
    assert [schedule.rate_at(s, 100, {}) for s in (9, 10, 49, 50)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def fastai_rate(position: float, peak: float, rise: float = 0.25, div: float = 25, div_final: float = 1e5) -> float:
    """fastai's `fit_one_cycle` (Howard and Gugger 2020, callback/schedule.py): `combined_cos(pct_start, lr_max / div,
    lr_max, lr_max / div_final)`, where `SchedCos(a, b)(p) = a + (1 + cos(pi * (1 - p))) * (b - a) / 2`."""

    def cos(start: float, end: float, p: float) -> float:
        return start + (1 + math.cos(math.pi * (1 - p))) * (end - start) / 2

    if position < rise:
        return cos(peak / div, peak, position / rise)
    return cos(peak, peak / div_final, (position - rise) / (1 - rise))


def test_one_cycle_equals_fastai_at_every_step() -> None:
    # fastai's position is the share of the batches done, step / total; ours reaches the end at the last step.
    schedule, total = OneCycle(peak=3e-3, momentum_low=0.85), 1001
    for step in range(total):
        assert schedule.rate_at(step, total, {}) == pytest.approx(fastai_rate(step / (total - 1), 3e-3), rel=1e-9)
    for position, momentum in ((0, 0.95), (125, 0.9), (250, 0.85), (625, 0.9), (1000, 0.95)):
        assert schedule.momentum_at(position, total, 0.95) == pytest.approx(momentum)


def test_a_linear_warm_up_is_a_straight_line() -> None:
    schedule = Cosine(rate=1.0, warmup=WarmUp(steps=10, rate=0.0))
    assert [schedule.rate_at(step, 110, {}) for step in (0, 5, 10)] == pytest.approx([0.0, 0.5, 1.0])


@pytest.mark.parametrize(("step", "rate"), [(0, 1.0), (25, (1 + math.sqrt(0.5)) / 2), (50, 0.5), (100, 0.0)])
def test_cosine(step: int, rate: float) -> None:
    assert Cosine(rate=1.0).rate_at(step, 100, {}) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("step", "rate", "momentum"),
    [(0, 1 / 25, 0.95), (50, (1 / 25 + 1) / 2, 0.9), (100, 1.0, 0.85), (250, (1 + 1e-5) / 2, 0.9), (400, 1e-5, 0.95)],
)
def test_one_cycle_has_the_shape_of_fastai(step: int, rate: float, momentum: float) -> None:
    schedule = OneCycle(peak=1.0, momentum_low=0.85)
    assert schedule.rate_at(step, 401, {}) == pytest.approx(rate)
    assert schedule.momentum_at(step, 401, 0.95) == pytest.approx(momentum)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_one_cycle_equals_torch(shape: str) -> None:
    # torch ends its rise at step pct_start * total - 1, ours at rise * (total - 1): the same step for these numbers.
    total, rise_end = 401, 100
    schedule = OneCycle(peak=0.4, shape=shape, momentum_low=0.85)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1, momentum=0.95)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=0.4,
        total_steps=total,
        pct_start=(rise_end + 1) / total,
        anneal_strategy="cos" if shape == "cosine" else "linear",
        div_factor=25,
        final_div_factor=4000,
        base_momentum=0.85,
        max_momentum=0.95,
    )
    for step in range(total):
        group = optimiser.param_groups[0]
        assert schedule.rate_at(step, total, {}) == pytest.approx(group["lr"], rel=1e-6), step
        assert schedule.momentum_at(step, total, 0.95) == pytest.approx(group["momentum"], rel=1e-6), step
        optimiser.step()
        if step < total - 1:
            theirs.step()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_rate_above_zero_at_every_step_of_its_run(name: str) -> None:
    schedule, total = RECIPES[name].schedule, 1_000
    assert all(schedule.rate_at(step, total, {}) > 0 for step in range(total))


def test_a_run_of_one_step_has_a_rate() -> None:
    assert OneCycle(peak=1.0).rate_at(0, 1, {}) == pytest.approx(1 / 25)


def test_a_plateau_lowers_the_rate_with_each_of_its_events_and_no_other() -> None:
    schedule = Plateau(rate=0.1, factor=0.1)
    events = {BELOW: 3, f"{PLATEAU}1": 1000, f"{PLATEAU}2": 2500}
    table = {0: 0.1, 999: 0.1, 1000: 0.01, 2499: 0.01, 2500: 0.001, 600_000: 0.001}
    for step, rate in table.items():
        assert schedule.rate_at(step, 600_000, events) == pytest.approx(rate, rel=1e-12)
    assert schedule.rate_at(5000, 600_000, {}) == pytest.approx(0.1)
    assert schedule.momentum_at(0, 600_000, 0.9) == 0.9


def judged(schedule: Plateau, errors: list[float]) -> list[str | None]:
    events = Events(schedule, torch.device("cpu"))
    found = []
    for place, error in enumerate(errors):
        assert events.judge(place, "test", 0.0) is None
        found.append(events.judge(place, schedule.watch, error))
        # After every evaluation, as if the run went on from a checkpoint.
        again = Events(schedule, torch.device("cpu"))
        again.restore(events.tensors(), json.loads(json.dumps(events.facts())))
        events = again
    return found


def test_a_plateau_is_so_many_evaluations_without_a_better_one() -> None:
    schedule = Plateau(patience=2, threshold=0.01, most=2)
    #         best  better  same  hardly better  waits   better  no     no (second)  and never again
    errors = [0.50, 0.40, 0.40, 0.395, 0.40, 0.30, 0.31, 0.32, 0.3, 0.3, 0.3, 0.3]
    names = [None, None, None, f"{PLATEAU}1", None, None, None, f"{PLATEAU}2", None, None, None, None]
    assert judged(schedule, errors) == names
    assert judged(Plateau(patience=1, threshold=0.0, watch="training"), [0.5, 0.5, 0.4]) == [None, f"{PLATEAU}1", None]


def test_smiths_triangle_is_one_cycle_with_straight_sides() -> None:
    # Smith and Topin 2017: .1 up to 3 and back to .1, at one momentum.
    schedule = OneCycle(peak=3, rise=0.5, start_divisor=30, end_divisor=30, shape="linear")
    table = {0: 0.1, 2500: 0.1 + 2.9 / 2, 5000: 3, 7500: 0.1 + 2.9 / 2, 10_000: 0.1}
    for step, rate in table.items():
        assert schedule.rate_at(step, 10_001, {}) == pytest.approx(rate)
    assert schedule.momentum_at(5000, 10_001, 0.9) == 0.9


CONSTANT = {0: 0.9, 50: 0.9, 99: 0.9}


@pytest.mark.parametrize(
    ("schedule", "total", "rates", "momenta"),
    [
        # He et al. 2015, 4.2: rate * factor ** drops passed; the momentum is the optimiser's.
        (Steps(rate=0.1, drops=(50, 75)), 100, {0: 0.1, 49: 0.1, 50: 0.01, 75: 1e-3, 99: 1e-3}, CONSTANT),
        # Loshchilov and Hutter 2017, equation 5: end + (rate - end) (1 + cos(pi t / T)) / 2.
        (
            Cosine(rate=0.1, end_rate=0.02),
            100,
            {0: 0.1, 25: 0.02 + 0.08 * (1 + math.sqrt(0.5)) / 2, 50: 0.06, 100: 0.02},
            CONSTANT,
        ),
        # Smith 2018; fastai: peak / 25 -> peak -> peak / 1e5 by half cosines, a quarter up; momentum the mirror image.
        (OneCycle(peak=0.1, momentum_low=0.8), 101, {0: 0.004, 25: 0.1, 100: 1e-6}, {0: 0.9, 25: 0.8, 100: 0.9}),
        # He et al. 2015, 3.4: rate * factor ** plateaus; here after one at step 40.
        (Plateau(rate=0.1), 100, {0: 0.1, 39: 0.1, 40: 0.01, 99: 0.01}, CONSTANT),
    ],
    ids=["steps", "cosine", "one-cycle", "plateau"],
)
def test_the_table_of_every_schedule(
    schedule: AnySchedule, total: int, rates: dict[int, float], momenta: dict[int, float]
) -> None:
    events = {f"{PLATEAU}1": 40}
    assert {s: schedule.rate_at(s, total, events) for s in rates} == pytest.approx(rates, rel=1e-9)
    assert {s: schedule.momentum_at(s, total, 0.9) for s in momenta} == pytest.approx(momenta, rel=1e-9)


def test_every_schedule_has_a_table() -> None:
    assert {"steps", "cosine", "one-cycle", "plateau"} == set(SCHEDULES)


def test_what_a_run_never_reaches_is_refused_or_said() -> None:
    assert check_length(Steps(drops=(4, 6), shares=(0.9,)), 8) == check_length(OneCycle(), 1) == []
    (words,) = check_length(Steps(drops=(4, 8, 9)), 8)
    assert "the run ends after 8 steps, before the rate falls at 8 and 9" in words
    assert "--set schedule.drops=[] --set schedule.shares=[0.5,0.75]" in words
    for schedule in (
        Cosine(warmup=WarmUp(steps=8)),
        Steps(drops=(), warmup=WarmUp(steps=9)),
        Plateau(warmup=WarmUp(steps=8)),
    ):
        with pytest.raises(UsageError, match=r"the warm-up takes . steps, and the run has 8 \(schedule.warmup.steps\)"):
            check_length(schedule, 8)
        check_length(schedule, 10)
    with pytest.raises(UsageError, match="may rise after 9 steps at the earliest"):
        check_length(Steps(hold=Hold(window=9)), 8)


def test_a_run_that_never_reaches_its_rate_does_not_start(tmp_path: Path) -> None:
    tiny = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "data.limit": 100, "steps": 3}
    with pytest.raises(UsageError, match="the warm-up takes 900 steps, and the run has 3"):
        train("digits", set=tiny | {"schedule.kind": "cosine", "schedule.warmup.steps": 900}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
