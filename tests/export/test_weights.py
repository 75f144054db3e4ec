"""Out by a library's names and in again: the same classifier, bit for bit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from residual.cli.main import run
from residual.data.preprocessing import Preprocessing
from residual.errors import ModelError, UsageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.imported import classifier_of
from residual.export.weights import family_for, pack
from residual.models import NetworkSettings, build, heads, resolve
from residual.models.interchange import timm, torchvision
from residual.models.interchange.families import bring_in
from residual.models.interchange.foreign import Foreign, read_foreign
from residual.sealed import write_folder

WIDTHS = (4, 8, 16, 32)
SMALL: dict[str, Any] = {"widths": WIDTHS, "depths": (1, 2, 1, 1)}


def classifier(name: str, mean_image: bool = False, **parts: Any) -> Classifier:
    spec = resolve(NetworkSettings.model_validate({"name": name, **parts}), 3)
    network = build(spec, 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=torch.Generator().manual_seed(2))
    shape = (3, 32, 24) if mean_image else (3, 1, 1)
    mean = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    kind = "per-pixel-mean" if mean_image else "mean-std"
    sight = Preprocessing((32, 24), 3, kind, mean, torch.full((3, 1, 1), 1 / 3), 0.8)  # type: ignore[arg-type]
    return Classifier(network.eval(), sight, ("cat", "dog", "owl, the great"), {"step": 7, "data": {"name": "folder"}})


MADE: dict[str, tuple[Any, Any]] = {
    "torchvision, of two": ("torchvision", lambda: classifier("resnet-18", shortcut="B", stem="7x7", **SMALL)),
    "torchvision, of three": ("torchvision", lambda: classifier("resnet-50-v1.5", stem="7x7", **SMALL)),
    "timm": ("timm", lambda: classifier("resnet-50-v1.5", stem="7x7", norm_momentum=0.05, **SMALL)),
    "timm, d": ("timm", lambda: classifier("fastbook-resnet50", **SMALL)),
    "timm, v2": ("timm", lambda: classifier("preact-50", stem="7x7", stride="3x3", **SMALL)),
    "timm, v2, first unit": (
        "timm",
        lambda: classifier("preact-18", stem="7x7", first_activation="unit", shortcut="B", **SMALL),
    ),
    "Keras's V2": ("safetensors", lambda: classifier("preact-50-keras", stem="7x7", **SMALL)),
    "any network": ("safetensors", lambda: classifier("preact-20", True, gate="exclusive", widths=(4, 8, 16))),
    "option A": ("safetensors", lambda: classifier("resnet-20", widths=(4, 8, 16))),
}


@pytest.fixture(autouse=True)
def _small_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torchvision.RESNET, "widths", WIDTHS)
    monkeypatch.setattr(timm, "WIDTHS", WIDTHS)


@pytest.mark.parametrize(("target", "make"), MADE.values(), ids=MADE)
@torch.inference_mode()
def test_out_and_in_again_is_the_same(tmp_path, target, make):
    old = make()
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(old, target))
    assert path.read_bytes() == pack(old, target)
    foreign = read_foreign(path)
    for library in ("auto", "safetensors", target):
        brought = bring_in(foreign, library, path)
    new, _ = classifier_of(brought, foreign)
    assert (new.spec, new.class_names) == (old.spec, old.class_names)
    assert new.preprocessing.facts() == old.preprocessing.facts()
    images = torch.randint(0, 256, (5, 3, 32, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    assert torch.equal(new.preprocessing.normalise(images), old.preprocessing.normalise(images))
    x = old.preprocessing.normalise(images)
    assert torch.equal(new.network(x), old.network(x))
    assert old.network(x).std() > 0.01
    assert (new.provenance["step"], new.provenance["data"]) == (
        7,
        {"name": "folder", "origin": "the images its weights were trained on", "checksums": {}},
    )
    assert new.provenance["imported"]["file"] == "x.safetensors"
    assert Classifier.unpack(new.pack(), "here").class_names == old.class_names


@torch.inference_mode()
def test_a_plain_dictionary_for_torch(tmp_path):
    old = MADE["torchvision, of three"][1]()
    (tmp_path / "x.pth").write_bytes(pack(old, "torchvision", plain=True))
    tensors = torch.load(tmp_path / "x.pth", weights_only=True)
    assert tensors["layer2.0.downsample.0.weight"].shape == (32, 16, 1, 1)
    foreign = read_foreign(tmp_path / "x.pth")
    new, said = classifier_of(bring_in(foreign, "auto", "x"), foreign)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    assert torch.equal(new.network(x), old.network(x))
    assert new.class_names == ("class 0", "class 1", "class 2")
    assert "classes: not known, numbered; --classes names them" in said
    assert (new.preprocessing.image_size, new.preprocessing.crop) == ((224, 224), 224 / 256)


@pytest.mark.parametrize(
    ("name", "parts", "target", "reason"),
    [
        ("resnet-50", {}, "torchvision", "stride is 1x1 and torchvision has 3x3"),
        ("resnet-18", {}, "timm", "shortcut is A and timm has B"),
        ("resnet-20", {}, "torchvision", "stem is 3x3"),
        ("preact-18", {}, "timm", "unit is basic"),
        ("preact-50-keras", {}, "timm", "norm_eps is 1.001e-05"),
        ("fastbook-resnet50", {"shortcut": "B"}, "timm", "shortcut is B and timm has avgpool"),
        ("vgg-16", {"norm": "batch", "conv_bias": False}, "torchvision", "conv_bias is false"),
    ],
)
def test_a_network_it_has_not_is_refused_with_the_part(name, parts, target, reason):
    spec = resolve(NetworkSettings.model_validate({"name": name, **parts}), 1000)
    with pytest.raises(ModelError) as caught:
        family_for(spec, target)
    assert f"{target} has no network like {name}" in str(caught.value)
    assert reason in str(caught.value)
    assert "export it as safetensors" in str(caught.value)
    assert family_for(spec, "safetensors").name == "safetensors"


def test_a_description_that_does_not_fit_is_refused(tmp_path):
    import json

    import safetensors.torch

    old = MADE["option A"][1]()
    data = pack(old, "safetensors")
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.loads(json.loads(data[8:end])["__metadata__"]["residual"])
    tensors = safetensors.torch.load(data)

    def attempt(**changes: Any) -> str:
        path = Path(tmp_path / "x.safetensors")
        path.write_bytes(safetensors.torch.save(tensors, {"residual": json.dumps({**text, **changes})}))
        foreign = read_foreign(path)
        with pytest.raises(ModelError) as caught:
            classifier_of(bring_in(foreign, "auto", "x"), foreign)
        return str(caught.value)

    assert "2 class names for 3 classes" in attempt(class_names=["a", "b"])
    assert "description cannot be used" in attempt(class_names="abc")
    assert "description cannot be used" in attempt(constants={"mean": [[[float(9)]]], "std": "x"})
    for crop in (0, 1.5, True, "x"):
        assert "description cannot be used" in attempt(preprocessing={**text["preprocessing"], "crop": crop})
    assert "description cannot be used" in attempt(network={**text["network"], "depths": [0]})
    assert "stages.0.3.conv1.weight is missing" in attempt(network={**text["network"], "depths": [4, 3, 3]})
    assert "the file has the names of nobody" in attempt(names="nobody")
    assert "names or provenance" in attempt(provenance=[])


@pytest.mark.parametrize("origin", ["/home/anna/photos", "/Users/anna/photos", r"C:\Users\anna\photos"])
def test_home_folders_are_not_handed_on(origin, tmp_path):
    old = MADE["option A"][1]()
    old.provenance |= {"data": {"name": "folder", "origin": origin, "checksums": {}}, "start": {"weights": origin}}
    data = pack(old, "safetensors")
    assert b"anna" not in data
    assert old.provenance["data"]["origin"] == origin
    (tmp_path / "x.safetensors").write_bytes(data)
    assert read_foreign(tmp_path / "x.safetensors").metadata["residual"].count("~") == 2


def test_a_dictionary_of_tensors_says_what_it_lacks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "net", MADE["torchvision, of two"][1]().pack(), "model", {})
    assert run(["export", "net", "--to", "torchvision", "--out", "x.pth"]) == 0
    said = capsys.readouterr().out
    assert "without  image size, constants and names of classes" in said
    assert "residual import" not in said
    assert run(["export", "net", "--to", "torchvision", "--out", "x.safetensors"]) == 0
    assert "residual import x.safetensors" in capsys.readouterr().out


@torch.inference_mode()
def test_a_vgg_that_pools_otherwise_than_torchvision_goes_there_for_even_sides_alone(monkeypatch):
    monkeypatch.setattr(heads, "_HIDDEN", 8)
    network = build(resolve("vgg-16", 2)).eval()

    def sight(height: int, width: int) -> dict[str, Any]:
        return {"image_size": (height, width), "mean": [0.5] * 3, "std": [0.5] * 3}

    for size in ((100, 96), (96, 33)):
        with pytest.raises(ModelError, match=r"sides of 32, 64, \.\.\. are answered alike") as caught:
            pack(Classifier.of(network, ["a", "b"], **sight(*size)), "torchvision")
        assert f"images of {size[0]} x {size[1]} pixels have such sides" in str(caught.value)
        assert pack(Classifier.of(network, ["a", "b"], **sight(*size)), "safetensors")
    data = pack(Classifier.of(network, ["a", "b"], **sight(96, 32)), "torchvision", plain=True)
    theirs = bring_in(Foreign(torch.load(io.BytesIO(data), weights_only=True), "made"), "auto", "here").network
    assert (network.spec.pool_rounding, theirs.spec.pool_rounding) == ("up", "down")
    even, odd = torch.randn(1, 3, 96, 64), torch.randn(1, 3, 100, 33)
    assert torch.equal(theirs(even), network(even))
    assert not torch.equal(theirs(odd), network(odd))
    assert pack(Classifier.of(theirs, ["a", "b"], **sight(100, 33)), "torchvision")  # is as it was there
    with pytest.raises(ModelError, match="take images of at least 32 pixels a side"):
        Classifier.of(theirs, ["a", "b"], **sight(31, 40))
    with pytest.raises(UsageError, match="choose at least 32"):
        resolve(NetworkSettings(name="vgg-16", pool_rounding="down"), 10, image_size=31)
