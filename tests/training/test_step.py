"""One step of training: the update of the source, and no update at all on non-finite values."""

from __future__ import annotations

import pytest
import torch

from residual.data.batches import Batch
from residual.errors import NonFiniteError
from residual.models import NetworkSettings, ResidualNetwork, build, resolve
from residual.training.compute import Compute
from residual.training.optimiser import OptimiserPart, OptimiserSettings, make_optimiser, set_rate
from residual.training.step import Guard, fault_of, loss_of, train_step, vouch

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
@pytest.mark.parametrize("place", ["image", "weight", "gradient", "statistic"])
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
    elif place == "statistic":
        network.get_buffer("stages.1.0.norm1.running_var")[1] = value
    else:
        network.get_parameter("classifier.bias").register_hook(lambda gradient: gradient * value)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    with pytest.raises(NonFiniteError, match="step 7") as caught:
        train_step(network, optimiser, batch, FLOAT32, 0.0, 7)
    assert caught.value.exit_code == 7
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.detach().nan_to_num(), before[name].nan_to_num()), name


def test_a_weight_that_a_relu_hides_is_found_and_never_saved() -> None:
    network, batch = tiny(), some_batch()
    optimiser = make_optimiser(network, OptimiserSettings())
    set_rate(optimiser, 0.1, 0.9)
    vouch(network, 3)
    with torch.no_grad():
        network.get_parameter("stages.1.0.norm1.bias")[1] = -float("inf")
    assert bool(torch.isfinite(network(batch.images)).all())
    with pytest.raises(NonFiniteError, match=r"state of the network .* is not finite at step 3"):
        train_step(network, optimiser, batch, FLOAT32, 0.0, 3)
    with pytest.raises(NonFiniteError, match=r"stages\.1\.0\.norm1\.bias is not finite after step 2"):
        vouch(network, 3)


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


def test_mixed_images_count_both_labels_by_their_shares() -> None:
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    share = torch.tensor([1.0, 0.0, 0.3, 0.3])
    labels, partners = torch.tensor([1, 2, 3, 4]), torch.tensor([2, 1, 4, 3])
    batch = Batch(torch.zeros(4, 1, 2, 2), labels, torch.arange(4), partners, share)
    for smoothing in (0.0, 0.2):
        losses = -logits.log_softmax(1)
        even = smoothing * losses.mean(1)
        own = (1 - smoothing) * losses[torch.arange(4), labels] + even
        other = (1 - smoothing) * losses[torch.arange(4), partners] + even
        expected = (share * own + (1 - share) * other).mean()
        torch.testing.assert_close(loss_of(logits, batch, smoothing), expected)
    plain = Batch(batch.images, labels, batch.samples)
    torch.testing.assert_close(loss_of(logits, plain, 0.0), torch.nn.functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("parts", [2, 4, 5])
def test_a_gradient_in_parts_is_that_of_the_batch_without_batch_normalisation(parts: int, mixed: bool) -> None:
    moved = []
    for accumulate in (1, parts):
        network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4), norm="none"), 10, 1)).double()
        settings = OptimiserSettings(accumulate=accumulate)
        optimiser = make_optimiser(network, settings)
        set_rate(optimiser, 0.01, 0.9)
        batch = some_batch(12)
        share = torch.full((12,), 0.7, dtype=torch.float64)
        extra = (batch.labels.flip(0), share) if mixed else ()
        batch = Batch(batch.images.double(), batch.labels, batch.samples, *extra)
        result = train_step(network.train(), optimiser, batch, FLOAT32, 0.0, 0, settings)
        assert result.logits.shape == (12, 10)
        moved.append([*(p.detach() for p in network.parameters()), result.loss_sum.double()])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_gradient_is_clipped_to_its_largest_norm() -> None:
    network, batch = tiny(), some_batch()
    settings = OptimiserSettings(clip=0.01, momentum=0.0, weight_decay=0.0)
    optimiser = make_optimiser(network, settings)
    set_rate(optimiser, 1.0, 0.0)
    before = [p.detach().clone() for p in network.parameters()]
    train_step(network, optimiser, batch, FLOAT32, 0.0, 0, settings)
    moves = [one - p.detach() for one, p in zip(before, network.parameters(), strict=True)]
    assert float(torch.nn.utils.get_total_norm(moves)) == pytest.approx(0.01, rel=1e-4)


def test_a_guard_that_is_read_late_names_the_first_bad_step_and_stays_up() -> None:
    guard = Guard.on(torch.device("cpu"))
    values = [0.5, float("inf"), 0.5, float("nan")]
    for step, size in enumerate(values):
        faults = fault_of(torch.tensor(1.0), torch.tensor(size), torch.tensor(1.0)).unsqueeze(0)
        guard.watch(step + 10, faults, torch.arange(step, step + 9))
        guard.read(every=5)
    assert float(guard.bad) == 1
    with pytest.raises(NonFiniteError, match="gradient is not finite at step 11") as caught:
        guard.read()
    assert "images 1, 2, 3, 4, 5, ..." in str(caught.value)
    guard.read()


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_the_raised_flag_keeps_fused_updates_from_the_weights(kind: str) -> None:
    """What a GPU relies on: torch's fused kernels leave out an update whose flag is up."""
    network, batch = tiny(), some_batch()
    optimiser = make_optimiser(network, OptimiserSettings(kind=kind))
    set_rate(optimiser, 0.1, 0.9)
    train_step(network, optimiser, batch, FLOAT32, 0.0, 0)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    state = {n: t.clone() for n, t in OptimiserPart(network, optimiser).tensors().items() if not n.endswith("|step")}
    for flag, moves in ((1.0, False), (0.0, True)):
        setattr(optimiser, "found_inf", torch.tensor(flag))  # noqa: B010 - torch's stubs do not know it
        optimiser.step()
        same = all(torch.equal(p, before[n]) for n, p in network.named_parameters())
        assert same != moves
        kept = OptimiserPart(network, optimiser).tensors()
        assert all(torch.equal(kept[n], t) for n, t in state.items()) != moves


def test_weights_of_classes_scale_the_loss_of_their_images() -> None:
    batch, weights = some_batch(), torch.linspace(0.5, 2, 10)
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    each = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none", label_smoothing=0.1)
    weighed = Batch(batch.images, batch.labels, batch.samples, weights=weights)
    torch.testing.assert_close(loss_of(logits, weighed, 0.1), (each * weights[batch.labels]).mean())
    partners, share = batch.labels.flip(0), torch.linspace(0, 1, 6)
    mixed = Batch(batch.images, batch.labels, batch.samples, partners, share, weights)
    other = torch.nn.functional.cross_entropy(logits, partners, reduction="none", label_smoothing=0.1)
    expected = (share * each * weights[batch.labels] + (1 - share) * other * weights[partners]).mean()
    torch.testing.assert_close(loss_of(logits, mixed, 0.1), expected)


def test_weights_change_the_gradient_but_not_the_loss_that_is_told_nor_depend_on_its_parts() -> None:
    batch = some_batch()
    weighed = Batch(batch.images, batch.labels, batch.samples, weights=torch.linspace(0.5, 2, 10))
    told, gradients = [], []
    for one, parts in ((batch, 1), (weighed, 1), (weighed, 3)):
        network = tiny()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # its statistics are those of a part
        settings = OptimiserSettings(accumulate=parts)
        found = train_step(network, make_optimiser(network, settings), one, FLOAT32, 0.0, 0, settings)
        told.append(float(found.loss_sum))
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert told == pytest.approx([told[0]] * 3, rel=1e-5)
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-2)
    torch.testing.assert_close(gradients[1], gradients[2], rtol=1e-4, atol=1e-6)
