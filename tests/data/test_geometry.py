"""Resize mode, interpolation and sizes: what they do to pixels, and that they go with the model wherever it is used."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual.data.encoded import Encoded, opened
from residual.data.folder import Wishes, open_folder
from residual.data.geometry import USUAL, Geometry
from residual.data.images import cover, fit, fitted, read_image, to_tensor
from residual.data.preprocessing import Preprocessing, measure
from residual.data.source import FileSource, everything
from residual.errors import ModelError
from residual.models.interchange.beside import labels_beside, sight_beside
from tests.data.photographs import encoded, photographs, picture

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def smooth(width: int, height: int) -> Image.Image:
    """A photograph in little: waves that no side of this test resolves badly."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (9 + c) + c) + np.cos(y / (7 + c)) for c in range(3)]
    return Image.fromarray((127 + 60 * np.stack(waves, -1)).clip(0, 255).astype(np.uint8))


def made(image: Image.Image, size: tuple[int, int], geometry: Geometry) -> torch.Tensor:
    with opened(encoded(image), "x") as found:
        return fitted(Encoded(found), 3, size, "x", geometry)


def grey_levels(one: torch.Tensor, image: Image.Image) -> int:
    return int(np.abs(one.permute(1, 2, 0).numpy().astype(int) - np.asarray(image).astype(int)).max())


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("shape", [(120, 80), (70, 130), (64, 64)])
def test_each_mode_is_what_pillow_makes_of_it(interpolation, shape):
    image, how = smooth(*shape), PILLOW[interpolation]
    (width, height), most = shape, {"bilinear": 1, "bicubic": 2}[interpolation]
    squashed = made(image, (48, 40), Geometry("squash", interpolation))
    assert grey_levels(squashed, image.resize((40, 48), how)) <= most
    scale = min(48 / height, 40 / width)
    inner = (round(width * scale), round(height * scale))
    padded = Image.new("RGB", (40, 48))
    padded.paste(image.resize(inner, how), ((40 - inner[0]) // 2, (48 - inner[1]) // 2))
    assert grey_levels(made(image, (48, 40), Geometry("pad", interpolation)), padded) <= most
    scale = max(48 / height, 40 / width)
    whole = image.resize((max(40, round(width * scale)), max(48, round(height * scale))), how)
    left, top = (whole.width - 40) // 2, (whole.height - 48) // 2
    cropped = made(image, (48, 40), Geometry("crop", interpolation))
    assert grey_levels(cropped, whole.crop((left, top, left + 40, top + 48))) <= most


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_a_share_is_the_centre_of_a_larger_image(resize):
    image = smooth(120, 80)
    larger = made(image, (56, 56), Geometry(resize))
    assert torch.equal(made(image, (49, 49), Geometry(resize, share=0.875)), larger[:, 3:52, 3:52])


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (33, 32), (31, 32)])
def test_every_shape_is_brought_to_the_size(resize, shape):
    assert made(picture(1, 1, shape), (32, 32), Geometry(resize)).shape == (3, 32, 32)


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_a_large_jpeg_is_never_decoded_below_what_is_needed(resize):
    data = encoded(smooth(640, 320), "JPEG", quality=95)
    with opened(data, "x") as image:
        picture = Encoded(image)
        found = fitted(picture, 3, (64, 64), "x", Geometry(resize))
        assert picture.image.size == ((80, 40) if resize == "pad" else (160, 80))
    whole = made(Image.open(io.BytesIO(data)), (64, 64), Geometry(resize))
    assert (found.int() - whole.int()).abs().float().mean() < 2


def test_the_usual_way_is_the_one_of_before():
    """Pixels planes first in memory, as releases before had them: not one value is another."""
    for number, shape in enumerate([(300, 200), (33, 90), (20, 20), (64, 65), (1, 50)]):
        pixels = np.asarray(picture(number, 1, shape))
        planes = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        for size in ((32, 32), (48, 24)):
            assert torch.equal(cover(to_tensor(pixels), size), cover(planes, size))
            assert torch.equal(made(picture(number, 1, shape), size, USUAL), fit(planes, size))


def test_facts_of_the_usual_are_as_they_were_and_others_come_back():
    constants = (torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    plain = Preprocessing((224, 224), 3, "mean-std", *constants)
    assert plain.facts() == {
        "image_size": [224, 224],
        "channels": 3,
        "normalisation": "mean-std",
        "resize": "shorter side to the image size, bilinear with antialiasing, then the centre",
    }
    other = plain.of(Geometry("pad", "bicubic", 0.9), (256, 256))
    assert (other.image_size, other.train_size, other.geometry) == ((256, 256), (224, 224), ("pad", "bicubic", 0.9))
    for one in (plain, other):
        again = Preprocessing.restore(json.loads(json.dumps(one.facts())), one.tensors())
        assert again.facts() == one.facts()
        assert (again.geometry, again.train_size) == (one.geometry, one.train_size)
    for name, value in (("mode", "stretch"), ("interpolation", 3), ("train_size", [0, 1]), ("train_size", [1])):
        with pytest.raises((ValueError, IndexError)):
            Preprocessing.restore(other.facts() | {name: value}, other.tensors())


def test_a_folder_is_read_and_judged_in_the_geometry_asked_for(tmp_path):
    root = photographs(tmp_path / "photos", count=3)
    wishes = Wishes(image_size=32, test_size=40, resize="pad", interpolation="bicubic", crop=0.8)
    dataset = open_folder(root, wishes)
    numbers = everything(dataset.train)
    constants = measure(dataset.train, numbers, "per-pixel-mean")
    sight = constants.of(dataset.geometry, dataset.test_size)
    assert (sight.image_size, sight.mean.shape, sight.train_size) == ((40, 40), (3, 40, 40), (32, 32))
    assert dataset.held is dataset.seen
    for source, side in ((dataset.train, 32), (dataset.held, 40)):
        assert isinstance(source, FileSource)
        pixels = source.read(numbers)
        assert pixels.shape[2:] == (side, side)
        for name, image in zip(source.names(numbers), pixels, strict=True):
            assert torch.equal(image, read_image(root / name, sight.with_size((side, side))))
    assert open_folder(root, Wishes(image_size=32, test_size=32)).seen is None


def test_what_a_description_beside_weights_says(tmp_path):
    weights, path = tmp_path / "model.safetensors", tmp_path / "config.json"
    assert sight_beside(weights) is None
    cfg = {
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "test_crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    path.write_text(json.dumps({"architecture": "resnet50", "pretrained_cfg": cfg}))
    found = sight_beside(weights)
    assert found is not None
    assert (found.image_size, found.trained, found.crop, found.interpolation) == (288, 224, 1.0, "bicubic")
    for side, share, larger in ((224, 0.95, 235), (224, 0.875, 256), (288, 0.95, 303), (256, 0.94, 272)):
        whole = cfg | {"test_input_size": [3, side, side], "test_crop_pct": share}
        path.write_text(json.dumps({"pretrained_cfg": whole}))
        found = sight_beside(weights)
        assert found is not None
        assert Geometry(share=found.crop).around((side, side)) == (larger, larger)  # rounded down, as timm does
    path.write_text(json.dumps({"model_type": "another"}))
    assert sight_beside(weights) is None
    broken = [
        cfg | {"interpolation": "lanczos"},
        cfg | {"test_crop_pct": 3},
        cfg | {"std": [0, 1, 1]},
        cfg | {"input_size": [3, 224]},
        {},
    ]
    for table in broken:
        path.write_text(json.dumps({"pretrained_cfg": table}))
        with pytest.raises(ModelError, match="what it says of the images cannot be used"):
            sight_beside(weights)


def test_a_network_with_the_tensors_of_another_is_known_by_its_description(tmp_path):
    weights, path = tmp_path / "model.safetensors", tmp_path / "config.json"
    for name in ("resnetaa50", "resnetaa50d", "seresnetaa50d", "resnetblur50", "ecaresnetaa34d"):
        path.write_text(json.dumps({"architecture": name}))
        with pytest.raises(ModelError, match=f"{name} pools against aliasing"):
            sight_beside(weights)
    for name in ("resnet50", "resnet50d", "resnetv2_50", "wide_resnet50_2", "tv_resnet34"):
        path.write_text(json.dumps({"architecture": name}))
        assert sight_beside(weights) is None
    assert labels_beside(weights) is None
    path.write_text(json.dumps({"label_names": ["cat", "dog"]}))
    assert labels_beside(weights) == ("cat", "dog")
    for odd in (["cat", "cat"], ["cat", 1], ["", "dog"], "cat", []):
        path.write_text(json.dumps({"label_names": odd}))
        assert labels_beside(weights) is None
    path.write_text("{")
    with pytest.raises(ModelError, match="it cannot be read"):
        labels_beside(weights)


def test_it_goes_with_the_model_through_training_evaluation_export_and_import(tmp_path: Path):
    import residual
    from residual.evaluation.classifier import Classifier
    from residual.evaluation.imported import classifier_of
    from residual.export.weights import pack
    from residual.models.interchange.families import bring_in
    from residual.models.interchange.foreign import read_foreign

    root = photographs(tmp_path / "photos", ("cat", "dog"), count=10)
    way = {"data.resize": "squash", "data.interpolation": "bicubic", "data.test_size": 40, "data.crop": 0.9}
    small = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "steps": 2, "data.image_size": 32}
    run = residual.train(str(root), set={**small, **way, "compute.precision": "float32"}, out=tmp_path / "run")
    classifier = Classifier.load(run.model_path)
    sight = classifier.preprocessing
    assert (sight.geometry, sight.image_size, sight.train_size) == (("squash", "bicubic", 0.9), (40, 40), (32, 32))
    result = run.result()
    assert result is not None
    report = residual.evaluate(run.path, device="cpu")
    assert report.evaluation.images == 2
    assert report.evaluation.scores["loss"] == pytest.approx(result["final"]["validation"]["loss"], rel=1e-5)
    names = run.split()["files"]["validation"]
    pixels = torch.stack([read_image(root / name, sight) for name in names])
    shares = classifier.probabilities(pixels)
    for name, share, found in zip(names, shares, residual.predict(run.path, [root / n for n in names]), strict=True):
        assert found.file == str(root / name)
        assert found.best[0][1] == pytest.approx(float(share.max()), abs=1e-6)
    path = tmp_path / "own.safetensors"
    path.write_bytes(pack(classifier, "safetensors"))
    foreign = read_foreign(path)
    again, _ = classifier_of(bring_in(foreign, "auto", path), foreign)
    assert again.preprocessing.facts() == sight.facts()
