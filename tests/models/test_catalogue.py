"""The table of networks: spellings, refusals, overrides."""

from typing import Any

import pytest

from residual.errors import UsageError
from residual.models import NETWORKS, NetworkSettings, find, resolve, variants


@pytest.mark.parametrize("spelling", ["resnet-20", "resnet20", "ResNet-20", "resnet_20", "RESNET 20"])
def test_spellings(spelling):
    assert find(spelling) is NETWORKS["resnet-20"]


def test_no_two_names_differ_by_spelling_alone():
    assert all(find(name.replace("-", "").upper()) is entry for name, entry in NETWORKS.items())


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="resnet-20") as caught:
        find("resnet-21")
    assert caught.value.exit_code == 2


def test_table_cannot_be_changed():
    table: Any = NETWORKS
    with pytest.raises(TypeError):
        table["mine"] = table["resnet-20"]


def test_variants_list_the_default_first():
    listed = variants()
    assert len(listed) == len(set(listed))
    assert [shortcut for name, shortcut in listed if name == "resnet-56"] == ["A", "B"]
    assert [shortcut for name, shortcut in listed if name == "plain-56"] == ["none"]
    assert {name for name, _ in listed} == set(NETWORKS)


def test_settings_without_overrides_give_the_entry():
    for name, entry in NETWORKS.items():
        assert resolve(NetworkSettings(name=name), classes=10) == entry.spec()


def test_every_override_reaches_the_spec():
    chosen: dict[str, Any] = {
        "depths": (1, 2),
        "widths": (8, 24),
        "stem": "3x3",
        "unit": "basic",
        "shortcut": "B",
        "dropout": 0.25,
        "initialisation": "he-fan-out",
        "norm_eps": 1e-3,
        "norm_momentum": 0.5,
        "zero_last_scale": True,
    }
    assert set(chosen) == set(NetworkSettings.model_fields) - {"name"}
    spec = resolve(NetworkSettings(name="ResNet20", **chosen), classes=100, channels=1)
    assert spec.model_dump() == {"name": "resnet-20", "classes": 100, "channels": 1, **chosen}


@pytest.mark.parametrize(("name", "shortcut"), [("plain-20", "A"), ("plain-20", "B"), ("resnet-20", "none")])
def test_any_shortcut_goes_on_any_entry(name, shortcut):
    assert resolve(NetworkSettings(name=name, shortcut=shortcut), classes=10).shortcut == shortcut


def test_faults_are_refused_all_at_once():
    settings = NetworkSettings(depths=(1, 1), shortcut="none", zero_last_scale=True)
    with pytest.raises(UsageError, match=r"2 stages, widths 3.*zero_last_scale"):
        resolve(settings, classes=10)
    with pytest.raises(UsageError, match=r"network\.classes is 1: .*network\.channels is 0: "):
        resolve(NetworkSettings(), classes=1, channels=0)
