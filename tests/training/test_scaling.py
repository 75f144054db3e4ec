"""Loss scaling: the factor's rules are torch's, an overflow moves nothing, and float16 trains."""

from __future__ import annotations

import json

import pytest
import torch

from residual.data.batches import Batch
from residual.errors import NonFiniteError
from residual.models import NetworkSettings, ResidualNetwork, build, resolve
from residual.training import scaling as rules
from residual.training.compute import Compute
from residual.training.optimiser import OptimiserPart, OptimiserSettings, make_optimiser, set_rate
from residual.training.scaling import Scaling
from residual.training.step import Guard, train_step

FLOAT16 = Compute("cpu", "float16", "channels-last", 1, False)
FLOAT32 = Compute("cpu", "float32", "channels-last", 1, False)


def tiny() -> ResidualNetwork:
    return build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 10, 1)).train()


def some_batch() -> Batch:
    images = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(8) % 10, torch.arange(8))


def test_the_factor_follows_the_rules_of_torchs_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "INTERVAL", 3)
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    theirs = torch.amp.GradScaler("cpu", init_scale=rules.FIRST, growth_interval=3)
    ours = Scaling(optimiser)
    for value in (1.0, float("inf"), float("nan"), 1.0, 1.0, 1.0, 1.0, float("inf"), 1.0, 1.0, 1.0, 1.0):
        optimiser.zero_grad()
        theirs.scale((weight * value).sum()).backward()
        theirs.step(optimiser)
        theirs.update()
        assert float(ours.overflown(torch.tensor(value))) == float(value != 1)
        assert float(ours.factor) == theirs.get_scale()


def test_a_gradient_is_that_without_scaling() -> None:
    moved = []
    for scaled in (False, True):
        network = tiny()
        optimiser = make_optimiser(network, OptimiserSettings(clip=0.5))
        set_rate(optimiser, 0.1, 0.9)
        guard = Guard.on(torch.device("cpu"), scaling=Scaling(optimiser) if scaled else None)
        for step in range(3):
            train_step(network, optimiser, some_batch(), FLOAT32, 0.1, step, OptimiserSettings(clip=0.5), guard)
        moved.append([p.detach() for p in network.parameters()])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("when", [0, 2])
def test_an_overflow_leaves_the_update_out_and_halves_the_factor(kind: str, when: int) -> None:
    network = tiny()
    optimiser = make_optimiser(network, OptimiserSettings(kind=kind))
    set_rate(optimiser, 0.1, 0.9)
    scaling = Scaling(optimiser)
    guard = Guard.on(torch.device("cpu"), scaling=scaling)
    bias = network.get_parameter("classifier.bias")
    for step in range(4):
        before = {n: p.detach().clone() for n, p in network.named_parameters()}
        kept = {n: t.clone() for n, t in OptimiserPart(network, optimiser).tensors().items()}
        hook = bias.register_hook(lambda gradient: gradient * float("inf")) if step == when else None
        train_step(network, optimiser, some_batch(), FLOAT32, 0.0, step, guard=guard)
        same = all(torch.equal(p, before[n]) for n, p in network.named_parameters())
        assert same == (step == when)
        assert float(scaling.factor) == rules.FIRST / (2 if step >= when else 1)
        if hook is not None:
            hook.remove()
            after = OptimiserPart(network, optimiser).tensors()
            assert all(torch.equal(after[n], t) for n, t in kept.items() if not n.endswith("|step"))
            assert all(bool(t.isfinite().all()) for t in after.values())


def test_an_overflow_that_no_factor_cures_is_an_error() -> None:
    network = tiny()
    optimiser = make_optimiser(network, OptimiserSettings())
    set_rate(optimiser, 0.1, 0.9)
    guard = Guard.on(torch.device("cpu"), scaling=Scaling(optimiser))
    network.get_parameter("classifier.bias").register_hook(lambda gradient: gradient * float("inf"))
    for step in range(16):  # from 2 ** 16 down to 1
        train_step(network, optimiser, some_batch(), FLOAT32, 0.0, step, guard=guard)
    with pytest.raises(NonFiniteError, match="the gradient is not finite at step 16"):
        train_step(network, optimiser, some_batch(), FLOAT32, 0.0, 16, guard=guard)


def test_float16_learns_and_keeps_its_weights_in_float32() -> None:
    network = tiny()
    optimiser = make_optimiser(network, OptimiserSettings())
    set_rate(optimiser, 0.05, 0.9)
    guard = Guard.on(torch.device("cpu"), scaling=Scaling(optimiser))
    losses = [
        float(train_step(network, optimiser, some_batch(), FLOAT16, 0.0, step, guard=guard).loss_sum)
        for step in range(12)
    ]
    assert losses[-1] < 0.7 * losses[0]
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_the_factor_is_a_part_of_the_state() -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    first, second = Scaling(optimiser), Scaling(optimiser)
    for size in (1.0, float("inf"), 1.0, 1.0):
        first.overflown(torch.tensor(size))
    second.restore(first.tensors(), json.loads(json.dumps(first.facts())))
    assert (float(second.factor), int(second.good)) == (rules.FIRST / 2, 2)
