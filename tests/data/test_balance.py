"""Uneven classes: weights by their formulas, and epochs in which every class comes equally often."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from residual.data.augment import AugmentSettings
from residual.data.balance import EvenOrder, weigh
from residual.data.batches import Batches
from residual.data.datasets import DataSettings
from residual.data.preprocessing import measure
from residual.data.source import MemorySource
from residual.errors import UsageError
from residual.training.recipe import LossSettings, Recipe, override, to_recipe
from residual.training.recipes import RECIPES


def test_weights_are_those_of_the_formulas():
    counts = torch.tensor([1, 10, 1000, 0])
    balanced = weigh(counts, "balanced", 0.0)
    torch.testing.assert_close(balanced[:3], 1011 / (3 * counts[:3].double()))
    effective = weigh(counts, "effective", 0.9)
    worth = torch.tensor([sum(0.9**i for i in range(n)) for n in (1, 10, 1000)], dtype=torch.float64)
    torch.testing.assert_close(effective[:3] * worth, (effective[0] * worth[0]).expand(3))
    for weights in (balanced, effective):
        assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1)
        assert weights[3] == 0


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=5), epochs=st.integers(1, 9), seed=st.integers(0, 3))
def test_every_class_comes_equally_often_and_its_images_by_turns(counts, epochs, seed):
    labels = torch.repeat_interleave(torch.arange(len(counts)) * 2, torch.tensor(counts))
    order, seen = EvenOrder(labels, seed), torch.zeros(len(labels), dtype=torch.int64)
    for epoch in range(epochs):
        rows = order.rows(epoch)
        assert len(rows) == len(labels)
        by_class = labels[rows].bincount(minlength=2 * len(counts))[::2]
        assert by_class.max() - by_class.min() <= 1
        seen += rows.bincount(minlength=len(labels))
    for label in labels.unique():
        assert seen[labels == label].max() - seen[labels == label].min() <= 1
    assert torch.equal(EvenOrder(labels, seed).rows(epochs - 1), rows)


def uneven(seed=0, **more):
    images = torch.randint(256, (40, 3, 6, 6), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
    source = MemorySource(images, torch.tensor([0] * 30 + [1] * 8 + [2] * 2))
    indices = torch.arange(40)
    settings = AugmentSettings(pad_crop=2, mirror=True)
    return Batches(source, indices, measure(source, indices, "mean-std"), settings, 7, seed, **more)


def test_batches_follow_from_the_step_and_span_epochs():
    found = uneven(sampling="balanced")
    endless = torch.cat([found.sequence(epoch) for epoch in range(5)])
    for step in (22, 0, 5, 11, 5):  # steps 5, 11 and 17 span two epochs
        batch = uneven(sampling="balanced").batch_at(step)
        assert torch.equal(batch.samples, endless[7 * step : 7 * step + 7])
        assert torch.equal(batch.images, found.batch_at(step).images)
        assert torch.equal(batch.labels, found.source.labels[batch.samples])
    assert not torch.equal(uneven(1, sampling="balanced").sequence(0), found.sequence(0))
    shares = [uneven(sampling="balanced").batch_at(3, rank, 7).samples for rank in range(7)]
    assert torch.equal(torch.cat(shares), found.batch_at(3).samples)


def test_an_image_that_comes_again_in_an_epoch_is_augmented_anew():
    found = uneven(sampling="balanced")
    seen = [image for step in range(5) for image in _of(found.batch_at(step), 39)]
    assert len(seen) >= 4
    assert len(torch.stack(seen).flatten(1).unique(dim=0)) >= 3


def _of(batch, sample):
    return batch.images[batch.samples == sample]


def test_nothing_is_new_where_classes_come_as_they_are():
    found = uneven()
    assert found.even is None
    for epoch in (0, 3):
        assert sorted(found.sequence(epoch).tolist()) == list(range(40))
        assert torch.equal(found.sequence(epoch), found.order(epoch))


def test_weights_travel_with_every_batch():
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    batch = uneven(class_weights=weights).batch_at(0)
    assert batch.weights is not None
    assert batch.weights.dtype == torch.float32
    assert uneven().batch_at(0).weights is None


@pytest.mark.parametrize("weights", ["none", "balanced", "effective", {"a cat.": 2, "dog": 0.5}])
def test_settings_go_round_through_a_recipe_file(weights):
    import tomllib

    changed = override(RECIPES["digits"], [("loss.class_weights", weights), ("data.sampling", "balanced")])
    assert to_recipe(tomllib.loads(changed.to_toml()), "recipe.toml") == changed
    assert to_recipe(changed.model_dump(mode="json"), "run.json") == changed
    assert changed.loss.class_weights == weights


@pytest.mark.parametrize("weights", ["fair", {}, {"a": 0}, {"a": -1.0}, {"a": float("inf")}, {"a": True}, 3, [1.0]])
def test_weights_that_are_none_are_refused_in_one_line(weights):
    with pytest.raises(UsageError) as caught:
        override(Recipe(epochs=1), [("loss.class_weights", weights)])
    assert "must be none, balanced, effective, or a table of classes" in str(caught.value)
    assert LossSettings(class_weights=None).class_weights == "none"


def test_mirrors_by_turns_need_images_by_turns():
    augment = {"mirror": True, "mirror_by": "turns"}
    with pytest.raises(ValueError, match="set mirror_by to 'chance'"):
        DataSettings.model_validate({"sampling": "balanced", "augment": augment})
