"""A small real sample of every benchmark; no claim about speed, which a busy machine could not keep."""

from __future__ import annotations

import dataclasses
import mmap

import pytest
import torch

from benchmarks import runs_listing, speed, start_up, train_throughput
from benchmarks.limit import Memory, product
from benchmarks.usual_loop import UsualImages, UsualLoop, UsualPhotographs
from campaigns import readme
from residual.data.source import Dataset, MemorySource
from residual.models import NetworkSettings, build, resolve
from residual.runs.folder import list_runs


@pytest.fixture(scope="module")
def known() -> tuple[Dataset, str]:
    return train_throughput.find_data()


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


def test_ours_and_theirs_take_turns(
    pixels: torch.Tensor, known: tuple[Dataset, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, what = known
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


@pytest.mark.slow
def test_the_first_step_of_a_new_run_and_of_one_far_on(cifar, tmp_path) -> None:
    changes = {"data.limit": 500, "network.name": "resnet-8", "compute.precision": "float32", "compute.threads": 1}
    found = start_up.measure(str(cifar), tmp_path, 1, changes, warm=0)
    assert found["first_steps"] == {"train": 1, "resume at 1": 2, "resume at 60,000": 60_001}
    assert found["ratio"] > 0
    assert "as long as at step 1" in readme.ROWS["start-up"](found)[1]


def test_the_usual_photographs_are_cut_from_the_file(tmp_path) -> None:
    files, labels = speed.photographs(tmp_path, 2)
    images = UsualPhotographs(files, labels, 64)
    image, label = images[1]
    assert (image.shape, label, labels) == ((3, 64, 64), 1, [0, 1])
    assert not torch.equal(image, images[1][0])
    plain = images.plain()
    assert torch.equal(plain[0][0], plain[0][0])
    assert len({images._window(500, 375) for _ in range(20)}) > 10
    for left, top, right, bottom in (images._window(40, 30) for _ in range(50)):
        assert 0 <= left < right <= 40
        assert 0 <= top < bottom <= 30


def test_all_is_measured_of_one_network(pixels: torch.Tensor, known: tuple[Dataset, str]) -> None:
    source = MemorySource(pixels, torch.arange(256) % 10)
    dataset = dataclasses.replace(known[0], train=source, test=source)
    case = speed.Case("resnet-8", "cifar10-paper", 16, steps=2, answers=2, warm=1, share=1.0, workers=(0,))
    usual = UsualImages(pixels.permute(0, 2, 3, 1).contiguous().numpy(), [number % 10 for number in range(256)])
    changes = {"network.widths": [4, 4, 4], "compute.threads": 1}
    found = speed.compare(case, dataset, usual, changes, minutes=0.0, most=1, sides=(64,))
    assert found["turns"] == 1
    for part in (found["training"], found["inference"]):
        assert part["ratio"]["values"] == [part["ours"]["values"][0] / part["theirs"]["values"][0]]
        assert part["share_of_limit"] > 0
    result = {"networks": {"resnet-8": found}, "minutes": 0}
    assert "resnet-8, batch 16: training" in readme.ROWS["speed"](result)[1]
    assert speed.line("resnet-8", found).startswith("resnet-8: training")


def test_the_limit_and_the_memory_are_measured() -> None:
    assert product(torch.float32, sides=(64,), repeats=1) > 0
    memory = Memory()
    with mmap.mmap(-1, 64 << 20) as held:  # pages that nobody had before
        held.write(b"1" * (64 << 20))
        peak = memory.peak()
    assert peak is None or peak > 60 << 20


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
