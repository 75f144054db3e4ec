"""`residual.build("resnet-20", classes=10)`: a network by its name, with parts, or one line that says what is wrong."""

import numpy as np
import pytest
import torch

import residual
from residual.errors import OutOfMemory, UsageError
from residual.models import NETWORKS, NetworkSettings, build, count, resolve


def same(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_name_gives_the_network_of_the_paper():
    network = residual.build("resnet-20")
    assert same(network, build(NETWORKS["resnet-20"].spec(), seed=0))
    assert network.train()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["ResNet-18", "resnet18", "resnet_18"])
def test_names_are_read_as_people_spell_them(name):
    assert residual.build(name, classes=7).spec.name == "resnet-18"


def test_classes_channels_size_seed_and_parts_are_heeded():
    network = residual.build("resnet-18", 7, channels=1, image_size=32, seed=3, shortcut="A", depths=(1, 1, 1, 1))
    spec = resolve(NetworkSettings(name="resnet-18", shortcut="A", depths=(1, 1, 1, 1)), 7, 1, 32)
    assert spec.stem == "3x3"
    assert same(network, build(spec, seed=3))
    assert not same(network, build(spec, seed=4))


def test_none_is_a_part_where_it_is_a_kind():
    assert residual.build("resnet-8", norm=None, shortcut=None).spec == residual.build(
        NetworkSettings(name="resnet-8", norm="none"), shortcut="none"
    ).spec  # fmt: skip


def test_settings_and_specifications_are_taken():
    settings = NetworkSettings(name="resnet-20", shortcut="B", dropout=0.0)
    spec = resolve(settings, 10)
    assert same(residual.build(settings), residual.build(spec))
    assert residual.build(settings, shortcut="A").spec.shortcut == "A"
    assert count(spec, 32).parameters == sum(p.numel() for p in residual.build(settings).parameters())


@pytest.mark.parametrize(
    ("given", "parts", "words"),
    [
        ("resnet-21", {}, "did you mean"),
        ("resnet-20", {"shortcutt": "A"}, "did you mean shortcut?"),
        ("resnet-20", {"shortcut": "Q", "unit": "bottel"}, "unit is 'bottel': no such kind.*shortcut is 'Q'"),
        ("resnet-20", {"classes": 0}, "classes"),
        ("resnet-20", {"dropout": 2.0}, "dropout is 2.0"),
        ("resnet-20", {"classes": "5"}, "classes is '5': must be a whole number"),
        ("resnet-20", {"classes": 5.0}, "classes is 5.0: must be a whole number"),
        ("resnet-20", {"classes": 1 << 21}, "classes is 2097152: must be less than"),
        ("resnet-20", {"channels": 1 << 21}, "channels is 2097152: must be less than"),
        ("resnet-20", {"widths": (1 << 21, 4, 4)}, r"widths\.0 is 2097152: must be less than or equal to 1048576$"),
        ("resnet-20", {"image_size": 0}, "image_size is 0"),
        ("resnet-20", {"image_size": -4}, "image_size is -4"),
        ("resnet-20", {"image_size": "32"}, "image_size is '32'"),
        ("resnet-20", {"image_size": (32, 32, 3)}, r"or \(height, width\)"),
        ("resnet-20", {"seed": "x"}, "seed is 'x'"),
        (NETWORKS["resnet-20"].spec(), {"seed": 1.5}, "seed is 1.5"),
        (NETWORKS["resnet-20"].spec(), {"classes": 3}, "specification"),
        (NETWORKS["resnet-20"].spec(), {"shortcut": "B"}, "specification"),
    ],
)
def test_what_cannot_be_built_is_one_line(given, parts, words):
    with pytest.raises(UsageError, match=words) as caught:
        residual.build(given, **parts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "ours"),
    [("num_classes", "classes"), ("in_chans", "channels"), ("drop_rate", "dropout"), ("pretrained", "import_weights")],
)
def test_words_of_other_libraries_are_answered_with_ours(part: str, ours: str) -> None:
    with pytest.raises(UsageError, match=f"no such part: {part}; here it is .*{ours}"):
        residual.build("resnet-20", **{part: 5})


def test_what_is_no_name_is_refused_and_a_name_alone_resolves() -> None:
    with pytest.raises(UsageError, match="20 is no name of a network"):
        residual.build(20)  # type: ignore[arg-type]
    assert resolve("resnet20", 5) == resolve(NetworkSettings(name="resnet-20"), 5)


def test_a_network_that_no_memory_holds_is_one_line() -> None:
    for width in (1 << 20, 300_000):
        with pytest.raises(OutOfMemory, match=f"out of memory for the weights of widths .{width}, ") as caught:
            residual.build("resnet-20", widths=(width,) * 3)
        assert "narrower network" in caught.value.remedy


def test_numpys_numbers_are_numbers() -> None:
    network = residual.build("resnet-8", np.int64(3), channels=np.int32(1), seed=np.int64(2))  # type: ignore[arg-type]
    assert same(network, residual.build("resnet-8", 3, channels=1, seed=2))
