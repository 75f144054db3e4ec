"""Ten-crop and multi-scale against a slow implementation of their own: one image, one view, one pixel at a time."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image

from residual.data.folder import Wishes, open_folder
from residual.data.geometry import Geometry
from residual.data.preprocessing import measure
from residual.data.source import MemorySource, SizedSource, names
from residual.errors import UsageError
from residual.evaluation import protocols
from residual.evaluation.answering import _groups, answer, mind_mirrors, plan_for
from residual.evaluation.classifier import Classifier
from residual.evaluation.evaluate import evaluate
from residual.evaluation.protocols import CORNERS, Frame, choose, combine, corner, scaled
from residual.models import NetworkSettings, build, resolve
from residual.models.networks import outline
from tests.data.photographs import photographs

CPU = torch.device("cpu")
COUNT, CLASSES = 3, 4


def noise(*shape, seed=0):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


class Photographs(MemorySource):
    """Images of several shapes, which cover any size asked for and can be had a little larger than it."""

    def read_sized(self, indices, size):
        extra = [(0, 3), (2, 0), (0, 3)]
        return [
            noise(self.images.shape[1], size[0] + extra[i][0], size[1] + extra[i][1], seed=10 * i + size[0])
            for i in indices.tolist()
        ]


def classifier_of(source, normalisation, name="resnet-8"):
    spec = resolve(NetworkSettings(name=name, widths=(4, 4, 4)), CLASSES, channels=source.images.shape[1])
    network = build(spec, seed=1)
    network(torch.randn(8, spec.channels, 12, 12, generator=torch.Generator().manual_seed(3)))  # its own statistics
    constants = measure(source, torch.arange(len(source)), normalisation)
    return Classifier(network.eval(), constants, tuple("abcd"), {"step": 1})


def source_of(size, kind=MemorySource, channels=1):
    return kind(noise(COUNT, channels, *size), torch.tensor([0, 3, 1]))


def by_hand(preprocessing, pixels, top, left, zeros, mirrored):
    """One crop, pixel by pixel; of an image without zeros around it the constants belong to the crop."""
    height, width = preprocessing.image_size
    mean = preprocessing.mean.expand(-1, height, width)
    found = torch.zeros(1, pixels.shape[0], height, width)
    for c in range(pixels.shape[0]):
        for y in range(height):
            for x in range(width):
                row, column = top + y - zeros, left + x - zeros
                if not (0 <= row < pixels.shape[1] and 0 <= column < pixels.shape[2]):
                    continue
                at = (row, column) if zeros else (y, x)
                value = float(pixels[c, row, column]) / 255
                place = width - 1 - x if mirrored else x
                found[0, c, y, place] = (value - float(mean[c][at])) / float(preprocessing.std[c])
    return found


def averaged(classifier, views):
    """The mean probabilities of views, one after the other."""
    with torch.inference_mode():
        shares = [classifier.network(view).softmax(1)[0] for view in views]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
@pytest.mark.parametrize("size", [(9, 9), (16, 17)])
def test_ten_crops_of_images_in_memory(size, normalisation):
    source = source_of(size)
    classifier = classifier_of(source, normalisation)
    plan = plan_for(classifier, source, "10-crop", "probabilities")
    z = max(1, min(size) // 8)
    assert f"border of {z} zeros" in plan.words
    found = answer(classifier, source, torch.tensor([2, 0, 1]), plan, CPU).softmax(1)
    for row, number in enumerate([2, 0, 1]):
        corners = [(0, 0), (0, 2 * z), (2 * z, 0), (2 * z, 2 * z), (z, z)]
        views = [
            by_hand(classifier.preprocessing, source.images[number], *at, z, mirrored)
            for at in corners
            for mirrored in (True, False)
        ]
        torch.testing.assert_close(found[row], averaged(classifier, views), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
@pytest.mark.parametrize("side", [8, 13])
def test_ten_crops_of_image_files(side, normalisation):
    source = source_of((side, side), Photographs)
    classifier = classifier_of(source, normalisation)
    plan = plan_for(classifier, source, "10-crop", "probabilities")
    grown = {8: 9, 13: 15}[side]
    assert f"resized to a shorter side of {grown}" in plan.words
    found = answer(classifier, source, torch.arange(COUNT), plan, CPU).softmax(1)
    for row, pixels in enumerate(source.read_sized(torch.arange(COUNT), (grown, grown))):
        down, right = pixels.shape[1] - side, pixels.shape[2] - side
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        views = [
            by_hand(classifier.preprocessing, pixels, *at, 0, mirrored) for at in corners for mirrored in (True, False)
        ]
        torch.testing.assert_close(found[row], averaged(classifier, views), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
def test_multi_scale_is_dense_at_every_size(normalisation):
    """The fully connected layer is asked at every place of the last maps, and its answers averaged."""
    side = 9
    source = source_of((side, side), Photographs, channels=3)
    classifier = classifier_of(source, normalisation)
    plan = plan_for(classifier, source, "multi-scale", "probabilities")
    sides = [9, 10, 15, 19, 26]
    assert "9, 10, 15, 19, 26" in plan.words
    found = answer(classifier, source, torch.arange(COUNT), plan, CPU).softmax(1)
    network, constants = classifier.network, classifier.preprocessing
    for row in range(COUNT):
        shares = []
        for scale in sides:
            pixels = source.read_sized(torch.tensor([row]), (scale, scale))[0]
            image = (pixels.float() / 255 - _mean_at(constants.mean, pixels.shape[1:])) / constants.std
            for mirrored in (False, True):
                view = image[:, :, range(image.shape[2])[::-1]] if mirrored else image
                with torch.inference_mode():
                    maps = network.features(view.unsqueeze(0))[-1][0]
                    height, width = maps.shape[1:]
                    places = [network.classifier(maps[:, y, x]) for y in range(height) for x in range(width)]
                assert len(places) > 1
                shares.append((sum(places) / len(places)).softmax(0))
        torch.testing.assert_close(found[row], sum(shares) / len(shares), rtol=1e-4, atol=1e-6)


def _mean_at(mean, size):
    if mean.shape[1:] == (1, 1):
        return mean
    planes = [Image.fromarray(plane.numpy()).resize((size[1], size[0]), Image.Resampling.BILINEAR) for plane in mean]
    return torch.stack([torch.from_numpy(numpy.array(plane)) for plane in planes])


def test_images_in_memory_are_resized_as_pillow_does():
    source = source_of((9, 8))
    ((rows, pixels),) = _groups(source, torch.arange(COUNT), Frame((15, 13)))
    assert rows.tolist() == [0, 1, 2]
    for mine, theirs in zip(pixels, source.images, strict=True):
        resized = Image.fromarray(theirs[0].numpy()).resize((13, 15), Image.Resampling.BILINEAR)
        difference = mine[0].int() - torch.from_numpy(numpy.array(resized)).int()
        assert int(difference.abs().max()) <= 1


def test_files_are_read_at_other_sizes_whole(tmp_path):
    photographs(tmp_path / "photos", count=4)
    source = open_folder(tmp_path / "photos", Wishes(image_size=24)).train
    assert isinstance(source, SizedSource)
    numbers = torch.tensor([5, 1])
    for name, pixels in zip(names(source, numbers), source.read_sized(numbers, (27, 27)), strict=True):
        with Image.open(tmp_path / "photos" / name) as image:
            expected = image.resize((30, 27), Image.Resampling.BILINEAR)  # of 40 x 36
        difference = pixels.permute(1, 2, 0).int() - torch.from_numpy(numpy.array(expected)).int()
        assert int(difference.abs().max()) <= 1
    with pytest.raises(IndexError):
        source.read_sized(torch.tensor([-1]), (27, 27))


def test_the_single_view_is_what_an_evaluation_sees():
    source = source_of((12, 12))
    classifier = classifier_of(source, "mean-std")
    plan = plan_for(classifier, source, "1-crop", "probabilities")
    logits = answer(classifier, source, torch.arange(COUNT), plan, CPU)
    judged = evaluate(classifier.network, source, torch.arange(COUNT), classifier.preprocessing, CPU)
    assert judged is not None
    loss = torch.nn.functional.cross_entropy(logits, source.labels)
    assert judged.scores["loss"] == pytest.approx(float(loss), rel=1e-6)
    pairs = torch.stack([source.labels, logits.argmax(1)])
    assert all(int(judged.confusion[t, p]) for t, p in pairs.T.tolist())


def test_every_image_is_told_of_once_and_none_gives_nothing():
    source = source_of((8, 8))
    classifier = classifier_of(source, "mean-std")
    plan = plan_for(classifier, source, "10-crop", "logits")
    told: list[int] = []
    answer(classifier, source, torch.arange(COUNT), plan, CPU, told.append)
    assert sum(told) == COUNT
    assert answer(classifier, source, torch.arange(0), plan, CPU).shape == (0, CLASSES)


def test_sizes_are_those_of_the_paper_and_in_proportion():
    assert [scaled((224, 224), s) for s in (224, 256, 384, 480, 640)] == [(s, s) for s in (224, 256, 384, 480, 640)]
    assert scaled((32, 32), 256) == (37, 37)
    assert scaled((32, 48), 640) == (91, 137)
    assert [corner(place, (10, 13), (7, 7)) for place in CORNERS] == [(0, 0), (0, 6), (3, 0), (3, 6), (1, 3)]


@pytest.mark.parametrize(("protocol", "views"), [("1-crop", 1), ("10-crop", 10), ("multi-scale", 10)])
def test_a_plan_names_its_protocol(protocol, views):
    for sized in (True, False):
        plan = choose(protocol, (32, 32), sized, "logits")
        assert plan.words.startswith(protocol)
        assert plan.views == views
        assert ("logits averaged" in plan.words) == (views > 1)


def test_the_single_view_of_a_file_names_what_is_cut_off():
    assert "centre of a shorter side of 256" in choose("1-crop", (224, 224), True, geometry=Geometry(share=0.875)).words
    assert "centre" not in choose("1-crop", (32, 32), False).words


def test_hidden_layers_of_one_size_are_not_applied_densely():
    source = source_of((32, 32), channels=3)
    spec = resolve(NetworkSettings(name="resnet-8", head="vgg"), CLASSES)
    classifier = Classifier(outline(spec), measure(source, torch.arange(3), "mean-std"), tuple("abcd"), {})
    with pytest.raises(UsageError, match="maps of one size"):
        plan_for(classifier, source, "multi-scale", "probabilities")
    assert plan_for(classifier, source, "10-crop", "probabilities").views == 10


def test_averages_by_hand():
    logits = torch.tensor([[[1.0, 0.0, 3.0]], [[2.0, -1.0, 0.0]]])
    shares = [[numpy.exp(v) / numpy.exp(row).sum() for v in row] for row in logits[:, 0].double().numpy()]
    by_shares = combine(logits, "probabilities")
    expected = [(a + b) / 2 for a, b in zip(*shares, strict=True)]
    assert by_shares.exp()[0].tolist() == pytest.approx(expected, rel=1e-6)
    assert by_shares.softmax(1)[0].tolist() == pytest.approx(expected, rel=1e-6)
    assert combine(list(logits), "logits").tolist() == [[1.5, -0.5, 1.5]]
    for average in ("probabilities", "logits"):
        assert torch.equal(combine(logits[:1], average), logits[0])


@pytest.mark.parametrize(("resize", "seen"), [("pad", "whole images with a border"), ("squash", "squashed")])
def test_what_a_protocol_shows_otherwise_than_the_training_did_is_said(resize, seen, caplog):
    made = classifier_of(source_of((12, 12)), "mean-std")
    made.provenance["mirror"] = True
    shown = replace(made, preprocessing=replace(made.preprocessing, resize=resize))
    said = {}
    with caplog.at_level(logging.WARNING, "residual"):
        for protocol in ("1-crop", "10-crop", "multi-scale"):
            caplog.clear()
            mind_mirrors(shown, "runs/a", protocol)
            mind_mirrors(made, "runs/a", protocol)
            said[protocol] = caplog.messages
    assert said["1-crop"] == []
    for protocol, words in (("10-crop", "cuts the ends"), ("multi-scale", "whole images in their own proportions")):
        (line,) = said[protocol]
        assert words in line
        assert seen in line


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_answers_are_averaged_a_few_rows_at_a_time(average, monkeypatch):
    members = [torch.randn(50, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    wanted = combine(members, average)
    sizes = []
    stack = torch.stack

    def counted(tensors):
        sizes.append(sum(map(torch.numel, tensors)))
        return stack(tensors)

    monkeypatch.setattr(protocols, "_AT_ONCE", 100)
    monkeypatch.setattr(torch, "stack", counted)
    torch.testing.assert_close(combine(members, average), wanted, rtol=1e-6, atol=1e-6)
    assert max(sizes) <= 100
    assert sum(sizes) == 3 * 50 * 4
    assert combine([one[:0] for one in members], average).shape == (0, 4)
