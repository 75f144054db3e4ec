"""Grad-CAM against captum's, on networks of every form; overlays and pictures."""

from __future__ import annotations

import warnings

import pytest
import torch

from residual.analysis.explain import explain, grad_cam, overlay, overlays, relative
from residual.analysis.explaining import draw_explanation
from residual.data.preprocessing import measure
from residual.data.source import MemorySource
from residual.evaluation.answering import answer, plan_for
from residual.evaluation.classifier import Classifier
from residual.models import NetworkSettings, build, pack_weights, resolve
from tests.analysis.test_figures import picture_size


def captum_maps(network, layer, target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever captum's imports have to say
        from captum.attr import LayerGradCam  # here, since it takes its time and one process in two needs it
    return LayerGradCam(network, layer).attribute(images(), target=target, relu_attributions=True)


FORMS = {
    "resnet-8": {"name": "resnet-8"},
    "resnet-20": {"name": "resnet-20"},
    "preact-8": {"name": "resnet-8", "order": "full-pre-activation"},
    "preact-20": {"name": "resnet-20", "order": "full-pre-activation"},
    "bottleneck": {"name": "resnet-8", "unit": "bottleneck", "shortcut": "B"},
}


def network_of(form):
    network = build(resolve(NetworkSettings(**FORMS[form], widths=(4, 6, 8)), classes=5), seed=2)
    network(torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1)))  # statistics of its own
    return network


def images(count=3, side=16):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("form", FORMS)
def test_the_maps_are_those_of_captum(form):
    network = network_of(form)
    classes = torch.tensor([[0, 3], [4, 1], [2, 2]])
    found = grad_cam(network, images(), classes)
    network.eval()
    last = network.final if "preact" in form else network.stages[-1]
    for column in range(2):
        theirs = captum_maps(network, last, classes[:, column])
        torch.testing.assert_close(found[:, column], theirs[:, 0], rtol=1e-4, atol=1e-7)
    assert found.any()
    assert (found >= 0).all()


def test_a_head_that_tells_places_apart_is_followed_back_too():
    """With an average as head the gradient is the same at every place; here it is not."""
    network = network_of("resnet-8").eval()
    network.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8 * 4 * 4, 8), torch.nn.Tanh())
    classes = torch.tensor([[1], [0], [3]])
    theirs = captum_maps(network, network.stages[-1], classes[:, 0])
    torch.testing.assert_close(grad_cam(network, images(), classes), theirs, rtol=1e-4, atol=1e-7)
    assert theirs.any()


def test_the_network_is_left_as_it_was():
    network = network_of("resnet-8").train()
    before = pack_weights(network)
    grad_cam(network, images(), torch.zeros(3, 1, dtype=torch.int64))
    assert network.training
    assert pack_weights(network) == before
    assert all(parameter.grad is None for parameter in network.parameters())


def test_maps_come_to_the_size_of_the_image():
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 0, 0, 1] = 5.0
    maps[0, 1] = float("nan")
    found = relative(maps, (9, 8))
    assert found.shape == (1, 3, 9, 8)
    assert found[0, 0].max() == 1
    assert found[0, 0, 0, -1] == 1
    assert found[0, 0, -1, 0] == 0
    assert not found[0, 1:].any()


def test_an_overlay_is_grey_where_the_map_is_nothing():
    pixels = torch.randint(256, (3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    map_HW = torch.zeros(4, 4)
    map_HW[1, 2] = 1.0
    found = overlay(pixels, map_HW)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 4, 4))
    grey = (0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2]).round()
    others = map_HW == 0
    assert all(torch.equal(channel[others].float(), grey[others]) for channel in found)
    expected = [0.25 * float(grey[1, 2]) + 0.75 * value for value in (252, 255, 164)]
    assert found[:, 1, 2].tolist() == pytest.approx(expected, abs=1)
    assert torch.equal(overlay(pixels[:1], torch.zeros(4, 4)), pixels[:1].expand(3, 4, 4))


@pytest.fixture(scope="module")
def classifier():
    source = MemorySource(torch.randint(256, (70, 3, 16, 16)).byte(), torch.zeros(70, dtype=torch.int64))
    constants = measure(source, torch.arange(70), "mean-std")
    return Classifier(network_of("resnet-8").eval(), constants, tuple("abcde"), {}), source


def test_first_answers_are_explained(classifier):
    one, source = classifier
    found = explain(one, list(source.images), top_k=2)
    assert len(found) == 70  # more than one batch
    shares = one.probabilities(source.images)
    for row in (0, 69):
        best = shares[row].sort(descending=True)
        assert [name for name, _ in found[row].answers] == ["abcde"[k] for k in best.indices[:2].tolist()]
        assert [share for _, share in found[row].answers] == pytest.approx(best.values[:2].tolist(), rel=1e-4)
        maps = grad_cam(one.network, one.preprocessing.normalise(source.images[row : row + 1]), best.indices[None, :2])
        torch.testing.assert_close(found[row].maps, relative(maps, (16, 16))[0], rtol=1e-3, atol=1e-4)
    laid = overlays(one, list(source.images[:3]), [1, 0, 4])
    maps = grad_cam(one.network, one.preprocessing.normalise(source.images[2:3]), torch.tensor([[4]]))
    difference = laid[2].int() - overlay(source.images[2], relative(maps, (16, 16))[0, 0]).int()
    assert int(difference.abs().max()) <= 1
    assert overlays(one, [], []) == ()


def test_an_explanation_is_drawn(classifier, tmp_path):
    one, source = classifier
    (found,) = explain(one, [source.images[0]], top_k=3)
    draw_explanation(found, tmp_path / "a.png", "<photo>.png")
    width, height = picture_size(tmp_path / "a.png")
    assert width > 2 * height > 400


def test_a_network_that_an_evaluation_moved_is_explained(classifier, monkeypatch):
    """A move to a GPU makes every tensor anew, as here, and one made in inference mode has no gradient."""
    one, source = classifier

    def moved(network, *_, **__):
        return network._apply(lambda tensor: tensor.clone())

    monkeypatch.setattr(type(one.network), "to", moved)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        plan = plan_for(one, source, "1-crop", "probabilities")
        answer(one, source, torch.arange(3), plan, torch.device("cpu"))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
    assert not any(tensor.is_inference() for tensor in one.network.state_dict().values())
    assert len(overlays(one, list(source.images[:3]), [1, 0, 4])) == 3
