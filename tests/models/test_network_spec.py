"""What a spec refuses, and what it keeps."""

from typing import Any

import pytest
from pydantic import ValidationError

from residual.models import NetworkSettings, NetworkSpec, find

SPEC = find("resnet-20").spec()


def changed(**fields):
    return NetworkSpec.model_validate({**SPEC.model_dump(), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"depths": ()},
        {"depths": (3, 0, 3)},
        {"widths": (16, -32, 64)},
        {"depths": (3, 3)},
        {"widths": (64, 32, 16)},
        {"classes": 1},
        {"channels": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": float("nan")},
        {"norm_eps": 0.0},
        {"norm_eps": float("inf")},
        {"norm_momentum": 0.0},
        {"norm_momentum": 1.1},
        {"stem": "9x9"},
        {"unit": "unknown"},
        {"shortcut": "Z"},
        {"initialisation": "zeros"},
        {"shortcut": "none", "zero_last_scale": True},
        {"colour": "red"},
        {"depths": (3, True, 3)},
        {"dropout": True},
        {"order": "pre"},
        {"gate": "both"},
        {"stem": "auto"},
        {"shortcut_scale": float("nan")},
        {"shortcut_dropout": 1.0},
        {"classifier_initialisation": "ones"},
    ],
    ids=str,
)
def test_refused(fields):
    with pytest.raises(ValidationError):
        changed(**fields)


def test_option_b_may_shrink_the_channels():
    assert changed(widths=(64, 32, 16), shortcut="B").widths == (64, 32, 16)


def test_networks_of_earlier_releases_pool_as_they_did():
    stored = find("vgg-16").spec().model_dump(mode="json")
    assert stored.pop("pool_rounding") == "up"
    assert NetworkSpec.model_validate(stored) == find("vgg-16").spec()


def test_outputs_of_the_stages():
    assert changed(unit="bottleneck").outputs == (64, 128, 256)
    assert changed().outputs == (16, 32, 64)
    assert (changed().stem_width, changed(stem="none", channels=7).stem_width) == (16, 7)
    assert changed(unit="bottleneck", depths=(18, 18, 18)).weighted_layers == 164


def test_frozen_and_equal_by_value():
    spec: Any = SPEC
    with pytest.raises(ValidationError):
        spec.classes = 5
    assert changed() == SPEC
    assert hash(changed()) == hash(SPEC)


def test_settings_hold_what_a_spec_does_but_for_the_data():
    assert set(NetworkSettings.model_fields) == set(NetworkSpec.model_fields) - {"classes", "channels"}
    with pytest.raises(ValidationError):
        NetworkSettings.model_validate({"depth": 3})
    with pytest.raises(ValidationError):
        NetworkSettings(dropout=1.5)
