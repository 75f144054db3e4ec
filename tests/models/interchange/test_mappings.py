"""Foreign weights give the foreign answers: every family against a plain function of its own tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from residual.errors import ModelError
from residual.models import NetworkSettings, NetworkSpec, build, find, heads, resolve
from residual.models.interchange.conversion import convert, rename
from residual.models.interchange.families import FAMILIES, LIBRARIES, Library, bring_in, detect
from residual.models.interchange.foreign import Foreign, read_foreign
from residual.models.networks import outline
from tests.models.interchange import hub, layouts
from tests.models.interchange.layouts import Layers, State

WIDTHS = (4, 8, 16, 32)
Answer = Callable[[Layers, Tensor], Tensor]

MADE: dict[str, tuple[Library, State, Answer]] = {
    "resnet of two": ("torchvision", layouts.make_resnet((1, 2, 1, 1), WIDTHS, False, 7), layouts.resnet),
    "resnet of three": ("torchvision", layouts.make_resnet((1, 2, 1, 1), WIDTHS, True, 7), layouts.resnet),
    "timm's plain": ("timm", layouts.make_resnet((2, 1, 1, 1), WIDTHS, True, 3), layouts.resnet),
    "timm's d of two": ("timm", layouts.make_resnet((1, 1, 2, 1), WIDTHS, False, 7, "d"), layouts.resnet_d),
    "timm's d of three": ("timm", layouts.make_resnet((1, 2, 1, 1), WIDTHS, True, 7, "d"), layouts.resnet_d),
    "timm's v2": ("timm", layouts.make_v2((1, 2, 1, 1), WIDTHS, 7), layouts.resnet_v2),
    "timm's v2 of two": ("timm", layouts.make_v2((1, 2, 1, 1), WIDTHS, 7, False), layouts.resnet_v2),
    "Transformers', of two": ("transformers", hub.make((1, 2, 1, 1), WIDTHS, False, 7), hub.answer),
    "Transformers', of three": ("transformers", hub.make((1, 2, 1, 1), WIDTHS, True, 7), hub.answer),
    "cifar, option A": ("cifar", layouts.make_resnet((2, 2, 1), (4, 8, 16), False, 10, "cifar"), layouts.cifar),
    "cifar, four stages": ("cifar", layouts.make_resnet((1, 2, 1, 1), WIDTHS, True, 10, "cifar-b"), layouts.cifar_b),
}
EVERY = pytest.mark.parametrize(("library", "state", "answer"), MADE.values(), ids=MADE)


def images(count: int = 20, side: int = 37) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def foreign(state: State, **more: Any) -> Foreign:
    return Foreign(dict(state), "made", **more)


def close(found: Tensor, expected: Tensor) -> bool:
    """Within 1e-5 of the largest logit."""
    return float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@EVERY
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@torch.no_grad()
def test_same_weights_same_logits(library, state, answer, training):
    network, report, *_ = bring_in(foreign(state), library, "here")
    assert not network.training
    expected = answer(Layers(state, training), images())
    assert expected.std() > 0.01
    assert close(network.train(training)(images()), expected)
    assert (len(report.matched) + len(report.converted), report.missing) == (len(state), ())


@EVERY
def test_out_again_it_is_the_same_file(library, state, answer):
    network, report, *_ = bring_in(foreign(state), library, "here")
    back = rename(network, _open(FAMILIES[report.family]))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def _open(family: Any) -> Any:
    """The family without its rule on widths, so that small networks can be named."""
    from dataclasses import replace

    return replace(family, refusal=lambda _: "")


@EVERY
def test_auto_finds_the_library(library, state, answer):
    family, said = detect(foreign(state), "auto", "here")
    alike = library == "timm" and family.name == "torchvision"
    assert alike or family in LIBRARIES[library]
    assert said
    assert ("timm names these tensors alike" in said[0]) == (family.name == "torchvision")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet of two", ""),
        ("resnet of three", "stride in the 3x3"),
        ("timm's plain", "stride in the 3x3"),
        ("timm's d of two", "no pooling against aliasing"),
        ("cifar, option A", "zero channels on both sides"),
        ("cifar, four stages", "stride in the 3x3"),
    ],
)
def test_what_the_tensors_do_not_tell_is_said(name, words):
    library, state, _ = MADE[name]
    said = [line for line in bring_in(foreign(state), library, "here").report.remarks if "do not tell" in line]
    assert bool(said) == bool(words)
    assert words in "".join(said)


@pytest.mark.parametrize("normal", [False, True])
@torch.no_grad()
def test_vgg(normal, monkeypatch):
    monkeypatch.setattr(heads, "_HIDDEN", 32)
    state = layouts.make_vgg((2, 2, 3, 3, 3), 5, normal, 32)
    network, report, *_ = bring_in(foreign(state), "auto", "here")
    norm = "batch" if normal else "none"
    assert (report.family, network.spec.name, network.spec.norm) == ("torchvision-vgg", "vgg-16", norm)
    for side in (64, 77):  # whose half, 38.5, torchvision rounds down
        assert close(network(images(2, side)), layouts.vgg(Layers(state), images(2, side)))
    assert "leaves out the last pixel" in "".join(report.remarks)
    assert rename(network, _open(FAMILIES[report.family])).keys() == state.keys()


KERAS: dict[str, tuple[State, Callable[[State, Tensor], Tensor], str, str]] = {
    # Kernels of images that are BGR, and of RGB.
    "keras": (
        layouts.make_keras((1, 2, 1, 1), WIDTHS, 7),
        layouts.keras,
        "resnet-50-keras",
        "HWIO to OIHW, BGR to RGB",
    ),
    "keras-v2": (layouts.make_keras_v2((2, 4, 3, 2), WIDTHS, 7), layouts.keras_v2, "preact-50-keras", "HWIO to OIHW"),
}


@pytest.mark.parametrize("family", KERAS)
@torch.no_grad()
def test_keras_sees_its_pixels_and_this_program_its_own(family):
    state, answer, name, change = KERAS[family]
    network, report, sight, _ = bring_in(foreign(state), "auto", "here")
    assert (report.family, network.spec.name, network.spec.norm_eps) == (family, name, 1.001e-5)
    assert dict(report.converted)["conv1_conv/kernel"] == change
    pixels = torch.randint(0, 256, (20, 41, 50, 3), generator=torch.Generator().manual_seed(2)).float()
    assert sight is not None
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (sight.mean, sight.std))
    found = network((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    expected = answer(state, pixels)
    assert expected.std() > 0.01
    # The constants are divided by 255 and multiplied again, which costs the last digits.
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    back = rename(network, _open(FAMILIES[family]))
    assert back.keys() >= state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("part", ["stride_unit", "first_activation", "pool_padding", "stride", "norm_eps"])
@torch.no_grad()
def test_every_part_of_keras_v2_counts(part):
    """With one part as other networks have it, the same weights give other answers."""
    network = bring_in(foreign(KERAS["keras-v2"][0]), "auto", "here").network
    value = {"stride_unit": "first", "first_activation": "stem", "stride": "1x1", "norm_eps": 0.1}.get(part, "lowest")
    changed = {part: value, **({"pool_padding": "lowest"} if part == "first_activation" else {})}
    other = build(NetworkSpec.model_validate({**network.spec.model_dump(), **changed}))
    other.load_state_dict(network.state_dict(), strict=part not in ("stride_unit", "first_activation"))
    x = images(4, 41)
    assert not torch.allclose(other.eval()(x), network(x), rtol=1e-3)


# The networks with names: full size, on the meta device.

NAMED = {
    "torchvision": [f"resnet-{n}" for n in (18, 34)] + [f"resnet-{n}-v1.5" for n in (50, 101, 152, 200)],
    "torchvision-vgg": ["vgg-16", "vgg-19"],
    "timm": ["resnet-18", "resnet-50-v1.5"],
    "timm-d": ["fastbook-resnet50"],
    "transformers": ["resnet-18", "resnet-34", "resnet-50-v1.5", "resnet-152-v1.5"],
    "cifar": [f"resnet-{n}" for n in (20, 32, 44, 56, 110)] + ["resnet-50-cifarstem"],
    "keras": [f"resnet-{n}-keras" for n in (50, 101, 152)],
    "keras-v2": [f"preact-{n}-keras" for n in (50, 101, 152)],
    "safetensors": ["preact-110", "plain-20", "preact-18"],
}


def spec_of(family: str, name: str) -> NetworkSpec:
    shortcut = "A-both" if family == "cifar" and find(name).shortcuts[0] == "A" else None
    wanted = (
        "B"
        if family.startswith(("torchvision", "timm", "transformers")) and find(name).shortcuts[0] == "A"
        else shortcut
    )
    return resolve(NetworkSettings.model_validate({"name": name, "shortcut": wanted}), find(name).classes)


@pytest.mark.parametrize(("family", "name"), [(f, name) for f, names in NAMED.items() for name in names])
def test_a_named_network_is_found_again_by_its_shapes(family, name):
    chosen, spec = FAMILIES[family], spec_of(family, name)
    assert chosen.refusal(spec) == ""
    state, origins = outline(spec).state_dict(), chosen.origins(spec)
    assert origins.keys() == state.keys()
    assert len({origin.name for origin in origins.values()}) == len(origins)
    if family == "safetensors":
        return
    shapes = {
        origin.name: tuple(origin.change.back(state[own]).shape if origin.change else state[own].shape)
        for own, origin in origins.items()
    }
    assert chosen.looks_like(shapes)
    found = chosen.recognise(shapes, "here")
    free = {"zero_last_scale", "dropout", "name", "pool_rounding"}  # no weights tell them
    assert found.model_dump(exclude=free) == spec.model_dump(exclude=free)
    assert found.name == name


@pytest.mark.parametrize(
    ("name", "parts", "reason"),
    [
        ("preact-50", {"stride": "3x3"}, ""),
        ("preact-50", {"stride": "3x3", "first_activation": "unit"}, ""),
        ("preact-18", {"first_activation": "unit"}, ""),
        ("preact-50", {}, "stride is 1x1"),
        ("preact-18", {}, "unit is basic"),
        ("preact-50-keras", {"conv_bias": False, "norm_eps": 1e-5}, "pool_padding is zero"),
    ],
)
def test_preactivation_by_timms_names(name, parts, reason):
    spec = resolve(NetworkSettings.model_validate({"name": name, "stem": "7x7", **parts}), 1000)
    refusal = FAMILIES["timm-v2"].refusal(spec)
    assert reason in refusal
    assert bool(refusal) == bool(reason)


@torch.no_grad()
def test_the_stems_activation_changes_places_with_timms_pooling_unless_a_scale_is_negative():
    spec = resolve(NetworkSettings(name="preact-50", stride="3x3", widths=WIDTHS, depths=(1, 1, 1, 1)), 7)
    network = build(spec).eval()
    state = rename(network, _open(FAMILIES["timm-v2"]))
    assert bring_in(foreign(state), "timm", "here").network.spec.first_activation == "unit"
    assert close(layouts.resnet_v2(Layers(state), images()), network(images()))
    network.get_parameter("stem.norm.weight")[2] = -0.5
    with pytest.raises(ModelError, match="1 scales of the first normalisation are negative"):
        rename(network, _open(FAMILIES["timm-v2"]))


@pytest.mark.parametrize(
    ("family", "name", "parts", "reason"),
    [
        ("torchvision", "resnet-50", {}, "stride is 1x1 and torchvision has 3x3"),
        ("torchvision", "resnet-18", {}, "shortcut is A and torchvision has B"),
        ("torchvision", "resnet-20", {"shortcut": "B"}, "stem is 3x3 and torchvision has 7x7"),
        ("torchvision", "resnet-50-keras", {"stride": "3x3"}, "norm_eps is 1.001e-05"),
        ("torchvision", "resnet-18", {"shortcut": "B", "gate": "exclusive"}, "gate is exclusive"),
        ("torchvision", "resnet-18", {"shortcut": "B", "widths": [8, 16, 32, 64]}, "widths is [8, 16, 32, 64]"),
        ("torchvision-vgg", "vgg-16", {"depths": [1, 1, 1, 1, 1]}, "depths is [1, 1, 1, 1, 1]"),
        ("timm", "preact-50", {}, "order is full-pre-activation"),
        ("keras", "resnet-50", {}, "conv_bias is false"),
        ("cifar", "resnet-20", {}, "shortcut is A"),
    ],
)
def test_what_a_library_has_not_is_refused_with_the_part(family, name, parts, reason):
    spec = resolve(NetworkSettings.model_validate({"name": name, **parts}), 1000)
    assert reason in FAMILIES[family].refusal(spec)
    with pytest.raises(ModelError, match="there is no such network in"):
        rename(outline(spec), FAMILIES[family])


# Names, types and files


def test_the_constants_of_each_library_are_its_own():
    """timm's resnetv2 models have Inception's, all its other ResNets and torchvision's have ImageNet's."""
    for name, (library, state, _) in MADE.items():
        sight = bring_in(foreign(state), library, "here").sight
        assert sight is not None
        half = name.startswith("timm's v2")
        assert (sight.mean == (0.5,) * 3, sight.std == (0.5,) * 3) == (half, half), name


def test_counters_may_be_missing_and_half_numbers_become_whole():
    library, state, _ = MADE["resnet of two"]
    short = {name: t.half() if t.ndim == 4 else t for name, t in state.items() if "num_batches" not in name}
    network, report, *_ = bring_in(foreign(short), library, "here")
    assert len(report.missing) == len(state) - len(short)
    assert network.state_dict()["stem.norm.num_batches_tracked"] == 0
    assert dict(report.converted)["conv1.weight"] == "from float16 to float32"
    assert network.state_dict()["stem.conv.weight"].dtype == torch.float32


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@torch.no_grad()
def test_the_first_convolution_takes_other_channels(channels):
    library, state, _ = MADE["resnet of two"]
    three = bring_in(foreign(state), library, "here").network
    network, report, *_ = bring_in(foreign(state), library, "here", channels)
    assert network.spec.channels == channels
    how = "summed to 1" if channels == 1 else f"repeated and scaled by 3/{channels}"
    assert how in report.remarks[-1]
    assert torch.equal(network.state_dict()["classifier.weight"], three.state_dict()["classifier.weight"])
    grey = images(3)[:, :1]
    if channels in (1, 6):  # an image whose channels are alike is answered as before
        found, expected = network(grey.expand(-1, channels, -1, -1)), three(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def write_torch(path: Path, state: State, **options: Any) -> None:
    torch.save({"state_dict": state, "epoch": 3, "best_prec1": torch.tensor(91.5)}, path, **options)


def write_h5(path: Path, state: State, numbered: bool) -> None:
    """As Keras 3 writes `.weights.h5`, or as Keras 2 wrote `.h5`."""
    h5py = pytest.importorskip("h5py", reason="needs residual[keras]")
    order = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        for layer in dict.fromkeys(name.split("/")[0] for name in state):
            kind = "conv2d" if layer.endswith("_conv") else "batch_normalization" if "_bn" in layer else "dense"
            number = counts[kind] = counts.get(kind, -1) + 1
            group = file.create_group(
                f"layers/{kind}" + (f"_{number}" if number else "") if numbered else f"{layer}/{layer}"
            )
            group = group.create_group("vars") if numbered else group
            if numbered:
                group.attrs["name"] = layer
            for name in [name for name in state if name.startswith(f"{layer}/")]:
                variable = name.split("/")[1]
                group.create_dataset(str(order[variable]) if numbered else f"{variable}:0", data=state[name].numpy())


def write_parameters(path: Path, state: State) -> None:
    torch.save({k: torch.nn.Parameter(t) if t.is_floating_point() else t for k, t in state.items()}, path)


FILES: dict[str, tuple[str, Callable[[Path, State], object]]] = {
    "x.safetensors": ("resnet of two", lambda path, state: safetensors.torch.save_file(state, path)),
    "x.pth": ("resnet of two", write_torch),
    "x.th": ("cifar, option A", lambda path, state: write_torch(path, state, _use_new_zipfile_serialization=False)),
    "x.pth.tar": ("timm's v2", write_parameters),
    "x.weights.h5": ("keras", lambda path, state: write_h5(path, state, True)),
    "x.h5": ("keras", lambda path, state: write_h5(path, state, False)),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_its_tensors(tmp_path, name):
    made, write = FILES[name]
    state = layouts.make_keras((1, 1, 1, 1), WIDTHS, 7) if made == "keras" else MADE[made][1]
    write(tmp_path / name, state)
    found = read_foreign(tmp_path / name)
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[key], tensor) for key, tensor in state.items())
    assert (found.file, len(found.sha256)) == (name, 64)
    assert ("taken: state_dict" in found.remarks) == (name in ("x.pth", "x.th"))
    bring_in(found, "auto", "here")


def test_a_part_is_chosen_among_several(tmp_path):
    state = MADE["resnet of two"][1]
    other = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": other, "epoch": 1}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="the file holds state_dict and state_dict_ema"):
        read_foreign(tmp_path / "x.pth")
    found = read_foreign(tmp_path / "x.pth", "state_dict_ema")
    assert torch.equal(found.tensors["fc.bias"], other["fc.bias"])
    with pytest.raises(ModelError, match=r"no part 'ema' .*: choose one of state_dict, state_dict_ema"):
        read_foreign(tmp_path / "x.pth", "ema")


def test_unlike_and_unknown_names_are_explained():
    state = MADE["resnet of two"][1]
    with pytest.raises(ModelError, match="has not the names of keras, but of torchvision"):
        bring_in(foreign(state), "keras", "here")
    strange = {name.replace("layer", "stage"): tensor for name, tensor in state.items()}
    with pytest.raises(ModelError, match=r"no network known here has these 86 tensors: bn1.*nearest is torchvision"):
        bring_in(foreign(strange), "auto", "here")
    own = {name: t for name, t in build(resolve(NetworkSettings(name="resnet-8"), 10)).state_dict().items()}
    with pytest.raises(ModelError, match="the file does not say which network it is"):
        bring_in(foreign(own), "auto", "here")


def test_the_first_five_differences_are_named():
    state = dict(MADE["resnet of two"][1])
    for name in [name for name in state if name.startswith("bn1")]:
        state[f"other.{name}"] = state.pop(name)
    state["bn1.weight"] = torch.zeros(5)
    with pytest.raises(ModelError) as caught:
        convert(foreign(state), FAMILIES["torchvision"], "here")
    line = str(caught.value)
    assert "(3 missing, 1 mis-shaped, 5 left over) (here): bn1.bias is missing" in line
    assert "bn1.weight has shape [5], not that of stem.norm.weight, [4]" in line
    assert "and 4 more" in line
