"""The sides of progressive resizing as a table, and what shrinking keeps."""

import pytest
import torch

from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.preprocessing import measure
from residual.data.resizing import shrink, side_at
from residual.data.source import MemorySource

STAGES = ((0.35, 20), (0.65, 24))


def test_the_side_of_every_step():
    table = {0: 20, 34: 20, 35: 24, 64: 24, 65: None, 99: None}
    assert {step: side_at(STAGES, step, 100) for step in table} == table
    assert side_at((), 0, 100) is None


@pytest.mark.parametrize("stages", [((0.5, 24), (0.4, 28)), ((0.3, 24), (0.6, 24)), ((0.3, 28), (0.6, 24))])
def test_stages_that_do_not_grow_are_refused(stages):
    with pytest.raises(ValueError, match="must both grow"):
        AugmentSettings(sizes=stages)


@pytest.mark.parametrize("wrong", [[(0, 24)], [(1, 24)], [(0.5, 4)], [(0.5,)], "half"])
def test_stages_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="sizes"):
        AugmentSettings(sizes=wrong)


def test_shrinking_keeps_the_mean_and_the_proportions():
    images = torch.randn(3, 2, 32, 48, generator=torch.Generator().manual_seed(0))
    small = shrink(images, 24)
    assert small.shape == (3, 2, 16, 24)
    assert torch.allclose(small.mean((2, 3)), images.mean((2, 3)), atol=0.02)
    assert torch.allclose(shrink(torch.full((1, 1, 32, 32), 0.7), 20), torch.full((1, 1, 20, 20), 0.7))
    for side in (48, 64, None):
        assert shrink(images, side) is images


def test_batches_grow_at_the_stated_steps():
    source = MemorySource(torch.randint(256, (40, 3, 32, 32)).to(torch.uint8), torch.arange(40) % 4)
    indices = torch.arange(40)
    settings = AugmentSettings(sizes=STAGES)
    constants = measure(source, indices, "mean-std")
    batches = Batches(source, indices, constants, settings, batch_size=4, seed=0, total=20)
    sides = [batches.batch_at(step).images.shape[-1] for step in range(20)]
    assert sides == [20] * 7 + [24] * 6 + [32] * 7
