"""Some classes of a data set and some images of each: numbered anew, drawn by the data and the number of the draw."""

from __future__ import annotations

import pytest
import torch

from residual.data.datasets import DataSettings, Division, divide, open_dataset
from residual.data.reading import FolderSource
from residual.data.source import Dataset, everything
from residual.errors import DataError, UsageError
from tests.data.photographs import divided


def opened(**settings) -> tuple[Dataset, Division]:
    given = DataSettings.model_validate({"dataset": "digits", **settings})
    dataset = open_dataset(given)
    return dataset, divide(dataset, given)


def test_classes_are_those_of_the_whole_numbered_anew():
    whole, _ = opened()
    some, division = opened(classes=["9", "2", "4"], validation=0.2)
    assert some.class_names == ("2", "4", "9")
    assert some.facts["classes"] == ["2", "4", "9"]
    for part in ("train", "test"):
        all_of_it, chosen = getattr(whole, part), getattr(some, part)
        meant = torch.isin(all_of_it.labels, torch.tensor([2, 4, 9]))
        assert len(chosen) == int(meant.sum())
        assert torch.equal(chosen.read(everything(chosen)), all_of_it.images[meant])
        assert torch.equal(torch.tensor([2, 4, 9])[chosen.labels], all_of_it.labels[meant])
    assert len(division.training) + len(division.validation) == len(some.train)


def test_so_many_images_of_every_class_and_others_by_another_draw():
    dataset, division = opened(per_class=20, validation=0.0)
    assert dataset.train.labels[division.training].bincount().tolist() == [20] * 10
    assert division.training.equal(division.training.sort().values)
    again, other = opened(per_class=20, validation=0.0)[1], opened(per_class=20, validation=0.0, draw=1)[1]
    assert again.training.equal(division.training)
    shared = torch.isin(other.training, division.training).sum()
    assert 0 < shared < 80, "chance shares 20 of about 144 in every class"
    held = opened(per_class=20, validation=0.25)[1]
    assert dataset.train.labels[held.validation].bincount().tolist() == [5] * 10


def test_the_images_of_a_class_do_not_depend_on_the_other_classes():
    whole, of_all = opened(per_class=5, validation=0.0)
    some, of_some = opened(per_class=5, validation=0.0, classes=["3", "8"])
    threes = of_all.training[whole.train.labels[of_all.training] == 3]
    chosen = of_some.training[some.train.labels[of_some.training] == 0]
    assert torch.equal(whole.train.read(threes), some.train.read(chosen))


def test_photographs_keep_their_files(tmp_path):
    root = divided(tmp_path / "photos")
    settings = DataSettings(dataset="folder", path=str(root), classes=("cat", "owl"), image_size=16)
    dataset = open_dataset(settings)
    assert isinstance(dataset.train, FolderSource)
    assert isinstance(dataset.validation, FolderSource)
    names = dataset.train.names(everything(dataset.train))
    assert [name.split("/")[1] for name in names] == ["cat"] * 12 + ["owl"] * 12
    assert dataset.train.labels.tolist() == [0] * 12 + [1] * 12
    assert dataset.validation.labels.tolist() == dataset.test.labels.tolist() == [0] * 5 + [1] * 5
    assert dataset.train.read(torch.tensor([0, 20])).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("given", ["7, 8,9", [7, 8, 9], ["7", "8", "9"], ("7", "8", "9")])
def test_names_may_be_written_in_any_usual_way(given):
    assert DataSettings.model_validate({"classes": given}).classes == ("7", "8", "9")


def test_refusals():
    with pytest.raises(UsageError, match=r"no class 'seven' .*choose one of 0, 1"):
        opened(classes=["seven", "8"])
    with pytest.raises(UsageError, match="one class"):
        opened(classes=["7", "7"])
    with pytest.raises(DataError, match=r"the class '0' has 142 training images, not 500 .*per_class to 142 or less"):
        opened(per_class=500)
    with pytest.raises(ValueError, match="limit says how many"):
        opened(per_class=5, limit=100)
