"""A known temperature is found again; bins and their error against plain counting."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from residual.chance import stream
from residual.evaluation.calibration import calibration, fit_temperature


def drawn(count, classes, temperature, seed=0):
    """Logits too sure by a factor, of labels drawn from what they should say."""
    generator = stream(seed, "calibration")
    true = 2 * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial(true.softmax(1), 1, generator=generator).squeeze(1)
    return temperature * true, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_again(temperature):
    logits, labels = drawn(20_000, 4, temperature)
    found = fit_temperature(logits, labels)
    assert found is not None
    assert found.images == 20_000
    assert found.value == pytest.approx(temperature, rel=0.03)
    after = calibration(logits / found.value, labels).error
    assert after < 0.02
    if temperature != 1:
        assert calibration(logits, labels).error > 3 * after


def test_no_other_temperature_has_less_loss():
    logits, labels = drawn(300, 3, 2.5, seed=1)
    found = fit_temperature(logits, labels)
    assert found is not None

    def loss(t):
        return float(cross_entropy(logits.double() / t, labels))

    assert all(loss(found.value) <= loss(found.value * factor) for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2))


@pytest.mark.parametrize(
    "logits",
    [[[2.0, 0.0], [0.0, 2.0]], [[0.0, 2.0], [2.0, 0.0]], [[math.nan, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]],
    ids=["all right", "all wrong", "not a number", "no difference"],
)
def test_where_no_temperature_is_best_there_is_none(logits):
    assert fit_temperature(torch.tensor(logits), torch.tensor([0, 1])) is None
    assert fit_temperature(torch.empty(0, 2), torch.empty(0, dtype=torch.int64)) is None


def test_bins_are_counted_one_by_one():
    logits, labels = drawn(200, 3, 2, seed=2)
    shares = logits.double().softmax(1)
    found = calibration(logits, labels, bins=5)
    error = 0.0
    for number, one in enumerate(found.bins):
        inside = [n for n in range(200) if number / 5 < float(shares[n].max()) <= (number + 1) / 5]
        assert one.images == len(inside)
        assert (one.low, one.high) == (number / 5, (number + 1) / 5)
        if not inside:
            assert one.accuracy is None
            continue
        accuracy = sum(int(shares[n].argmax()) == int(labels[n]) for n in inside) / len(inside)
        confidence = sum(float(shares[n].max()) for n in inside) / len(inside)
        assert one.accuracy == pytest.approx(accuracy)
        assert one.confidence == pytest.approx(confidence)
        error += len(inside) / 200 * abs(accuracy - confidence)
    assert sum(one.images for one in found.bins) == 200
    assert found.error == pytest.approx(error)


def test_sure_answers_and_no_numbers_have_their_bins():
    sure = calibration(torch.tensor([[100.0, 0.0], [0.0, 100.0]]), torch.tensor([0, 0]))
    assert sure.bins[-1].images == 2
    assert sure.error == pytest.approx(0.5)
    lost = calibration(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
    assert (lost.bins[0].images, lost.bins[0].accuracy, lost.error) == (1, 0.0, 0.0)
