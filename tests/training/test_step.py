"""One step of training: the update of the source, and no update at all on non-finite values."""

from __future__ import annotations

import pytest
import torch

from residual.data.batches import Batch
from residual.errors import NonFiniteError
from residual.models import NetworkSettings, ResidualNetwork, build, resolve
from residual.training.compute import Compute
from residual.training.optimiser import OptimiserPart, OptimiserSettings, make_optimiser, set_rate
from residual.training.step import train_step

FLOAT32 = Compute("cpu", "float32", "channels-last", 1, False)


def tiny(dropout: float = 0.0) -> ResidualNetwork:
    return build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4), dropout=dropout), 10, 1)).train()


def some_batch(count: int = 6) -> Batch:
    source = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, 16, 16, generator=source)
    return Batch(images, torch.arange(count) % 10, torch.arange(count))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_on", ["weights", "all"])
def test_sgd_is_the_update_of_the_paper(nesterov: bool, decay_on: str) -> None:
    network = tiny().double()
    settings = OptimiserSettings(momentum=0.9, nesterov=nesterov, weight_decay=0.01, decay_on=decay_on)
    optimiser = make_optimiser(network, settings)
    expected = {n: p.detach().clone() for n, p in network.named_parameters()}
    velocity = {n: torch.zeros_like(p) for n, p in expected.items()}
    for step in range(3):
        rate = 0.1 / (step + 1)
        set_rate(optimiser, rate, 0.9)
        optimiser.zero_grad()
        batch = some_batch()
        torch.nn.functional.cross_entropy(network(batch.images.double()), batch.labels).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            decayed = decay_on == "all" or parameter.ndim > 1
            gradient = parameter.grad + (0.01 * expected[name] if decayed else 0)
            velocity[name] = 0.9 * velocity[name] + gradient
            expected[name] = expected[name] - rate * (gradient + 0.9 * velocity[name] if nesterov else velocity[name])
        optimiser.step()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-12, atol=1e-14)


def test_only_weights_with_more_than_one_axis_decay_by_default() -> None:
    network = tiny()
    decayed, free = make_optimiser(network, OptimiserSettings(weight_decay=0.5)).param_groups
    assert decayed["weight_decay"] == 0.5
    assert free["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["image", "weight", "gradient"])
def test_no_weight_moves_on_a_value_that_is_not_finite(value: float, place: str) -> None:
    network, batch = tiny(), some_batch()
    optimiser = make_optimiser(network, OptimiserSettings())
    set_rate(optimiser, 0.1, 0.9)
    train_step(network, optimiser, batch, FLOAT32, 0.0, 0)
    if place == "image":
        batch.images[2, 0, 3, 3] = value
    elif place == "weight":
        with torch.no_grad():
            network.get_parameter("classifier.weight")[0, 0] = value
    else:
        network.get_parameter("classifier.bias").register_hook(lambda gradient: gradient * value)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    with pytest.raises(NonFiniteError, match="step 7") as caught:
        train_step(network, optimiser, batch, FLOAT32, 0.0, 7)
    assert caught.value.exit_code == 7
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.detach().nan_to_num(), before[name].nan_to_num()), name


def test_label_smoothing_changes_the_gradient_but_not_the_loss_that_is_told() -> None:
    batch, told, weights = some_batch(), [], []
    for smoothing in (0.0, 0.3):
        network = tiny()
        optimiser = make_optimiser(network, OptimiserSettings())
        set_rate(optimiser, 0.1, 0.9)
        told.append(float(train_step(network, optimiser, batch, FLOAT32, smoothing, 0).loss_sum))
        weights.append(network.get_parameter("classifier.weight").detach().clone())
    assert told[0] == pytest.approx(told[1], rel=1e-6)
    assert not torch.equal(*weights)


def test_bfloat16_keeps_weights_statistics_and_momentum_in_float32() -> None:
    network, batch = tiny(), some_batch()
    compute = Compute("cpu", "bfloat16", "channels-last", 1, False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = make_optimiser(network, OptimiserSettings())
    set_rate(optimiser, 0.1, 0.9)
    result = train_step(network, optimiser, batch, compute, 0.1, 0)
    assert result.logits.dtype == torch.float32
    kept = [t for t in network.state_dict().values() if t.is_floating_point()]
    kept += list(OptimiserPart(network, optimiser).tensors().values())
    assert {t.dtype for t in kept} == {torch.float32}
    first = OptimiserPart(network, optimiser).tensors()["stages.1.0.conv1.weight"]
    assert first.is_contiguous(memory_format=torch.channels_last)
