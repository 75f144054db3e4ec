"""The average against its formula; the moving weights come back; the state goes on where it was."""

from __future__ import annotations

import torch
from torch import nn

from residual.training.averaging import Averaging


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def moved(network: nn.Module, step: int) -> None:
    chance = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=chance))
            else:
                tensor.add_(1)


def test_the_average_is_the_formulas() -> None:
    network = small()
    averaging = Averaging(network, 0.6)
    expected = {n: t.clone().double() for n, t in network.state_dict().items() if t.is_floating_point()}
    for step, decay in enumerate(
        [0.1, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 0.5, 9 / 18, 10 / 19, 0.55, 12 / 21]
    ):
        moved(network, step)
        averaging.stepped()
        now = min(0.6, decay)
        for name, value in expected.items():
            expected[name] = now * value + (1 - now) * network.state_dict()[name].double()
    for step in range(100, 120):  # long after, the setting itself
        moved(network, step)
        averaging.stepped()
        now = min(0.6, (1 + step - 88) / (10 + step - 88))
        for name, value in expected.items():
            expected[name] = now * value + (1 - now) * network.state_dict()[name].double()
    assert (
        averaging.tensors().keys()
        == expected.keys()
        == {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    )
    for name, value in expected.items():
        torch.testing.assert_close(averaging.average[name].double(), value, rtol=1e-5, atol=1e-6)


def test_the_moving_weights_come_back_bit_for_bit() -> None:
    network = small()
    averaging = Averaging(network, 0.9)
    moved(network, 1)
    averaging.stepped()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    try:
        with averaging.in_place():
            assert torch.equal(network.state_dict()["0.weight"], averaging.average["0.weight"])
            assert not torch.equal(network.state_dict()["0.weight"], before["0.weight"])
            raise InterruptedError
    except InterruptedError:
        pass
    assert all(torch.equal(network.state_dict()[n], t) for n, t in before.items())


def test_a_restored_average_goes_on_bit_for_bit() -> None:
    one, other = small(), small()
    first = Averaging(one, 0.9)
    for step in range(3):
        moved(one, step)
        first.stepped()
    other.load_state_dict(one.state_dict())
    second = Averaging(other, 0.9)
    second.restore({n: t.clone() for n, t in first.tensors().items()}, first.facts())
    for network, averaging in ((one, first), (other, second)):
        moved(network, 9)
        averaging.stepped()
    assert all(torch.equal(second.average[n], t) for n, t in first.average.items())
