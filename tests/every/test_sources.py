"""The same questions to every data set that can be opened by name."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from residual.data import datasets
from residual.data.cifar100 import CIFAR100
from residual.data.datasets import OPENERS, DataSettings, divide, open_dataset
from residual.data.preprocessing import measure
from residual.data.source import Source, Subset, everything
from residual.errors import DataError
from tests.data.official_layout import in_small

EMBEDDED = {"digits"}
# name: training images, test images, channels
SIZES = {"digits": (1438, 359, 1), "cifar-10": (50_000, 10_000, 3), "cifar-100": (1000, 200, 3)}
# written in small, in the official layout, with checksums of its own
SMALL = {"cifar-100": CIFAR100}


@pytest.fixture(scope="module", params=OPENERS)
def settings(request, tmp_path_factory):
    """What a recipe says of a data set; skipped where its files are not here."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param in EMBEDDED:
            yield DataSettings(dataset=request.param)
        elif request.param in SMALL:
            official = in_small(SMALL[request.param], *SIZES[request.param][:2])
            patch.setitem(datasets.FAMILIES, request.param, official.family)
            folder = official.write(tmp_path_factory.mktemp("small"), "python", archive=False)
            yield DataSettings(dataset=request.param, path=str(folder))
        else:
            folder = request.getfixturevalue(request.param.split("-")[0])
            yield DataSettings(dataset=request.param, path=str(folder))


@pytest.fixture(scope="module")
def dataset(settings, tmp_path_factory):
    """The data set, its cached copy in a folder that does not outlive these tests."""
    folder = tmp_path_factory.mktemp("copies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESIDUAL_CACHE", str(folder))
        yield open_dataset(settings)
    shutil.rmtree(folder)


@pytest.fixture(params=["train", "test"])
def source(request, dataset) -> Source:
    return getattr(dataset, request.param)


def test_every_name_has_its_size_here():
    assert SIZES.keys() == OPENERS.keys()


def test_name_and_geometry(dataset, settings):
    assert dataset.name == settings.dataset
    assert (len(dataset.train), len(dataset.test), dataset.channels) == SIZES[dataset.name]
    assert dataset.image_size == (32, 32)
    assert dataset.origin
    assert dataset.origin == "embedded" or Path(dataset.origin).exists()


def test_class_names_are_distinct_words(dataset):
    assert len(set(dataset.class_names)) == len(dataset.class_names) >= 2
    assert all(re.fullmatch(r"\w+", name) for name in dataset.class_names)


def test_checksums_name_what_was_read(dataset):
    assert dataset.checksums
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in dataset.checksums.values())


def test_every_class_has_labels_and_no_other(dataset, source):
    assert source.labels.shape == (len(source),)
    assert source.labels.dtype == torch.int64
    assert source.labels.unique().tolist() == list(range(len(dataset.class_names)))


def test_images_are_read_as_bytes_in_the_order_asked(dataset, source):
    numbers = torch.tensor([len(source) - 1, 0, 7, 0])
    images = source.read(numbers)
    assert images.dtype == torch.uint8
    assert images.shape == (4, dataset.channels, *dataset.image_size)
    assert torch.equal(images[1], images[3])
    for image, number in zip(images, numbers, strict=True):
        assert torch.equal(image, source.read(number.view(1))[0])
    assert source.read(torch.tensor([], dtype=torch.int64)).shape == (0, *images.shape[1:])
    assert len(everything(source)) == len(source)


def test_what_is_read_belongs_to_the_reader(source):
    one = source.read(torch.tensor([0]))
    before = one.clone()
    one.zero_()
    assert torch.equal(source.read(torch.tensor([0])), before)
    assert before.any()


def test_a_number_that_is_none_is_refused(source):
    for number in (len(source), -1):
        with pytest.raises((IndexError, RuntimeError)):
            source.read(torch.tensor([number]))


def test_training_and_test_share_no_image(dataset):
    """Not one of the first thousand training images stands among the test images."""
    tested = {image.numpy().tobytes() for image in dataset.test.read(everything(dataset.test))}
    trained = dataset.train.read(torch.arange(1000))
    assert [number for number, image in enumerate(trained) if image.numpy().tobytes() in tested] == []


def test_opening_again_gives_the_same(dataset, settings):
    again = open_dataset(settings)
    assert again.checksums == dataset.checksums
    assert again.class_names == dataset.class_names
    for one, other in ((dataset.train, again.train), (dataset.test, again.test)):
        numbers = torch.arange(0, len(one), 97)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.read(numbers), other.read(numbers))


def test_training_and_held_images_are_apart(dataset, settings):
    found = divide(dataset, settings)
    together = torch.cat([found.training, found.validation]).sort().values
    assert torch.equal(together, everything(dataset.train))
    held = Subset(dataset.train, found.validation)
    counts = held.labels.bincount()
    assert len(counts) == len(dataset.class_names)
    assert (counts - settings.validation * dataset.train.labels.bincount()).abs().max() <= 1


def test_constants_can_be_measured(dataset):
    found = measure(dataset.train, torch.arange(200), "mean-std")
    images = found.normalise(dataset.train.read(torch.arange(200)))
    assert (found.channels, found.image_size) == (dataset.channels, dataset.image_size)
    assert images.isfinite().all()
    assert images.mean().abs() < 1e-5


@pytest.mark.parametrize("path", ["no/such/place", "~no-such-user/data", "x" * 5000, "a\0b"])
@pytest.mark.parametrize("name", OPENERS)
def test_a_place_that_is_none_is_refused_in_one_line(name, path):
    with pytest.raises(DataError) as caught:
        open_dataset(DataSettings(dataset=name, path=path))
    assert caught.value.exit_code == 3
    assert caught.value.remedy


@pytest.mark.parametrize("name", sorted(set(OPENERS) - EMBEDDED))
def test_without_a_place_it_is_looked_for(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESIDUAL_DATA", str(tmp_path / "named"))
    with pytest.raises(DataError, match=r"was not found .*named, data, .*RESIDUAL_DATA"):
        open_dataset(DataSettings(dataset=name))
