"""The range test: rates as stated, nothing outside touched, words where there is no answer."""

from __future__ import annotations

import math
import random

import pytest
import torch

from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.digits import read_digits
from residual.data.preprocessing import measure
from residual.data.source import everything
from residual.errors import UsageError
from residual.models import NetworkSettings, build, resolve
from residual.training.compute import Compute
from residual.training.lr_range import judge, rates_of, smooth, sweep
from residual.training.optimiser import OptimiserSettings

FLOAT32 = Compute("cpu", "float32", "channels-last", 1, False)


def test_rates_are_a_constant_ratio_or_difference_apart():
    assert rates_of(1e-4, 1.0, 41, "exponential")[::10] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert rates_of(0.1, 2.1, 11, "linear") == pytest.approx([0.1 + 0.2 * i for i in range(11)])


@pytest.mark.parametrize(
    ("start", "stop", "steps"), [(0, 1, 20), (1, 1, 20), (1, 0.1, 20), (1, math.inf, 20), (1, 2, 3)]
)
def test_a_range_that_is_none_is_refused(start, stop, steps):
    with pytest.raises(UsageError):
        rates_of(start, stop, steps, "linear")


def test_smoothing_is_the_weighted_mean_of_what_was_seen():
    losses = [3.0, 1.0, 2.0, 5.0]
    for count in range(1, 5):
        weights = [0.98 ** (count - 1 - i) for i in range(count)]
        expected = sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights)
        assert smooth(losses)[count - 1] == pytest.approx(expected)


def valley_curve(count=100):
    """Flat, falling, rising: a loss as range tests show it."""
    rates = rates_of(1e-5, 10, count, "exponential")
    losses = [2.3 - 1.5 / (1 + math.exp(-3 * (math.log10(r) + 2.5))) + (r / 2) ** 3 for r in rates]
    return rates, losses


def test_suggestions_lie_on_the_fall_and_in_order():
    rates, losses = valley_curve()
    found = judge(rates, losses, math.log(10))
    assert {s.name for s in found.suggestions} == {"steepest", "valley", "before-divergence"}
    suggested = [s.rate for s in found.suggestions]
    assert suggested == sorted(suggested)
    turn = rates[min(range(len(losses)), key=losses.__getitem__)]
    for suggestion in found.suggestions:
        assert 1e-4 < suggestion.rate < turn
    assert "falls until" in found.verdict
    # Against fastai's own loop, written out as it stands there, on what its `lr_find` gives it.
    kept, averaged = rates[100 // 10 : -5], list(found.smoothed)[100 // 10 : -5]
    lengths, end, start = [1] * len(averaged), 0, 0
    for i in range(1, len(averaged)):
        for j in range(i):
            if averaged[i] < averaged[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end, start = i, i - lengths[i]
    third = (end - start) / 3
    valley = next(s.rate for s in found.suggestions if s.name == "valley")
    assert valley == kept[start + int(third) + int(third / 2)]


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([2.3, 9.0, 30.0, math.nan], "diverges at once"),
        ([2.3 + 0.001 * (i % 3) for i in range(60)], "never falls"),
        ([2.3 * 0.97**i for i in range(60)], "still falls"),
    ],
)
def test_what_is_no_answer_is_said_and_not_suggested(losses, words):
    found = judge(rates_of(1e-3, 1, 60, "exponential"), losses, math.log(10))
    assert words in found.verdict
    assert found.suggestions == ()


def _everything_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_a_sweep_on_digits_falls_diverges_and_touches_nothing():
    data = read_digits()
    indices = everything(data.train)
    batches = Batches(
        data.train, indices, measure(data.train, indices, "mean-std"), AugmentSettings(shift=2), 64, seed=0
    )
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 8, 8), dropout=0.1), 10, 1), 0)
    network.eval()
    before, chance = _everything_of(network), torch.get_rng_state()
    settings = OptimiserSettings(momentum=0.9)
    rates = rates_of(1e-3, 3e3, 60, "exponential")
    seen = []
    losses = sweep(network, settings, batches.batch_at, FLOAT32, rates, stepped=lambda step, loss: seen.append(loss))
    assert seen == losses
    again = sweep(network, settings, batches.batch_at, FLOAT32, rates)
    assert torch.equal(torch.tensor(losses), torch.tensor(again))
    after = _everything_of(network)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), chance)
    assert not network.training
    assert all(p.grad is None for p in network.parameters())
    assert min(smooth(losses)) < 0.9 * losses[0]
    assert len(losses) < len(rates)  # it ended where the loss diverged


def test_a_sweep_stops_when_it_is_told():
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 10, 1), 0)
    done = []
    losses = sweep(
        network, OptimiserSettings(), lambda step: pytest.fail("no batch is drawn"), FLOAT32, [0.1] * 9,
        halt=lambda: True, stepped=lambda step, loss: done.append(step),
    )  # fmt: skip
    assert losses == done == []


def _curve(turn: float, depth: float, noise: float, seed: int, count: int = 100) -> tuple[list[float], list[float]]:
    """Flat, falling by `depth` until `turn`, leaping up after it and falling back: what small networks show."""
    chance = random.Random(seed)
    rates = rates_of(1e-5, 10, count, "exponential")
    losses = []
    for rate in rates:
        fall = depth / (1 + (turn / 30 / rate) ** 1.5)
        leap = 20 * math.exp(-(math.log10(rate / turn / 6) ** 2) / 0.05)
        losses.append(2.4 - fall + leap + chance.gauss(0, noise))
    return rates, losses


@pytest.mark.parametrize("seed", range(12))
def test_noise_moves_no_suggestion_off_the_fall(seed):
    rates, losses = _curve(0.3, 1.2, 0.1, seed)
    found = judge(rates, losses, math.log(10))
    assert found.suggestions, found.verdict
    lowest = rates[min(range(len(found.smoothed)), key=found.smoothed.__getitem__)]
    suggested = [s.rate for s in found.suggestions]
    assert suggested == sorted(suggested)
    assert suggested[0] > 5e-4  # where the loss does not fall yet
    assert suggested[-1] <= lowest < 1.0
    assert "safest" in found.suggestions[0].meaning
    assert "boldest" in found.suggestions[-1].meaning
    assert len([s for s in found.suggestions if "est of the" in s.meaning]) == 2


@pytest.mark.parametrize("seed", range(12))
def test_a_fall_that_may_be_chance_is_no_answer(seed):
    rates, losses = _curve(0.3, 0.1, 0.12, seed, count=30)
    found = judge(rates, losses, math.log(3))
    assert found.suggestions == ()
    assert "steps" in found.verdict
