"""Mixup and CutMix: shares as published, labels beside pixels, the same pairs for any number of processes."""

import numpy as np
import pytest
import torch

from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.mixing import Mixes, choose, mix
from residual.data.preprocessing import measure
from residual.data.source import MemorySource
from residual.errors import UsageError

WHOLE = slice(0, 6)


def pictures():
    """Image i is filled with the number i; its label is 10 i."""
    return torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 8, 10).clone(), torch.arange(6) * 10


def test_mixup_weighs_an_image_with_its_neighbour():
    images, labels = pictures()
    share = torch.tensor([0.9, 0.9, 0.5, 0.5, 1.0, 1.0])
    mixed, partners, own = mix(images, labels, Mixes(share, torch.zeros(6, dtype=torch.bool), torch.zeros(6, 2)))
    assert partners.tolist() == [10, 0, 30, 20, 50, 40]
    assert torch.allclose(mixed[:, 0, 0, 0], torch.tensor([0.1, 0.9, 2.5, 2.5, 4.0, 5.0]))
    assert torch.equal(own, share)


def test_cutmix_pastes_a_box_and_counts_its_pixels():
    images, labels = pictures()
    mixes = choose(6, 0.0, 1.0, seed=0, step=3, own=WHOLE)
    mixed, _, share = mix(images, labels, mixes)
    for number, image in enumerate(mixed):
        other = number ^ 1
        assert set(image.unique().tolist()) <= {float(number), float(other)}
        pasted = (image[0] == other).numpy()
        assert float(share[number]) == pytest.approx(1 - pasted.mean())
        rows, columns = np.nonzero(pasted)
        assert pasted.sum() == 0 or pasted[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_shares_follow_beta(kind, alpha):
    asked = {"mixup": 0.0, "cutmix": 0.0, kind: alpha}
    mixes = choose(8000, **asked, seed=0, step=0, own=slice(0, 8000))
    assert bool(mixes.boxed.all()) == (kind == "cutmix")
    drawn = mixes.share[::2]
    assert torch.equal(drawn, mixes.share[1::2])
    assert abs(float(drawn.mean()) - 0.5) < 0.03
    assert abs(float(drawn.var()) - 1 / (4 * (2 * alpha + 1))) < 0.01


def test_with_both_each_takes_half():
    boxed = choose(8000, 0.2, 1.0, seed=0, step=0, own=slice(0, 8000)).boxed
    assert abs(float(boxed.double().mean()) - 0.5) < 0.03


def batches(batch_size=8, **settings):
    generator = torch.Generator().manual_seed(5)
    source = MemorySource(torch.randint(256, (50, 3, 8, 8), generator=generator).to(torch.uint8), torch.arange(50) % 5)
    indices = torch.arange(50)
    chosen = AugmentSettings(**settings)
    return Batches(source, indices, measure(source, indices, "mean-std"), chosen, batch_size, seed=2)


@pytest.mark.parametrize("world", [2, 4])
def test_the_mixed_batch_does_not_depend_on_the_number_of_processes(world):
    made = batches(mixup=0.4, cutmix=1.0)
    whole = made.batch_at(11)
    parts = [made.batch_at(11, rank, world) for rank in range(world)]
    for name in ("images", "labels", "samples", "partners", "share"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert torch.equal(whole.partners, whole.labels[torch.arange(8) ^ 1])
    assert not torch.equal(made.batch_at(12).share, whole.share)


def test_a_pair_is_never_cut_in_two():
    with pytest.raises(UsageError, match="pairs"):
        batches(batch_size=7, mixup=0.2).batch_at(0)
    with pytest.raises(UsageError, match="make it even"):
        batches(batch_size=6, mixup=0.2).batch_at(0, 1, 2)


def test_without_mixing_a_batch_has_no_partners():
    batch = batches().batch_at(0)
    assert batch.partners is None
    assert batch.share is None
