"""A model is usable from its files alone, and refused in words when they do not fit together."""

import json

import pytest
import safetensors.torch
import torch

from residual.data.preprocessing import measure
from residual.data.source import MemorySource
from residual.errors import ModelError
from residual.evaluation.classifier import CONSTANTS, DESCRIPTION, WEIGHTS, Classifier
from residual.files import canonical
from residual.models import NetworkSettings, build, resolve
from residual.sealed import write_folder

NAMES = ("null", "eins <b>", "zwei/\n", "drei")


def images(count=6):
    return torch.randint(256, (count, 1, 12, 12), generator=torch.Generator().manual_seed(2)).to(torch.uint8)


@pytest.fixture
def classifier():
    network = build(resolve(NetworkSettings(name="resnet-8"), len(NAMES), channels=1), seed=1)
    network(torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(3)))
    source = MemorySource(images(), torch.zeros(6, dtype=torch.int64))
    preprocessing = measure(source, torch.arange(6), "per-pixel-mean")
    return Classifier(network, preprocessing, NAMES, {"run": "a", "step": 7, "data": {"name": "x"}})


def edited(contents, **changes):
    """The files with other entries in the description; an entry of None is left out."""
    description = json.loads(contents[DESCRIPTION]) | changes
    return contents | {DESCRIPTION: canonical({k: v for k, v in description.items() if v is not None})}


def test_the_files_give_the_same_probabilities(classifier):
    contents = classifier.pack()
    assert set(contents) == {DESCRIPTION, WEIGHTS, CONSTANTS}
    again = Classifier.unpack(contents, "here")
    assert torch.equal(again.probabilities(images()), classifier.probabilities(images()))
    assert (again.spec, again.class_names, again.provenance) == (classifier.spec, NAMES, classifier.provenance)
    assert again.preprocessing.facts() == classifier.preprocessing.facts()
    assert again.pack() == contents


def test_probabilities_are_shares_of_one_whatever_the_company(classifier):
    found = classifier.probabilities(images())
    assert (found.shape, found.dtype) == ((6, len(NAMES)), torch.float32)
    torch.testing.assert_close(found.sum(1), torch.ones(6))
    assert found.std(0).max() > 0  # images are told apart
    torch.testing.assert_close(classifier.probabilities(list(images())[2:3]), found[2:3])


def test_using_a_classifier_does_not_train_it(classifier):
    before = classifier.pack()
    classifier.network.train()
    first = classifier.probabilities(images())
    assert torch.equal(classifier.probabilities(images()), first)
    assert classifier.pack() == before


@pytest.mark.parametrize(
    ("name", "kind"), [("model", "model"), ("step-00000007", "checkpoint"), ("copy", "checkpoint")]
)
def test_a_model_folder_and_a_checkpoint_both_load(classifier, tmp_path, monkeypatch, name, kind):
    folder = tmp_path / name
    more = {"state.json": b"{}"} if kind == "checkpoint" else {}
    write_folder(folder, classifier.pack() | more, kind, {})
    expected = classifier.probabilities(images())
    assert torch.equal(Classifier.load(folder).probabilities(images()), expected)
    monkeypatch.chdir(folder)
    assert torch.equal(Classifier.load(type(folder)(".")).probabilities(images()), expected)


def test_a_folder_that_is_no_model_is_refused(classifier, tmp_path):
    write_folder(tmp_path / "data", {}, "data", {})
    write_folder(tmp_path / "model", classifier.pack(), "model", {})
    altered = bytearray((tmp_path / "model" / WEIGHTS).read_bytes())
    altered[-1] ^= 1
    (tmp_path / "model" / WEIGHTS).write_bytes(altered)
    for name, message in [
        ("data", "this is a data folder, not a model or checkpoint folder"),
        ("model", "SHA-256 differs"),
        ("absent", r"no manifest\.json"),
    ]:
        with pytest.raises(ModelError, match=message) as caught:
            Classifier.load(tmp_path / name)
        assert caught.value.exit_code == 4
        assert name in str(caught.value)


CHANGES = {
    "three names": ({"class_names": ["a", "b", "c"]}, "3 class names for 4 classes"),
    "five names": ({"class_names": list("abcde")}, "5 class names for 4 classes"),
    "no names": ({"class_names": None}, "cannot be used.*class_names"),
    "a name twice": ({"class_names": ["a", "b", "a", "c"]}, "two classes are called a, .* by Classifier.of"),
    "a word for names": ({"class_names": "abcd"}, "class_names is not a list of names"),
    "numbers for names": ({"class_names": [1, 2, 3, 4]}, "class_names is not a list of names"),
    "no network": ({"network": None}, "cannot be used.*network"),
    "an unknown network": ({"network": {"name": "x"}}, "cannot be used"),
    "no preprocessing": ({"preprocessing": None}, "cannot be used.*preprocessing"),
    "no provenance": ({"provenance": None}, "cannot be used.*provenance"),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES)
def test_a_description_that_does_not_fit_is_refused(classifier, changes, message):
    with pytest.raises(ModelError, match=message) as caught:
        Classifier.unpack(edited(classifier.pack(), **changes), "runs/a/model")
    assert "(runs/a/model)" in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"5", b"\xff", b"[" * 9999], ids=lambda text: str(text[:2]))
def test_a_description_that_is_none_is_refused(classifier, text):
    with pytest.raises(ModelError, match="cannot be used"):
        Classifier.unpack(classifier.pack() | {DESCRIPTION: text}, "here")


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS, CONSTANTS])
def test_a_file_that_is_absent_or_no_tensors_is_refused(classifier, name):
    contents = classifier.pack()
    with pytest.raises(ModelError, match=r"cannot be used|cannot be read"):
        Classifier.unpack(contents | {name: b"\x80\x04."}, "here")  # the beginning of a pickle
    del contents[name]
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        Classifier.unpack(contents, "here")


def test_other_constants_are_refused(classifier):
    for tensors in ({}, {"mean": torch.zeros(1, 12, 12), "std": torch.full((1, 1, 1), float("nan"))}):
        contents = classifier.pack() | {CONSTANTS: safetensors.torch.save(tensors)}
        with pytest.raises(ModelError, match="cannot be used"):
            Classifier.unpack(contents, "here")


def test_constants_of_another_network_are_refused(classifier):
    facts = classifier.preprocessing.facts() | {"channels": 3}
    tensors = {"mean": torch.zeros(3, 12, 12), "std": torch.ones(3, 1, 1)}
    contents = edited(classifier.pack(), preprocessing=facts) | {CONSTANTS: safetensors.torch.save(tensors)}
    with pytest.raises(ModelError, match="preprocessing gives 3 channels, not 1"):
        Classifier.unpack(contents, "here")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(classifier, value):
    with torch.no_grad():
        classifier.network.classifier.bias[2] = value
        classifier.network.get_buffer("stem.norm.running_mean")[0] = value
    with pytest.raises(ModelError, match=r"not all finite(?=.*stem\.norm\.running_mean)(?=.*classifier\.bias)"):
        Classifier.unpack(classifier.pack(), "here")


def test_weights_of_another_network_are_refused_by_name(classifier):
    other = build(resolve(NetworkSettings(name="resnet-20"), len(NAMES), channels=1))
    contents = classifier.pack() | {WEIGHTS: safetensors.torch.save(other.state_dict())}
    with pytest.raises(ModelError, match=r"stages\.\S+ is unknown"):
        Classifier.unpack(contents, "here")
