"""Adam and AdamW against their algorithms; the state of every optimiser goes out and comes back whole."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from residual.models import NetworkSettings, ResidualNetwork, build, resolve
from residual.training.optimiser import OptimiserPart, OptimiserSettings, make_optimiser, set_rate

KINDS = ("sgd", "adam", "adamw")


def tiny() -> ResidualNetwork:
    return build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 10, 1)).train()


def gradients(network: torch.nn.Module, step: int, dtype: torch.dtype = torch.float32) -> None:
    """A backward pass on the batch of a step."""
    images = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(step), dtype=dtype)
    network.zero_grad()
    cross_entropy(network(images), torch.arange(6)).backward()


@pytest.mark.parametrize("decay_on", ["weights", "all"])
@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_is_the_algorithm_of_its_paper(kind: str, decay_on: str) -> None:
    network = tiny().double()
    settings = OptimiserSettings(
        kind=kind, momentum=0.9, second_moment=0.999, epsilon=1e-8, weight_decay=0.01, decay_on=decay_on
    )
    optimiser = make_optimiser(network, settings)
    weights = {n: p.detach().clone() for n, p in network.named_parameters()}
    first = {n: torch.zeros_like(p) for n, p in weights.items()}
    second = {n: torch.zeros_like(p) for n, p in weights.items()}
    for step in range(1, 5):
        rate = 0.01 / step
        set_rate(optimiser, rate, 0.9)
        gradients(network, step, torch.float64)
        for name, parameter in network.named_parameters():
            decay = 0.01 if decay_on == "all" or parameter.ndim > 1 else 0.0
            gradient = parameter.grad
            assert gradient is not None
            if kind == "adam":
                gradient = gradient + decay * weights[name]
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            move = (first[name] / (1 - 0.9**step)) / ((second[name] / (1 - 0.999**step)).sqrt() + 1e-8)
            shrunk = weights[name] * (1 - rate * decay) if kind == "adamw" else weights[name]
            weights[name] = shrunk - rate * move
        optimiser.step()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter.detach(), weights[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_momentum_of_a_step_is_the_one_given(kind: str) -> None:
    optimiser = make_optimiser(tiny(), OptimiserSettings(kind=kind))
    set_rate(optimiser, 0.3, 0.7)
    for group in optimiser.param_groups:
        assert group["lr"] == 0.3
        assert (group["betas"][0] if kind != "sgd" else group["momentum"]) == 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_state_that_was_taken_back_goes_on_bit_for_bit(kind: str) -> None:
    settings = OptimiserSettings(kind=kind, weight_decay=0.01)
    network = tiny()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = make_optimiser(network, settings)
    for step in range(3):
        set_rate(optimiser, 0.01, 0.9)
        gradients(network, step)
        optimiser.step()
    other = copy.deepcopy(network)
    tensors = {name: t.clone().contiguous() for name, t in OptimiserPart(network, optimiser).tensors().items()}
    assert len(tensors) == len(list(network.parameters())) * (1 if kind == "sgd" else 3)
    again = make_optimiser(other, settings)
    OptimiserPart(other, again).restore(tensors, {})
    for step in range(3, 6):
        for one, its in ((network, optimiser), (other, again)):
            set_rate(its, 0.01, 0.85)
            gradients(one, step)
            its.step()
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


def test_nesterov_belongs_to_sgd() -> None:
    with pytest.raises(ValueError, match="nesterov is a choice of sgd"):
        OptimiserSettings(kind="adam", nesterov=True)
