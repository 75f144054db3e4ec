"""What is measured on networks: responses, gradients, lesions, probes, constructed depth, the additive form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from residual.analysis.construction import deepened
from residual.analysis.probing import features, linear_cka, probe, probes
from residual.analysis.propagation import mean_ratio, signals, stack_variances
from residual.analysis.responses import response_points, responses
from residual.analysis.surgery import lesions, removable, replaced
from residual.analysis.unrolling import branch_of, gradient_violation, states, sum_violation
from residual.chance import stream
from residual.data.preprocessing import measure
from residual.data.source import MemorySource, everything
from residual.errors import UsageError
from residual.models import NetworkSettings, build, resolve
from residual.models.units import Unit

PIXELS = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=stream(0, "tests"))
IMAGES = PIXELS.float() / 255 - 0.5
LABELS = torch.arange(40) % 10


def slow_cka(a: Tensor, b: Tensor) -> float:
    """Song et al. 2012, equation 5, with the matrices written out."""

    def hsic(k: Tensor, m: Tensor) -> Tensor:
        n = len(k)
        k, m = k - k.diag().diag(), m - m.diag().diag()
        one = torch.ones(n, dtype=k.dtype)
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return ((k @ m).trace() + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    k, m = a @ a.T, b @ b.T
    return float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt())


def network(**parts):
    settings = NetworkSettings.model_validate({"name": "resnet-8", "widths": [4, 8, 8], **parts})
    return build(resolve(settings, classes=10), seed=3)


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        ({}, {nn.BatchNorm2d}),
        ({"name": "plain-8"}, {nn.BatchNorm2d}),
        ({"norm": "none"}, {nn.Conv2d}),
        ({"order": "full-pre-activation"}, {nn.BatchNorm2d, nn.Conv2d}),
        ({"unit": "bottleneck", "shortcut": "B"}, {nn.BatchNorm2d}),
    ],
)
def test_a_response_is_taken_after_the_normalisation_that_follows_a_3x3(parts, kinds):
    made = network(**parts)
    points = response_points(made)
    assert next(iter(points)) == "stem.conv"
    assert all(made.get_submodule(name).kernel_size == (3, 3) for name in points)
    assert {type(module) for module in points.values()} == kinds
    if parts.get("order"):  # within the branch the second normalisation follows the first convolution
        assert points["stages.0.0.conv1"] is made.get_submodule("stages.0.0.norm2") or isinstance(
            points["stages.0.0.conv1"], nn.Conv2d
        )


def test_responses_are_standard_deviations_over_all_images_and_pixels():
    made = network().eval()
    kept = []
    hook = made.get_submodule("stages.1.0.norm2").register_forward_hook(lambda m, i, o: kept.append(o.detach()))
    with torch.no_grad():
        made(IMAGES)
    hook.remove()
    made.train()
    found = responses(made, IMAGES.split(16))
    assert found.layers["stages.1.0.conv2"] == pytest.approx(float(kept[0].double().std(correction=0)), rel=1e-6)
    assert len(found.layers) == 7
    assert found.mean == pytest.approx(sum(found.layers.values()) / 7)
    assert set(found.shares) == {f"stages.{stage}.0" for stage in range(3)}
    assert made.training
    silent = network()
    nn.init.zeros_(silent.get_parameter("stages.0.0.norm2.weight"))
    assert responses(silent, [IMAGES]).shares["stages.0.0"] == 0


def test_signals_are_those_of_a_pass_and_leave_the_network_as_it_was():
    made = network()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    found = signals(made, IMAGES, LABELS)
    assert found.names[0] == "stem.conv"
    assert len(found.names) == 7
    assert all(value > 0 for value in (*found.variances, *found.gradients, *found.weight_gradients))
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    nn.functional.cross_entropy(made(IMAGES), LABELS).backward()
    weight = made.get_submodule("stages.2.0.conv2").get_parameter("weight")
    assert weight.grad is not None
    assert found.weight_gradients[-1] == pytest.approx(float(weight.grad.norm()), rel=1e-4)


def test_variances_through_relu_layers_follow_the_factor():
    for factor in (2.0, 1.0):
        chain = stack_variances(factor, 12, 256, 64, stream(1, "chain", int(factor)))
        assert mean_ratio(chain) == pytest.approx(factor / 2, rel=0.06)


def test_a_plain_network_deepened_by_identities_answers_the_same():
    made = network(name="plain-8").double().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1.3)
            nn.init.constant_(module.bias, 0.2)
    deep = deepened(made, 2).double().eval()
    assert deep.spec.weighted_layers == 8 + 2 * 2 * 3
    images = IMAGES.double()
    assert (deep(images) - made(images)).abs().max() < 1e-6 * made(images).abs().max()
    with pytest.raises(UsageError, match="no plain network"):
        deepened(network(), 1)


def test_the_additive_form_is_exact_where_identities_are_and_only_there():
    def stage(**parts):
        made = network(depths=[3, 1, 1], **parts).double().eval()
        return [unit for unit in made.stages[0].children() if isinstance(unit, Unit)]

    maps = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=stream(0, "maps"))
    exact = stage(order="full-pre-activation")
    assert sum_violation(exact, maps) < 1e-12
    assert gradient_violation(exact, maps) < 1e-12
    assert sum_violation(exact, maps, first=1, lower=0) > 1e-3
    assert sum_violation(stage(), maps) > 1e-3
    with torch.no_grad():
        x = states(exact, maps)
        assert torch.allclose(branch_of(exact[1], x[1]), x[2] - x[1], atol=1e-12)
    with pytest.raises(ValueError, match="plain sum"):
        branch_of(stage(name="plain-8")[0], maps)


def test_units_that_keep_their_maps_can_be_deleted_and_swapped():
    made = network(depths=[2, 3, 1])
    assert removable(made) == [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert removable(network(name="plain-8", depths=[2, 3, 1])) == [(0, 0), (0, 1), (1, 1), (1, 2)]
    nn.init.zeros_(made.get_parameter("stages.0.1.norm2.weight"))  # the identity: it is not missed
    source = MemorySource(PIXELS, LABELS)
    constants = measure(source, everything(source), "mean-std")
    told = []
    found = lesions(
        made, source, everything(source), constants, torch.device("cpu"), lambda done, whole: told.append((done, whole))
    )
    assert found.units == tuple(removable(made))
    assert found.pairs == ((0, 0), (1, 1))
    assert found.deleted[1] == found.whole
    assert found.swapped[0] == found.whole
    assert told[-1] == (7, 7)
    before = made.stages[1]
    with replaced(made, 1, list(before.children())[:1]):
        assert len(made.stages[1]) == 1
    assert made.stages[1] is before


def test_a_probe_reads_what_is_linear_and_nothing_where_there_is_nothing():
    generator = stream(0, "probe")
    centres = torch.randn(4, 6, dtype=torch.float64, generator=generator) * 4
    labels, truth = torch.arange(200) % 4, torch.arange(100) % 4
    noise = torch.randn(300, 6, dtype=torch.float64, generator=generator)
    train, test = centres[labels] + noise[:200], centres[truth] + noise[200:]
    assert probe(train, labels, test, truth, 4) > 95
    assert probe(noise[:200], labels, noise[200:], truth, 4) < 50


def test_likeness_is_one_up_to_rotation_and_scale_and_small_for_strangers():
    a = torch.randn(400, 5, dtype=torch.float64, generator=stream(0, "a"))
    turn, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=stream(0, "turn")))
    assert linear_cka(a, 3 * a @ turn + 7) == pytest.approx(1)
    for channels in (5, 300):
        b = torch.randn(400, channels, dtype=torch.float64, generator=stream(0, "b"))
        assert abs(linear_cka(a, b)) < 0.05, "unrelated features are unlike, however many there are"
        assert linear_cka(a, b) == pytest.approx(slow_cka(a, b), abs=1e-12)
    assert linear_cka(a, torch.ones(400, 5, dtype=torch.float64)) == 0


def test_every_unit_is_probed_in_order():
    made = network(depths=[2, 1, 1])
    given = features(made, IMAGES.split(25))
    assert list(given) == ["stem", "stages.0.0", "stages.0.1", "stages.1.0", "stages.2.0"]
    assert given["stages.1.0"].shape == (40, 8)
    found = probes(given, LABELS, given, LABELS, 10)
    assert len(found.accuracy) == 5
    assert found.within == (False, True, False, False)
