"""What learns at which step and how fast; what is frozen stays as it is to the last bit, statistics included."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from residual.data.batches import Batch
from residual.errors import UsageError
from residual.models import NetworkSettings, ResidualNetwork, build, heads, resolve
from residual.models.parts import part_of, parts
from residual.training.averaging import Averaging
from residual.training.compute import Compute
from residual.training.freezing import Freezing, StartSettings, make_freezing
from residual.training.optimiser import OptimiserSettings, make_optimiser, set_rate
from residual.training.statistics import measure_statistics
from residual.training.step import train_step

FORMS: dict[str, dict[str, Any]] = {
    "original": {"name": "resnet-8", "widths": (4, 4, 8), "shortcut": "B"},
    "pre-activation": {"name": "preact-20", "depths": (1, 1, 1), "widths": (4, 4, 8)},
    "groups": {"name": "resnet-8", "widths": (4, 4, 8), "norm_group": 4},
    "hidden layers": {"name": "resnet-8", "widths": (2, 2, 2), "head": "vgg", "dropout": 0.5},
    "dropped shortcuts": {"name": "resnet-8", "widths": (4, 4, 8), "shortcut_dropout": 0.5},
    "skipped units": {"name": "resnet-8", "widths": (4, 4, 8), "stochastic_depth": 0.5},
}


@pytest.fixture(autouse=True)
def _small_hidden_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_HIDDEN", 32)


CPU = Compute("cpu", "float32", "channels-last", 1, False)


def made(form: str = "original") -> ResidualNetwork:
    network = build(resolve(NetworkSettings.model_validate(FORMS[form]), 3, 1), seed=1)
    for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.get_buffer("running_mean"), -0.5, 0.5)
    return network


def batch(step: int, images: int = 12) -> Batch:
    chance = torch.Generator().manual_seed(step)
    pixels = torch.randn(images, 1, 16, 16, generator=chance)
    return Batch(pixels, torch.randint(0, 3, (images,), generator=chance), torch.arange(images))


def trained(network: ResidualNetwork, settings: StartSettings, steps: range, total: int, **others: Any) -> Freezing:
    """Steps of a run as the session takes them."""
    freezing = Freezing(network, settings, total)
    optimiser = make_optimiser(network, OptimiserSettings(weight_decay=0.1, **others), freezing.group)
    for step in steps:
        network.train()  # as an evaluation leaves it
        freezing.apply(step)
        set_rate(optimiser, 0.1, 0.9)
        train_step(network, optimiser, batch(step), CPU, 0.0, step)
    return freezing


def changed(before: dict[str, torch.Tensor], network: ResidualNetwork) -> set[str]:
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(("freeze", "frozen"), [("stem", 1), ("stage-1", 2), ("stage-2", 3), ("head-only", 4)])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_frozen_stays_bit_for_bit_and_all_else_moves(form, freeze, frozen, kind):
    network = made(form)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    averaging = Averaging(network, 0.9)
    trained(network, StartSettings(freeze=freeze), range(3), 3, kind=kind)
    for _ in range(3):
        averaging.stepped()
    kept = {name for name in before if part_of(name, 3) < frozen}
    assert changed(before, network) == set(before) - kept
    assert all(torch.equal(averaging.average[n], before[n]) for n in kept if n in averaging.average)


def test_parts_hold_every_module_once():
    for form in FORMS:
        network = made(form)
        modules = parts(network)
        assert len(modules) == 5
        found = [p for part in modules for module in part for p in module.parameters()]
        assert {id(p) for p in found} == {id(p) for p in network.parameters()}
        assert len(found) == len([*network.parameters()])
        for number, part in enumerate(modules):
            own = {id(p) for module in part for p in module.parameters()}
            assert own == {id(p) for name, p in network.named_parameters() if part_of(name, 3) == number}


def test_parts_begin_to_learn_at_their_shares_the_last_first():
    settings = StartSettings(freeze="head-only", unfreeze=(0.25, 0.5, 0.5))
    network = made()
    freezing = Freezing(network, settings, 10)
    assert [freezing.frozen(step) for step in range(10)] == [4, 4, 4, 3, 3, 1, 1, 1, 1, 1]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trained(network, settings, range(5), 10)
    assert {part_of(name, 3) for name in changed(before, network)} == {3, 4}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trained(network, settings, range(5, 7), 10)
    assert {part_of(name, 3) for name in changed(before, network)} == {1, 2, 3, 4}


def test_statistics_that_are_kept_stay_where_weights_move():
    network = made()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trained(network, StartSettings(freeze="stem", statistics="kept"), range(3), 3)
    moved = changed(before, network)
    assert not [name for name in moved if "running" in name or "tracked" in name]
    assert moved == {name for name, _ in network.named_parameters() if not name.startswith("stem.")}


def test_measured_statistics_leave_frozen_ones_alone():
    network = made()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    freezing = Freezing(network, StartSettings(freeze="stage-2"), 10)
    assert measure_statistics(network, [batch(n).images for n in range(3)], fixed=freezing.fixed(10))
    moved = changed(before, network)
    assert {part_of(name, 3) for name in moved} == {3}
    assert all("running" in name for name in moved)


def test_each_part_learns_slower_than_the_next_by_the_divisor():
    network = made()
    freezing = Freezing(network, StartSettings(rate_divisor=2.6), 10)
    optimiser = make_optimiser(network, OptimiserSettings(), freezing.group)
    set_rate(optimiser, 0.5, 0.8)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert {group["momentum"] for group in optimiser.param_groups} == {0.8}
    for name, parameter in network.named_parameters():
        below = 4 - part_of(name, 3)
        assert math.isclose(rates[id(parameter)], 0.5 / 2.6**below, rel_tol=1e-12), name
        assert below or rates[id(parameter)] == 0.5
    by_decay = [(len({part_of(n, 3) for n, _ in network.named_parameters()}), len(optimiser.param_groups))]
    assert by_decay == [(5, 10)]


def test_a_plain_start_freezes_nothing():
    assert make_freezing(made(), StartSettings(weights="run"), 10) is None
    for one in ({"freeze": "stem"}, {"rate_divisor": 2.0}, {"statistics": "kept"}):
        assert make_freezing(made(), StartSettings.model_validate(one), 10) is not None


def test_refusals():
    with pytest.raises(UsageError, match=r"3 stages, not 4 .*everything would be frozen: choose stage-3"):
        Freezing(made(), StartSettings(freeze="stage-4"), 10)
    with pytest.raises(UsageError, match="2 shares for 1 frozen part"):
        Freezing(made(), StartSettings(freeze="stem", unfreeze=(0.1, 0.2)), 10)
    with pytest.raises(ValidationError, match="must not fall"):
        StartSettings(freeze="head-only", unfreeze=(0.5, 0.4))
    with pytest.raises(ValidationError, match="nothing is frozen"):
        StartSettings(unfreeze=(0.5,))
    for word in ("all", "stage-0", "everything", "stage-"):
        with pytest.raises(ValidationError):
            StartSettings(freeze=word)
