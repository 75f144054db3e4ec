"""What counts as confirmed, on invented figures: plausible ones get the verdict that a reader would give."""

from __future__ import annotations

from typing import Any

import pytest

from residual.studies.arms import spread
from residual.studies.claims import registry
from residual.studies.training_studies import gap

CHANCE = 2.303


def two(middle, apart=0.1):
    """The spread of two seeds about a value."""
    return spread([middle - apart, middle + apart])


def arms(figure, apart=0.1, **values):
    return {name.replace("_", "-"): {figure: two(value, apart)} for name, value in values.items()}


def joined(*tables) -> dict[str, Any]:
    """Figures of the same arms put together."""
    found: dict[str, Any] = {}
    for table in tables:
        for name, figures in table.items():
            found[name] = {**found.get(name, {}), **figures} if isinstance(figures, dict) else figures
    return found


LOSSES = joined(
    {"chance": CHANCE},
    arms("loss", 0.001, he_22=1.4, half_22=1.9, he_30=1.6, half_30=2.303, bn_half_30=1.3),
    arms("average_loss", 0.001, he_22=1.8, half_22=2.2),
)
STALLED = joined(LOSSES, arms("loss", 0.001, half_22=2.303))
DEPTHS = joined(
    arms("training_error", plain_20=9, plain_56=14, resnet_20=8, resnet_56=4),
    arms("test_error", plain_20=10, plain_56=15, resnet_20=9.5, resnet_56=8),
)
NOT_EASY = joined(DEPTHS, arms("training_error", resnet_56=9))
ORDERS = {
    "against_original": {
        "relu-only-pre-activation": gap(
            {"test_error": spread([9.0, 9.2, 9.1])}, {"test_error": spread([9.1, 9.2, 9.2])}
        ),
        "full-pre-activation": gap({"test_error": spread([9.0, 9.2, 9.1])}, {"test_error": spread([8.6, 8.7, 8.7])}),
    }
}
LUCKY = {
    "against_original": {
        "relu-only-pre-activation": gap({"test_error": two(9)}, {"test_error": two(9.2, 0.4)}),
        "full-pre-activation": gap({"test_error": spread([9.1, 9.0])}, {"test_error": spread([8.9, 8.5])}),
    }
}


def reversed_order(original, pre):
    return {"at_64000": {"resnet-110": {"test_error": two(original)}, "preact-110": {"test_error": two(pre)}}}


def lesion(silent, rise, harmful=0.0):
    return {"resnet-56": {"silent_blocks": silent, "mean_rise": two(rise), "harmful_units": spread([harmful])}}


def searched(default, tuned):
    return {"difference": gap({"test_error": spread(default)}, {"test_error": spread(tuned)})}


DROPPED = joined(
    arms("test_error", none=10, dropout=9.5), arms("average_test_error", none=20, dropout=25), {"none": {"x": 1}}
)
MOMENTA = joined(
    arms("roughness", 0.01, m_80=0.1, m_90=0.2, m_99=0.5), arms("error_roughness", 0.1, m_80=1, m_90=2, m_99=4)
)
SMALL = joined(
    arms("average_training_error", plain_18=60, resnet_18=58, plain_34=66, resnet_34=57),
    arms("validation_error", plain_18=66, resnet_18=65, plain_34=70, resnet_34=64),
)
NORMS = joined(
    arms("training_error", with_he=30, with_half=30.5, without_he=45, without_half=60),
    {"sensitivity": {"with": two(0.5), "without": two(15)}},
)
BOTH_STALL = joined(
    arms("training_error", with_he=30, with_half=30.5, without_he=90, without_half=90),
    {"sensitivity": {"with": two(0.5), "without": two(0, 0)}},
)


@pytest.mark.parametrize(
    ("claim", "figures", "holds"),
    [
        ("E08", LOSSES, True),
        ("E08", STALLED, False),
        ("M01", LOSSES, True),
        ("M01", STALLED, True),  # that 22 layers stall as well says nothing against it
        ("B04", DEPTHS, True),
        ("B04", NOT_EASY, False),
        ("B05", DEPTHS, True),
        ("M18", ORDERS, True),
        ("M19", ORDERS, True),
        ("M18", LUCKY, False),
        ("M19", LUCKY, False),  # two seeds, both better, and an interval that says nothing
        ("M22", reversed_order(6.6, 6.4), True),
        ("M22", reversed_order(6.3, 6.8), False),
        ("B12", lesion(0, 3.0), False),
        ("E02", DROPPED, True),
        ("E02", joined(DROPPED, arms("average_test_error", dropout=18)), False),
        ("B29", MOMENTA, True),
        ("B29", joined(MOMENTA, arms("roughness", 0.01, m_90=0.6)), False),
        ("B28", searched([30.0, 30.2, 29.9], [29.6, 30.1, 30.1]), True),
        ("B28", searched([30.0, 30.0, 30.0], [20.0, 30.0, 40.0]), False),  # the same mean says little here
        ("B28", searched([30.0, 30.2, 29.9], [26.0, 26.3, 26.1]), False),
        ("A16", SMALL, True),
        ("A16", joined(SMALL, arms("average_training_error", resnet_18=61)), False),
        ("A16", joined(SMALL, arms("validation_error", apart=6, plain_34=70)), False),  # by the means alone
        ("E03", NORMS, True),
        ("E03", BOTH_STALL, False),
        ("A20-20", {"at_64000": arms("test_error", resnet_20=8.3)}, True),
        ("A20-20", {"at_64000": arms("test_error", resnet_20=7.7)}, False),  # better than the paper: not what it says
        ("A20-20", {"at_64000": arms("test_error", resnet_20=9.4)}, False),
    ],
)
def test_rules_on_plausible_figures(claim, figures, holds):
    found = registry().find([claim])[0]
    assert found.confirmed is not None
    assert found.confirmed.holds(figures) is holds


def test_that_layers_are_skipped_is_no_finding_of_the_paper():
    claim = registry().find(["B12"])[0]
    assert claim.right_if is not None
    assert claim.right_if.holds(lesion(0, 3.0))
    assert not claim.right_if.holds(lesion(0, 0.0))
    assert not claim.right_if.holds(lesion(2, 3.0))
    assert not claim.right_if.holds(lesion(0, 3.0, harmful=1.0)), "a unit without which the error is lower"


def test_a_gap_is_paired_by_seed():
    found = gap({"test_error": spread([9.0, 10.0, 11.0])}, {"test_error": spread([8.5, 9.6, 10.4])})
    assert found["mean"] == pytest.approx(-0.5)
    assert found["low"] == pytest.approx(-0.5 - 4.30265 * 0.1 / 3**0.5, abs=1e-4)
    assert found["high"] == pytest.approx(-0.5 + 4.30265 * 0.1 / 3**0.5, abs=1e-4)
    assert gap({"test_error": spread([9.0])}, {"test_error": spread([8.5])})["low"] is None
