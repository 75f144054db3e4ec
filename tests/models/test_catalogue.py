"""The table of networks: spellings, refusals, overrides."""

from typing import Any

import pytest

from residual.errors import UsageError
from residual.models import NETWORKS, NetworkSettings, NetworkSpec, explain, find, matching, resolve, variants


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
        assert resolve(NetworkSettings(name=name), classes=entry.classes) == entry.spec()


def test_every_override_reaches_the_spec():
    chosen: dict[str, Any] = {
        "depths": (1, 2),
        "widths": (8, 24),
        "stem": "3x3/2",
        "unit": "bottleneck",
        "shortcut": "B",
        "dropout": 0.25,
        "initialisation": "he-fan-out",
        "norm_eps": 1e-3,
        "norm_momentum": 0.5,
        "zero_last_scale": False,
        "order": "full-pre-activation",
        "stride": "3x3",
        "shortcut_scale": 0.5,
        "branch_scale": 0.25,
        "gate": "exclusive",
        "gate_bias": -3.0,
        "shortcut_dropout": 0.1,
        "projection_norm": True,
        "norm": "batch",
        "conv_bias": True,
        "downsampling": "stride",
        "head": "vgg",
        "classifier_initialisation": "zero",
        "norm_group": 4,
        "stride_unit": "last",
        "first_activation": "unit",
        "pool_padding": "zero",
        "pool_rounding": "up",  # with strides there is nothing else
        "stochastic_depth": 0.2,
    }
    assert set(chosen) == set(NetworkSettings.model_fields) - {"name"}
    spec = resolve(NetworkSettings(name="ResNet20", **chosen), classes=100, channels=1)
    assert spec.model_dump() == {"name": "resnet-20", "classes": 100, "channels": 1, **chosen}
    assert resolve(NetworkSettings(name="vgg-16", pool_rounding="down"), classes=10).pool_rounding == "down"


@pytest.mark.parametrize(("name", "shortcut"), [("plain-20", "A"), ("plain-20", "B"), ("resnet-20", "none")])
def test_any_shortcut_goes_on_any_entry(name, shortcut):
    assert resolve(NetworkSettings(name=name, shortcut=shortcut), classes=10).shortcut == shortcut


def test_faults_are_refused_all_at_once():
    settings = NetworkSettings(depths=(1, 1), shortcut="none", zero_last_scale=True)
    with pytest.raises(UsageError, match=r"2 stages, widths 3.*zero_last_scale"):
        resolve(settings, classes=10)
    with pytest.raises(UsageError, match=r"network\.classes is 1: .*network\.channels is 0: "):
        resolve(NetworkSettings(), classes=1, channels=0)


def test_what_follows_from_another_part_unless_it_is_set_as_well():
    assert resolve(NetworkSettings(order="full-pre-activation"), classes=10).projection_norm is False
    assert resolve(NetworkSettings(order="full-pre-activation", projection_norm=True), classes=10).projection_norm
    assert resolve(NetworkSettings(name="preact-20", order="original"), classes=10).projection_norm
    assert resolve(NetworkSettings(norm="none"), classes=10).conv_bias
    assert resolve(NetworkSettings(name="resnet-50-keras", norm="batch"), classes=10).conv_bias
    assert not resolve(NetworkSettings(name="vgg-16", norm="batch"), classes=10).conv_bias
    other = resolve(NetworkSettings(name="preact-50-keras", order="original"), classes=10)
    assert (other.first_activation, other.pool_padding, other.stride_unit) == ("stem", "lowest", "last")
    same = resolve(NetworkSettings(name="preact-50-keras", order="full-pre-activation"), classes=10)
    assert (same.first_activation, same.pool_padding) == ("unit", "zero")


def test_option_c_has_two_names():
    named = NetworkSettings.model_validate({"shortcut": "conv-all"})
    assert resolve(named, classes=10) == resolve(NetworkSettings(shortcut="C"), classes=10)


def test_patterns():
    assert [entry.name for entry in matching("ResNet-50*")] == [
        "resnet-50",
        "resnet-50-v1.5",
        "resnet-50-keras",
        "resnet-50-cifarstem",
    ]
    assert [entry.name for entry in matching("*-keras")] == [
        f"{kind}-{layers}-keras" for kind in ("resnet", "preact") for layers in (50, 101, 152)
    ]
    assert [entry.name for entry in matching("resnet_?4")] == ["resnet-14", "resnet-44", "resnet-34"]
    assert [entry.name for entry in matching("VGG-1[6-8]")] == ["vgg-16"]
    assert len(matching("*")) == len(NETWORKS)
    with pytest.raises(UsageError, match="no network is named like"):
        matching("vgg-2*")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"shortcut": "A", "widths": (64, 32, 16)}, "option A only adds channels"),
        ({"unit": "bottleneck", "shortcut": "A-both", "widths": (64, 32, 4)}, "option A only adds channels"),
        ({"stride": "3x3"}, "a basic unit has no 1x1"),
        ({"unit": "1layer", "stride": "3x3"}, "a 1layer unit has no 1x1"),
        ({"stem": "none", "order": "full-pre-activation"}, "choose a stem"),
        ({"shortcut": "none", "gate": "exclusive"}, "gate is 'exclusive'; without shortcuts"),
        ({"shortcut": "none", "shortcut_scale": 0.5}, "shortcut_scale is 0.5; without shortcuts"),
        ({"shortcut": "none", "branch_scale": 0.5}, "branch_scale is 0.5; without shortcuts"),
        ({"shortcut": "none", "shortcut_dropout": 0.5}, "shortcut_dropout is 0.5; without shortcuts"),
        ({"shortcut": "none", "stochastic_depth": 0.5}, "stochastic_depth is 0.5; without shortcuts"),
        ({"norm": "none", "zero_last_scale": True}, "there is no scale"),
        ({"norm": "none", "order": "bn-after-addition"}, "the same as original"),
        ({"norm": "none", "order": "relu-only-pre-activation"}, "the same as full-pre-activation"),
        ({"gate_bias": -3.0}, "there is no gate"),
        ({"stride_unit": "last", "downsampling": "max-pool"}, "with max-pooling no unit has a stride"),
        ({"first_activation": "unit"}, "with order original no unit begins"),
        ({"first_activation": "unit", "order": "relu-only-pre-activation"}, "no unit begins"),
        ({"pool_rounding": "down"}, "leave it at up or choose max-pool"),
        ({"pool_padding": "zero", "order": "full-pre-activation"}, "choose first_activation=unit"),
    ],
    ids=str,
)
def test_parts_that_make_no_network_are_refused_in_words(parts, words):
    with pytest.raises(UsageError, match=words):
        resolve(NetworkSettings.model_validate(parts), classes=10)


def test_a_network_without_stem_may_be_too_wide_for_option_a_at_once():
    with pytest.raises(UsageError, match="option A only adds channels"):
        resolve(NetworkSettings(stem="none"), classes=10, channels=20)
    assert resolve(NetworkSettings(stem="none"), classes=10, channels=3).stem_width == 3


def test_every_entry_is_explained_by_the_network_it_goes_back_to():
    for entry in NETWORKS.values():
        model = NETWORKS[entry.model]
        assert model.model == model.name
        for shortcut in entry.shortcuts:
            explained = explain(entry.spec(shortcut))
            assert (not explained.departures) == (model is entry)
            assert set(entry.errors) <= set(entry.shortcuts)
            assert explained.error == entry.errors.get(shortcut)
            assert explained.known


def test_departures_name_the_part_both_values_and_what_is_known():
    spec = resolve(NetworkSettings(name="resnet-50-v1.5", shortcut="A-both", dropout=0.2), classes=1000)
    explained = explain(spec)
    assert {one.part: (one.paper, one.here) for one in explained.departures} == {
        "stride": ("1x1", "3x3"),
        "shortcut": ("B", "A-both"),
        "dropout": (0.0, 0.2),
    }
    assert all(one.known for one in explained.departures)
    lines = list(explained.lines())
    assert "departs from the paper's resnet-50 ([1] table 1):" in lines
    assert any(line.startswith('  shortcut: "B" there, "A-both" here; half of the zero channels') for line in lines)
    assert "as in the paper" in explain(find("resnet-20").spec()).lines()


def test_a_description_of_an_earlier_release_still_opens():
    old = {
        "channels": 1, "classes": 10, "depths": [1, 1, 1], "dropout": 0.0, "initialisation": "he-fan-in",
        "name": "resnet-8", "norm_eps": 1e-05, "norm_momentum": 0.1, "shortcut": "A", "stem": "3x3", "unit": "basic",
        "widths": [2, 2, 2], "zero_last_scale": False,
    }  # fmt: skip
    expected = resolve(NetworkSettings(name="resnet-8", widths=(2, 2, 2)), classes=10, channels=1)
    assert NetworkSpec.model_validate(old) == expected
