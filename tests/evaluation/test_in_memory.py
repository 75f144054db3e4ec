"""A classifier in memory: made by a loop of one's own, saved, judged, asked for arrays, exported, explained."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

import residual
from residual.errors import EnvironmentFault, ModelError, UsageError
from residual.evaluation.classifier import Classifier

RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (9, 20, 20, 3), dtype=np.uint8)
LABELS = np.arange(9) % 3
NAMES = ("ant", "bee", "cat")
CONSTANTS: dict[str, Any] = {"image_size": 16, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}


@pytest.fixture
def classifier() -> Classifier:
    network = residual.build("resnet-8", classes=3, seed=1)
    with torch.no_grad():  # else two layers of normalisation answer nearly the same to all
        network.classifier.weight.mul_(30)
    return Classifier.of(network, NAMES, **CONSTANTS)


def test_saved_it_is_taken_wherever_a_run_is(classifier: Classifier, tmp_path: Path) -> None:
    folder = classifier.save(tmp_path / "model")
    pixels = classifier.prepare(COLOUR)
    again = residual.load(folder)
    assert torch.equal(again.logits(pixels), classifier.logits(pixels))
    assert residual.predict(folder, COLOUR) == residual.predict(classifier, COLOUR) == classifier.predict(COLOUR)
    pack = residual.pack_images(tmp_path / "test.pack", (COLOUR, [NAMES[label] for label in LABELS]))
    judged = [residual.evaluate(place, data=pack) for place in (folder, classifier)]
    assert judged[0].evaluation.scores == judged[1].evaluation.scores
    order = np.argsort(LABELS, kind="stable")
    right = classifier.logits(pixels[torch.from_numpy(order)]).argmax(1).numpy() == LABELS[order]
    assert judged[0].as_dict()["top1"] == right.mean()
    with pytest.raises(UsageError, match="something stands there already"):
        classifier.save(folder)


def test_it_is_judged_on_images_that_are_named_and_on_no_others(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(residual.DataError, match="name the folder of photographs"):
        residual.evaluate(classifier)
    bare = Classifier(classifier.network, classifier.preprocessing, NAMES, {})
    pack = residual.pack_images(tmp_path / "test.pack", (COLOUR, [NAMES[label] for label in LABELS]))
    assert residual.evaluate(bare, data=pack).evaluation.images == 9
    with pytest.raises(UsageError, match="only a run knows its validation images"):
        residual.predict(classifier, COLOUR, temperature="calibrated")


def test_it_is_explained_and_exported(classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classifier.predict(COLOUR[:1])
    assert residual.explain(classifier, COLOUR[:1], top_k=1)[0].maps.shape == (1, 16, 16)
    made = residual.export_model(classifier, to="safetensors")
    assert made.path == Path("resnet-8.safetensors")
    back = residual.import_weights(made.path)
    assert back.class_names == NAMES
    state = classifier.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.network.state_dict().items())


def test_whoever_looks_at_it_leaves_it_as_it_was(classifier: Classifier, tmp_path: Path) -> None:
    network = classifier.network.train()
    network.head.eval()
    pack = residual.pack_images(tmp_path / "test.pack", (COLOUR, [NAMES[label] for label in LABELS]))
    residual.evaluate(classifier, data=pack)
    other = Classifier.of(residual.build("resnet-8", classes=3, seed=2), NAMES, **CONSTANTS)
    both = residual.evaluate_together([classifier, other], data=pack)
    residual.explain(classifier, COLOUR[:1])
    residual.predict(classifier, COLOUR[:1])
    residual.export_model(classifier, tmp_path / "out.onnx", to="onnx", check=2)
    assert network.training
    assert network.stem.training
    assert not network.head.training
    names = [f"resnet-8 (in memory, {number})" for number in (1, 1, 2)]
    assert [pair.first for pair in both.pairs] == names, "each has a name of its own, and is compared with both"


def test_arrays_come_out(classifier: Classifier) -> None:
    pixels = classifier.prepare(COLOUR)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (9, 3, 16, 16))
    features = classifier.embed(pixels)
    assert tuple(features.shape) == (9, 64)
    network = classifier.network
    expected = features @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(classifier.logits(pixels), expected.detach())
    best = classifier.probabilities(pixels).argmax(1).tolist()
    assert [NAMES[number] for number in best] == [one.best[0][0] for one in classifier.predict(COLOUR)]


def test_a_loop_of_ones_own_is_not_disturbed(classifier: Classifier) -> None:
    network = classifier.network.train()
    network.head.eval()  # a part that its owner keeps still
    pixels = classifier.prepare(COLOUR)
    teacher = classifier.logits(pixels)
    assert network.training
    assert not network.head.training
    assert network.stem.training
    assert not teacher.is_inference()
    student = network(classifier.preprocessing.normalise(pixels))
    nn.functional.mse_loss(student, teacher).backward()
    assert network.classifier.weight.grad is not None
    assert not any(weight.is_inference() for weight in network.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.float() / 255, "torch.float32 of"),
        (lambda x: x[0], "torch.uint8 of \\(16, 16\\)"),
        (lambda x: x[:, :1], "torch.uint8 of \\(1, 16, 16\\)"),
        (lambda x: x[:, :, :10], "torch.uint8 of \\(3, 10, 16\\)"),
        (lambda x: x.numpy(), "one is ndarray"),
        (lambda x: list(x[:0]), "there are no images"),
        (lambda x: x[:0], "there are no images"),
    ],
)
def test_other_tensors_are_refused(classifier: Classifier, change: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        classifier.logits(change(classifier.prepare(COLOUR)))


def test_parts_that_do_not_fit_each_other_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    network, sight = classifier.network, classifier.preprocessing
    with pytest.raises(ModelError, match="2 class names for 3 classes"):
        Classifier(network, sight, NAMES[:2], {})
    for change, words in (
        ({"std": [0.2, 0.0, 0.2]}, "std is not above 0"),
        ({"mean": [0.4, float("nan"), 0.5]}, "mean is not 3 x 1 x 1 finite"),
        ({"crop": 0}, "crop is 0.0, not a share"),
        ({"interpolation": "foo"}, "cannot be resized by 'foo'"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 16.5}, "image_size is 16.5"),
        ({"image_size": (16, 16, 3)}, "or \\(height, width\\)"),
        ({"mean": 0.5}, "mean is 0.5"),
        ({"class_names": "abc"}, "class_names is 'abc', a single text"),
    ):
        with pytest.raises(UsageError, match=words):
            Classifier.of(network, **{"class_names": NAMES, **CONSTANTS, **change})
    with pytest.raises(UsageError, match="Linear is no network of this program"):
        Classifier.of(nn.Linear(2, 3), NAMES, **CONSTANTS)  # type: ignore[arg-type]
    assert Classifier.of(network, NAMES, **{**CONSTANTS, "image_size": np.int64(16)}).preprocessing.image_size == (
        16,
        16,
    )
    with pytest.raises(ModelError, match="1 channels, not 3"):
        Classifier.of(network, NAMES, image_size=16, mean=[0.5], std=[0.5])
    with pytest.raises(UsageError, match="std is not 2 x 1 x 1 finite"):
        Classifier.of(network, NAMES, image_size=16, mean=[0.5, 0.5], std=[0.5])
    with pytest.raises(ModelError, match="two classes are called ant"):
        Classifier.of(network, ("ant", "bee", "ant"), **CONSTANTS)
    with torch.no_grad():
        network.classifier.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="weight is not finite"):
        classifier.save(tmp_path / "model")
    network.classifier = nn.Linear(64, 5)
    with pytest.raises(ModelError, match="the last layer gives 5 classes, and the network was built for 3"):
        Classifier(network, sight, NAMES, {})
    assert [*tmp_path.iterdir()] == []


def test_it_says_what_it_is_in_a_line(classifier: Classifier) -> None:
    assert repr(classifier) == "<Classifier resnet-8: 3 classes, 16 x 16 pixels>"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_type_is_refused_before_it_is_asked(kind: torch.dtype, tmp_path: Path) -> None:
    network = residual.build("resnet-8", classes=3).to(kind)
    with pytest.raises(ModelError, match=f"is {kind}") as caught:
        Classifier.of(network, NAMES, **CONSTANTS)
    assert "network.float()" in caught.value.remedy
    classifier = Classifier.of(network.float(), NAMES, **CONSTANTS)
    network.to(kind)
    for write in (
        lambda: classifier.save(tmp_path / "model"),
        lambda: residual.export_model(classifier, tmp_path / "x.safetensors", to="safetensors"),
        lambda: residual.export_model(classifier, tmp_path / "x.onnx", to="onnx"),
    ):
        with pytest.raises(ModelError, match=f"is {kind}"):
            write()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "2", True, None])
def test_no_probabilities_of_what_is_no_temperature(classifier: Classifier, temperature: Any) -> None:
    pixels = classifier.prepare(COLOUR)
    with pytest.raises(UsageError, match="the temperature is"):
        classifier.probabilities(pixels, temperature=temperature)
    torch.testing.assert_close(
        classifier.probabilities(pixels, temperature=2), (classifier.logits(pixels) / 2).softmax(1)
    )


def test_devices_and_counts_are_those_of_every_command(classifier: Classifier) -> None:
    pixels = classifier.prepare(COLOUR)
    assert torch.equal(classifier.logits(pixels, "cpu"), classifier.logits(pixels, torch.device("cpu")))
    for look in (classifier.logits, classifier.probabilities, classifier.embed):
        with pytest.raises(EnvironmentFault, match="no device foo here"):
            look(pixels, "foo")
    for top_k in ("3", 1.5, True, None, 0):
        for ask in (residual.predict, residual.explain):
            with pytest.raises(UsageError, match=r"top.k is"):
                ask(classifier, pixels, top_k=top_k)  # type: ignore[arg-type]
    assert len(classifier.predict(pixels, top_k=np.int64(2))[0].best) == 2  # type: ignore[arg-type]


def test_a_stream_is_answered_as_it_comes(classifier: Classifier) -> None:
    """As many images are taken as answers are asked for, and they are those of `predict`."""
    rng = np.random.default_rng(5)
    taken: list[Any] = []

    def frames() -> Iterator[Any]:
        while True:
            taken.append(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
            yield taken[-1]

    some = [*islice(classifier.stream(frames(), top_k=2), 3)]
    assert len(taken) == 3
    assert [one.file for one in some] == ["images[0]", "images[1]", "images[2]"]
    wanted = classifier.predict(taken, top_k=2)
    for one, other in zip(some, wanted, strict=True):
        assert [name for name, _ in one.best] == [name for name, _ in other.best]
        assert [p for _, p in one.best] == pytest.approx([p for _, p in other.best], abs=1e-5)
    assert len([*classifier.stream(iter(taken), batch=2)]) == 3
    with pytest.raises(UsageError, match="only a run can be calibrated"):
        next(classifier.stream(taken, temperature="calibrated"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch is 0"):
        next(classifier.stream(taken, batch=0))


def test_a_transform_brings_an_image_to_what_the_network_takes(classifier: Classifier) -> None:
    rng = np.random.default_rng(6)
    pictures = [PIL.Image.fromarray(rng.integers(0, 255, (31, 40, 3), dtype=np.uint8)) for _ in range(3)]
    transform = pickle.loads(pickle.dumps(classifier.transform))  # as a process of a loader has it
    batch = torch.stack([transform(picture) for picture in pictures])
    assert (batch.dtype, batch.shape[1]) == (torch.float32, classifier.preprocessing.channels)
    with torch.no_grad():
        found = classifier.network.eval()(batch)
    assert torch.allclose(found, classifier.logits(classifier.prepare(pictures)), atol=1e-5)
    with pytest.raises(UsageError, match="3 images were given where one"):
        transform(pictures)


def test_a_new_last_layer_for_other_classes(classifier: Classifier) -> None:
    found = classifier.with_classes(["a", "b", "c", "d", "e"], seed=3)
    assert found.class_names == ("a", "b", "c", "d", "e")
    own, new = classifier.network.state_dict(), found.network.state_dict()
    assert new["classifier.weight"].shape[0] == 5
    assert all(torch.equal(own[name], new[name]) for name in own if not name.startswith("classifier."))
    again = classifier.with_classes(["a", "b", "c", "d", "e"], seed=3).network.state_dict()
    other = classifier.with_classes(["a", "b", "c", "d", "e"], seed=4).network.state_dict()
    assert torch.equal(new["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(new["classifier.weight"], other["classifier.weight"])
    assert classifier.with_classes(name for name in "ab").class_names == ("a", "b")
    for names, words in (("cat", "a single text"), ([], "two or more"), (["a"], "two or more")):
        with pytest.raises(UsageError, match=words):
            classifier.with_classes(names)
    with pytest.raises(ModelError, match="two classes are called a"):
        classifier.with_classes(["a", "a"])
