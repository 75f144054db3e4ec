"""A small real sample of every benchmark; no claim about speed, which a busy machine could not keep."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks import runs_listing, train_throughput
from benchmarks.usual_loop import UsualImages, UsualLoop
from campaigns import readme
from residual.data.source import MemorySource
from residual.models import NetworkSettings, build, resolve
from residual.runs.folder import list_runs


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_usual_images_are_crops_of_the_padded_image_or_its_mirror(pixels: torch.Tensor) -> None:
    images = UsualImages(pixels.permute(0, 2, 3, 1).contiguous().numpy(), list(range(256)))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
    padded = torch.nn.functional.pad(pixels[7], (4, 4, 4, 4)).float() / 255
    crops = [padded[:, top : top + 32, left : left + 32] for top in range(9) for left in range(9)]
    possible = [(crop - mean) / std for crop in (*crops, *(crop.flip(2) for crop in crops))]
    met = set()
    for _ in range(40):
        image, label = images[7]
        assert label == 7
        places = [number for number, one in enumerate(possible) if torch.allclose(one, image, atol=1e-6)]
        assert len(places) == 1
        met.add(places[0])
    assert len(met) > 20
    assert {place >= 81 for place in met} == {False, True}


def test_the_usual_loop_learns(pixels: torch.Tensor) -> None:
    images = UsualImages(pixels.permute(0, 2, 3, 1).contiguous().numpy(), [0] * 256)
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 10, 3), 0)
    loop = UsualLoop(network, images, torch.device("cpu"), 0)
    assert loop.rate(steps=6, warm=1) > 0
    assert loop.seen == 7 * 128
    assert loop.hits > 0.5 * loop.seen


def test_ours_and_theirs_take_turns(pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, what = train_throughput.find_data()
    assert what == "CIFAR-10" or "random" in what
    source = MemorySource(pixels, torch.arange(256) % 10)
    dataset = dataclasses.replace(whole, train=source, test=source)
    monkeypatch.setitem(train_throughput.SETTINGS, "network.widths", [4, 4, 4])
    found = train_throughput.compare("resnet-8", dataset, rounds=2, steps=2, warm=1, workers=(0,))
    for side in ("ours", "theirs"):
        assert len(found[side]["values"]) == 2
        assert 0 < found[side]["least"] <= found[side]["median"] <= found[side]["most"]
    ours, theirs = (found[side]["values"] for side in ("ours", "theirs"))
    assert found["ratio"]["values"] == [ours[0] / theirs[0], ours[1] / theirs[1]]
    assert found["theirs"]["workers"] == 0
    what, figure, _ = readme.ROWS["train-throughput"](
        {"networks": {"resnet-8": found}, "data": what, "batch_size": 128, "rounds": 2}
    )
    assert "resnet-8: " in figure


def test_a_listing_of_few_and_more_runs(tmp_path) -> None:
    run = runs_listing.make_one(tmp_path / "one", 4)
    found = runs_listing.measure(run, tmp_path, many=8, rounds=1)
    assert found["records"] == len(run.records()) >= 4
    assert found["table"]["seconds"] > 0
    assert "8 runs of" in readme.ROWS["runs-listing"](found)[0]
    copies = list_runs(tmp_path / "8")
    assert len(copies) == 8
    assert [copy.result() is None for copy in copies].count(True) == 2
    assert all(copy.records() == run.records() for copy in copies)
