"""Normalisation by groups: what each group gives, what is kept of them, and that evaluation knows no groups."""

from __future__ import annotations

import torch
from torch import nn

from residual.models import NetworkSettings, build, resolve
from residual.models.layers import GroupedBatchNorm


def both(group: int) -> tuple[GroupedBatchNorm, nn.BatchNorm2d]:
    grouped, plain = GroupedBatchNorm(3, 1e-5, 0.1, group), nn.BatchNorm2d(3)
    for norm in (grouped, plain):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            norm.bias.copy_(torch.tensor([0.0, 0.1, -0.3]))
        norm.double()
    return grouped, plain


def maps(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1


def test_each_group_is_normalised_by_itself_and_the_running_statistics_take_their_mean() -> None:
    grouped, plain = both(4)
    images = maps(8)
    found = grouped(images)
    for part, made in zip(images.split(4), found.split(4), strict=True):
        torch.testing.assert_close(made, plain(part))
    means = torch.stack([part.mean((0, 2, 3)) for part in images.split(4)]).mean(0)
    variances = torch.stack([part.var((0, 2, 3)) for part in images.split(4)]).mean(0)  # unbiased, as torch keeps it
    torch.testing.assert_close(grouped.running_mean, 0.1 * means)
    torch.testing.assert_close(grouped.running_var, 0.9 + 0.1 * variances)
    assert int(grouped.get_buffer("num_batches_tracked")) == 1


def test_one_group_or_evaluation_is_plain_normalisation() -> None:
    grouped, plain = both(8)
    for _ in range(2):
        torch.testing.assert_close(grouped(maps(8)), plain(maps(8)), rtol=0, atol=0)
    for name, buffer in plain.named_buffers():
        assert torch.equal(grouped.get_buffer(name), buffer)
    grouped.group = 2
    torch.testing.assert_close(grouped.eval()(maps(8)), plain.eval()(maps(8)), rtol=0, atol=0)


def test_a_network_of_groups_has_the_weights_and_names_of_one_without() -> None:
    plain = build(resolve(NetworkSettings(name="resnet-8"), 10), seed=3)
    grouped = build(resolve(NetworkSettings(name="resnet-8", norm_group=4), 10), seed=3)
    assert sum(isinstance(module, GroupedBatchNorm) for module in grouped.modules()) == 7
    assert plain.state_dict().keys() == grouped.state_dict().keys()
    assert all(torch.equal(plain.state_dict()[name], tensor) for name, tensor in grouped.state_dict().items())
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(plain(images), grouped(images))
