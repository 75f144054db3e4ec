"""Weights of Hugging Face Transformers, with the files that stand beside them on its hub; and out to it again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import residual
from residual.cli.main import run
from residual.data.geometry import Geometry
from residual.errors import ModelError, UsageError
from residual.evaluation.bringing import bring, is_weights
from residual.evaluation.classifier import Classifier
from residual.models.interchange.beside import labels_beside, sight_beside
from tests.models.interchange import hub
from tests.models.interchange.layouts import Layers, State
from tests.models.interchange.test_mappings import close, images

STATE = hub.make((1, 2, 1, 1), (4, 8, 16, 32), True, 3)
NAMES = {"0": "cat", "1": "dog", "2": "owl, the great"}


def publish(
    folder: Path, state: State, processor: dict[str, Any] | None = None, config: dict[str, Any] | None = None
) -> Path:
    """A folder as the hub has it; the path of its weights."""
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hub.CONFIG | {"id2label": NAMES} | (config or {})))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor or hub.PROCESSOR))
    return folder / "model.safetensors"


@pytest.mark.parametrize("inner", [False, True])
@torch.no_grad()
def test_the_stride_of_a_bottleneck_is_where_its_config_says(tmp_path, inner):
    path = publish(tmp_path / "net", STATE, config={"downsample_in_bottleneck": inner})
    found = residual.import_weights(path)
    assert found.spec.stride == ("1x1" if inner else "3x3")
    assert found.class_names == tuple(NAMES.values())
    for training in (False, True):
        expected = hub.answer(Layers(STATE, training), images(), inner)
        assert close(found.network.train(training)(images()), expected)
        assert not close(hub.answer(Layers(STATE, training), images(), not inner), expected)


def test_what_is_told_beside_the_weights_is_not_assumed(tmp_path, caplog):
    caplog.set_level("INFO")
    path = publish(tmp_path / "net", STATE)
    remarks = residual.import_weights(path).provenance["imported"]["report"]["remarks"]
    assert "bottlenecks have their stride in the 3x3, as the config.json beside the weights says" in remarks
    (tmp_path / "net" / "config.json").unlink()
    remarks = residual.import_weights(path).provenance["imported"]["report"]["remarks"]
    assert "the tensors do not tell: bottlenecks have their stride in the 3x3" in remarks
    assert "recognised by its names: Transformers (Hugging Face)" in remarks


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        ({"downsample_in_first_stage": True}, "its first stage has stride 2 after the pooling"),
    ],
)
def test_a_network_that_is_not_here_is_refused(tmp_path, config, words):
    with pytest.raises(ModelError, match=words):
        residual.import_weights(publish(tmp_path / "net", STATE, config=config))


def test_a_network_without_its_last_layer_is_told_as_that(tmp_path):
    headless = {name: own for name, own in STATE.items() if not name.startswith("classifier.")}
    for state in (headless, {name.removeprefix("resnet."): own for name, own in headless.items()}):
        with pytest.raises(ModelError, match=r"a network without its last layer, classifier\.1\.weight"):
            residual.import_weights(publish(tmp_path / "net", state))


def test_timms_networks_in_transformers_lose_their_prefix(tmp_path):
    from tests.models.interchange.layouts import make_resnet

    state = {f"timm_model.{name}": own for name, own in make_resnet((1, 1, 1, 1), (4, 8, 16, 32), False, 3).items()}
    found = residual.import_weights(publish(tmp_path / "net", state, config={"model_type": "timm_wrapper"}))
    assert (found.spec.depths, found.class_names) == ((1, 1, 1, 1), tuple(NAMES.values()))


P = hub.PROCESSOR
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
SIGHTS: dict[str, tuple[dict[str, Any], tuple[int, Geometry, tuple[int, int]]]] = {
    "ConvNeXT's": (P, (224, Geometry("crop", "bicubic", 0.875), (256, 256))),
    "rounded down": (P | {"crop_pct": 0.95}, (224, Geometry("crop", "bicubic", 224 / 235), (235, 235))),
    "of before": (
        {k: v for k, v in P.items() if k != "image_processor_type"}
        | {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "resample": 2},
        (224, Geometry("crop", "bilinear", 0.875), (256, 256)),
    ),
    "stretched": (P | {"size": {"shortest_edge": 384}}, (384, Geometry("squash", "bicubic"), (384, 384))),
    "ViT's": (
        P | {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 96, "width": 96}, "resample": 2},
        (96, Geometry("squash", "bilinear"), (96, 96)),
    ),
    "BiT's": (
        P
        | {
            "image_processor_type": "BitImageProcessor",
            "size": {"shortest_edge": 80},
            "crop_size": {"height": 64, "width": 64},
        },
        (64, Geometry("crop", "bicubic", 0.8), (80, 80)),
    ),
    "BiT's stretched": (
        P
        | {
            "image_processor_type": "BitImageProcessor",
            "size": {"height": 80, "width": 80},
            "crop_size": {"height": 64, "width": 64},
        },
        (64, Geometry("squash", "bicubic", 0.8), (80, 80)),
    ),
    "uncut": (
        P | {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 80}, "do_center_crop": False},
        (80, Geometry("crop", "bicubic"), (80, 80)),
    ),
}


@pytest.mark.parametrize(("processor", "expected"), SIGHTS.values(), ids=SIGHTS)
def test_images_are_prepared_as_its_processor_says(tmp_path, processor, expected):
    side, geometry, around = expected
    found = residual.import_weights(publish(tmp_path / "net", STATE, processor | HALVES)).preprocessing
    assert (found.image_size, found.geometry) == ((side, side), geometry)
    assert found.geometry.around((side, side)) == around
    assert (found.mean.flatten().tolist(), found.std.flatten().tolist()) == ([0.5] * 3, [0.25] * 3)


def test_unnormalised_pixels(tmp_path):
    found = residual.import_weights(publish(tmp_path / "net", STATE, P | {"do_normalize": False})).preprocessing
    assert (found.mean.flatten().tolist(), found.std.flatten().tolist()) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    "change",
    [
        {"image_processor_type": "DeiTImageProcessor"},
        {"do_resize": False},
        {"do_rescale": False},
        {"rescale_factor": 1.0},
        {"rescale_factor": "x"},
        {"resample": 0},
        {"size": {"longest_edge": 224}},
        {"size": {"shortest_edge": True}},
        {"size": [224, 224]},
        {"crop_pct": 0},
        {"crop_pct": 1.5},
        {"image_std": [0, 1, 1]},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": None},
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 192}},
        {"image_processor_type": "BitImageProcessor", "crop_size": {"height": 448, "width": 448}},
    ],
    ids=str,
)
def test_a_processor_that_cannot_be_followed_is_named(tmp_path, change):
    path = publish(tmp_path / "net", STATE, P | change)
    with pytest.raises(ModelError, match="what it says of the images cannot be used") as caught:
        residual.import_weights(path)
    assert "preprocessor_config.json" in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
        {"0": "cat", "1": "cat", "2": "dog"},
        {"0": "cat", "2": "dog", "3": "owl"},
        {"0": "cat", "1": 5, "2": "owl"},
        ["cat", "dog", "owl"],
        {},
    ],
    ids=str,
)
def test_labels_that_name_no_classes(tmp_path, labels):
    path = publish(tmp_path / "net", STATE, config={"id2label": labels})
    assert labels_beside(path) is None
    assert residual.import_weights(path).class_names == ("class 0", "class 1", "class 2")


def classifier(**sight: Any) -> Classifier:
    parts: dict[str, Any] = {"stem": "7x7", "widths": (4, 8, 16, 32), "depths": (1, 2, 1, 1)}
    network = residual.build("resnet-50-v1.5", 3, seed=3, **parts).eval()
    found = Classifier.of(network, list(NAMES.values()), image_size=64, mean=[0.5, 0.4, 0.3], std=[0.25] * 3)
    return replace(found, preprocessing=replace(found.preprocessing, **sight))


@pytest.mark.parametrize(
    ("sight", "kind", "way"),
    [
        ({"crop": 0.8}, "BitImageProcessor", {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}}),
        ({"resize": "squash"}, "ViTImageProcessor", {"size": {"height": 64, "width": 64}}),
        ({"interpolation": "bicubic"}, "BitImageProcessor", {"size": {"shortest_edge": 64}, "resample": 3}),
        (
            {"resize": "squash", "crop": 0.8, "image_size": (64, 48)},
            "BitImageProcessor",
            {"size": {"height": 80, "width": 60}, "crop_size": {"height": 64, "width": 48}},
        ),
    ],
)
@torch.no_grad()
def test_a_folder_for_transformers(tmp_path, monkeypatch, sight, kind, way):
    monkeypatch.chdir(tmp_path)
    own = classifier(**sight)
    made = residual.export_model(own, to="transformers")
    assert made.path == Path("resnet-50-v1.5-transformers")
    assert {file.name for file in made.path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert made.size == sum(file.stat().st_size for file in made.path.iterdir())
    config = json.loads((made.path / "config.json").read_text())
    assert (config["model_type"], config["layer_type"], config["id2label"]) == ("resnet", "bottleneck", NAMES)
    assert (config["embedding_size"], config["hidden_sizes"]) == (4, [16, 32, 64, 128])
    assert (config["depths"], config["downsample_in_bottleneck"]) == ([1, 2, 1, 1], False)
    processor = json.loads((made.path / "preprocessor_config.json").read_text())
    assert processor["image_processor_type"] == kind
    assert {name: processor[name] for name in way} == way
    assert processor["image_mean"] == pytest.approx([0.5, 0.4, 0.3])
    state = safetensors.torch.load_file(made.path / "model.safetensors")
    assert close(hub.answer(Layers(state), images()), own.network(images()))
    back = residual.import_weights(made.path / "model.safetensors")
    assert (back.spec, back.preprocessing.facts()) == (own.spec, own.preprocessing.facts())
    assert back.class_names == own.class_names


def test_a_folder_that_lost_its_description_is_still_the_same_network(tmp_path):
    for unit, parts in (("bottleneck", {"stride": "1x1"}), ("basic", {"unit": "basic", "stride": "1x1"})):
        spec = classifier().spec.model_copy(update=parts)
        network = residual.build(spec.name, 3, **spec.model_dump(exclude={"name", "classes"}))
        own = Classifier.of(network, ["a", "b", "c"], image_size=(64, 64), mean=[0.5] * 3, std=[0.25] * 3)
        made = residual.export_model(own, tmp_path / unit, to="transformers")
        path = made.path / "model.safetensors"
        safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"format": "pt"})
        back = residual.import_weights(path)
        assert (back.spec.unit, back.spec.stride, back.spec.depths) == (unit, "1x1", (1, 2, 1, 1))
        assert back.preprocessing.facts() == own.preprocessing.facts()
        assert back.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("sight", "fault"),
    [
        ({"resize": "pad"}, "they are padded"),
        ({"image_size": (64, 48)}, "they are of 64 x 48 pixels"),
        ({"normalisation": "per-pixel-mean", "mean": torch.zeros(3, 64, 64)}, "a mean image is taken from them"),
    ],
)
def test_images_that_no_processor_there_prepares_are_told(tmp_path, sight, fault):
    with pytest.raises(ModelError, match=re.escape(fault)):
        residual.export_model(classifier(**sight), tmp_path / "out", to="transformers")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_made_and_not_a_file(tmp_path):
    with pytest.raises(UsageError, match="a folder is made, not a file"):
        residual.export_model(classifier(), tmp_path / "x.safetensors", to="transformers")
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="something stands there already"):
        residual.export_model(classifier(), tmp_path / "there", to="transformers")
    own = residual.build("resnet-20", 3, widths=(4, 8, 16)).eval()
    found = Classifier.of(own, ["a", "b", "c"], image_size=(32, 32), mean=[0.5] * 3, std=[0.25] * 3)
    with pytest.raises(ModelError, match="transformers has no network like resnet-20: stem is 3x3"):
        residual.export_model(found, tmp_path / "out", to="transformers")


def test_nothing_beside_the_weights_says_nothing(tmp_path):
    path = publish(tmp_path / "net", STATE)
    assert sight_beside(path) is not None
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / "net" / name).unlink()
    assert (sight_beside(path), labels_beside(path)) == (None, None)
    found = residual.import_weights(path).preprocessing
    assert (found.image_size, found.geometry) == ((224, 224), Geometry("crop", "bicubic", 0.875))


def test_a_folder_of_the_hub_is_taken_as_its_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    publish(tmp_path / "net", STATE)
    assert residual.import_weights("net").class_names == tuple(NAMES.values())
    assert bring("net").facts["weights"] == "net"
    assert run(["import", "net", "--to", "made"]) == 0
    assert "network  resnet-50-v1.5, 3 classes" in capsys.readouterr().out
    with pytest.raises(ModelError, match="residual import net --to net-model"):
        residual.load("net")
    (tmp_path / "made" / "config.json").write_text("{}")  # a model of ours with one file more stays one of ours
    assert not is_weights("made")
    torch.save(STATE, tmp_path / "net" / "pytorch_model.bin")
    (tmp_path / "net" / "model.safetensors").unlink()
    assert residual.import_weights("net").provenance["imported"]["file"] == "pytorch_model.bin"


def test_an_uncut_image_is_said_to_be_cut(tmp_path):
    said: list[str] = []
    bit = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 80}, "do_center_crop": False}
    from residual.evaluation.bringing import Asked, import_file

    for change in (bit, bit | {"do_center_crop": True, "crop_size": 64}):
        found = import_file(str(publish(tmp_path / f"net-{len(said)}", STATE, P | change)), Asked())
        said.append(" ".join([*found.said, *found.brought.report.remarks]))
    assert ["a centre cut from what it leaves whole" in words for words in said] == [True, False]


def test_a_file_that_describes_itself_does_not_mind_what_lies_beside_it(tmp_path):
    made = residual.export_model(classifier(), tmp_path / "own.safetensors", to="safetensors")
    (tmp_path / "config.json").write_text("// no JSON")
    assert residual.import_weights(made.path).spec == classifier().spec
