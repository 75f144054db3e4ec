"""Images are decoded as they are asked for: the pixels depend on the numbers alone, and a bad file is named."""

from __future__ import annotations

import os
import threading
import time

import pytest
import torch
from PIL import Image

from residual.data import reading, workers
from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.folder import Wishes, open_folder
from residual.data.images import decode_bytes, fit, fitted, read_image
from residual.data.preprocessing import Preprocessing, measure
from residual.data.source import FileSource, MemorySource, everything
from residual.errors import DataError
from tests.data.photographs import encoded, photographs, picture


@pytest.fixture
def root(tmp_path):
    return photographs(tmp_path / "photos", count=6)


def opened(root, **wishes):
    return open_folder(root, Wishes(image_size=32, **wishes)).train


def test_it_is_a_source_of_files(root):
    source = opened(root)
    assert isinstance(source, FileSource)
    assert not isinstance(MemorySource(torch.zeros(1), torch.zeros(1)), FileSource)
    assert source.names(torch.tensor([17, 0])) == ["owl/005.png", "cat/000.jpg"]
    images = source.read(everything(source))
    assert (images.dtype, images.shape) == (torch.uint8, (18, 3, 32, 32))
    assert source.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert len(images.flatten(1).unique(dim=0)) == 18
    assert source.read(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 32, 32)
    for number in (18, -1):
        with pytest.raises(IndexError):
            source.read(torch.tensor([number]))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_any_number_of_threads_gives_the_same(root, threads):
    numbers = torch.tensor([3, 17, 3, 0, 9, 11, 5, 4, 16])
    assert torch.equal(opened(root, threads=threads).read(numbers), opened(root, threads=3).read(numbers))


def batches(source, seed=0):
    training = torch.arange(len(source))
    constants = measure(source, training, "mean-std")
    return Batches(source, training, constants, AugmentSettings(pad_crop=3, mirror=True), 7, seed)


def test_a_batch_is_the_same_whatever_was_expected(root):
    alone, ahead = batches(opened(root)), batches(opened(root))
    for step in (0, 1, 2, 3, 9, 2):
        ahead.expect(step + 1)
        ahead.expect(step + 2)
        ahead.expect(step + 40)  # never asked for
        one, other = alone.batch_at(step), ahead.batch_at(step)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.samples, other.samples)


def test_what_is_expected_is_decoded_before_it_is_asked_for(root, monkeypatch):
    source = opened(root, threads=2)
    begun = []
    one = fitted

    def counted(*arguments):
        begun.append(threading.current_thread().name)
        return one(*arguments)

    monkeypatch.setattr(reading, "fitted", counted)
    numbers = torch.tensor([1, 2, 3, 4, 5])
    source.expect(numbers)
    source.expect(numbers)
    until = time.monotonic() + 20
    while len(begun) < 5 and time.monotonic() < until:
        time.sleep(0.01)
    source.read(numbers)
    assert len(begun) == 5
    assert all(name.startswith("residual-images") for name in begun)
    source.read(numbers)
    assert len(begun) == 10  # nothing is kept


def test_few_requests_are_kept(root):
    source = opened(root)
    for number in range(12):
        source.expect(torch.tensor([number]))
    assert len(source._expected) == reading._AHEAD
    assert torch.equal(source.read(torch.tensor([0])), source.read(torch.tensor([0])))


def test_the_pixels_are_those_of_prediction(tmp_path):
    root = photographs(tmp_path / "photos", count=2)
    sizes = [(300, 200), (33, 90), (20, 20), (64, 65), (129, 128)]
    for number, size in enumerate(sizes):
        for form, suffix, options in (
            ("JPEG", "jpg", {"quality": 90}),
            ("PNG", "png", {}),
            ("WEBP", "webp", {}),
            ("TIFF", "tif", {}),
        ):
            data = encoded(picture(number, 1, size), form, **options)
            (root / "cat" / f"n{number}.{suffix}").write_bytes(data)
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "cat" / "turned.jpg").write_bytes(encoded(picture(9, 1, (300, 200)), "JPEG", exif=exif))
    for channels in (1, 3):
        source = opened(root, channels=channels)
        sight = Preprocessing((32, 32), channels, "mean-std", torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1))
        numbers = everything(source)
        for name, pixels in zip(source.names(numbers), source.read(numbers), strict=True):
            assert torch.equal(pixels, read_image(root / name, sight)), name


def test_a_large_jpeg_is_decoded_smaller_and_never_below_the_size_asked_for(tmp_path):
    smooth = picture(0, 0, (8, 6)).resize((400, 300), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=95)
    whole = decode_bytes(data, 3, "x")
    sides = {side: decode_bytes(data, 3, "x", side).shape[1:] for side in (32, 37, 75, 76, 150, 151, 300, 301)}
    assert {side: tuple(shape) for side, shape in sides.items()} == {
        32: (38, 50),  # an eighth
        37: (38, 50),
        75: (75, 100),  # a quarter
        76: (150, 200),  # a half
        150: (150, 200),
        151: (300, 400),
        300: (300, 400),
        301: (300, 400),
    }
    for side in (32, 75, 76, 151):
        quick, exact = (fit(image, (side, side)).float() for image in (decode_bytes(data, 3, "x", side), whole))
        assert (quick - exact).abs().mean() < 3  # of 255
    assert decode_bytes(encoded(smooth), 3, "x", 32).shape == whole.shape


# A data set that does not hold still


def refusal(source, number, **ahead):
    if ahead:
        source.expect(torch.tensor([number]))
    with pytest.raises(DataError) as caught:
        source.read(torch.tensor([number]))
    return str(caught.value)


@pytest.mark.parametrize("ahead", [{}, {"ahead": True}], ids=["", "expected"])
def test_a_file_that_goes_or_changes_is_named(root, ahead):
    source = opened(root)
    whole = (root / "cat" / "001.png").read_bytes()
    (root / "cat" / "000.jpg").unlink()
    assert "gone since the folder was scanned" in refusal(source, 0, **ahead)
    assert "cat/000.jpg" in refusal(source, 0, **ahead)
    (root / "cat" / "001.png").write_bytes((root / "dog" / "001.png").read_bytes())
    assert "changed since it was checked" in refusal(source, 1, **ahead)
    (root / "cat" / "001.png").write_bytes(whole)
    assert source.read(torch.tensor([1])).shape == (1, 3, 32, 32)
    (root / "cat" / "002.jpg").unlink()
    (root / "cat" / "002.jpg").mkdir()
    assert "not a regular file" in refusal(source, 2, **ahead)
    if hasattr(os, "mkfifo"):
        (root / "cat" / "003.png").unlink()
        os.mkfifo(root / "cat" / "003.png")
        assert "not a regular file" in refusal(source, 3, **ahead)


def test_the_first_bad_file_is_named_whoever_finds_it_first(root):
    source = opened(root, threads=8)
    for number in (2, 3, 4, 5):
        (root / "dog" / source.names(torch.tensor([6 + number]))[0].split("/")[1]).unlink()
    for _ in range(5):
        with pytest.raises(DataError, match=r"dog/002\.jpg"):
            source.read(torch.arange(18))


def test_an_error_waits_for_its_step(root):
    source = opened(root)
    (root / "owl" / "000.jpg").unlink()
    bad = torch.tensor([12])
    source.expect(bad)
    source.expect(torch.tensor([0]))
    assert source.read(torch.tensor([0])).shape[0] == 1
    with pytest.raises(DataError, match=r"owl/000\.jpg"):
        source.read(bad)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(root):
    source = opened(root, threads=2)
    right = source.read(torch.tensor([0, 7]))
    torch.set_num_threads(1)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(source.read(torch.tensor([0, 7])), right) else 1)
    until = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.02)
    if done == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done == (child, 0)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads as Linux lists them")
def test_the_threads_that_decode_start_no_others(tmp_path):
    root = photographs(tmp_path, ["a", "b"], 1)
    for number in range(12):
        (root / "a" / f"n{number}.jpg").write_bytes(encoded(picture(number, 0, (700, 500)), "JPEG"))
    source = open_folder(root, Wishes(image_size=256)).train
    source.read(everything(source))
    before = len(os.listdir("/proc/self/task"))
    workers.workers(5).submit(int).result()  # a pool no other test uses
    more = open_folder(root, Wishes(image_size=256, threads=5)).train
    assert torch.equal(more.read(everything(more)), source.read(everything(source)))
    assert len(os.listdir("/proc/self/task")) - before <= 5


def test_the_number_of_threads():
    assert 1 <= workers.automatic() <= 16
    assert workers.workers(3) is workers.workers(3)
    assert workers.workers(3) is not workers.workers(2)


@pytest.mark.parametrize(
    ("bound", "quota", "processes", "expected"),
    [(64, 64, 8, 8), (64, 64, 1, 16), (64, 64, 2, 16), (8, 8, 8, 8), (64, 8, 2, 4), (64, 4, 8, 1)],
)
def test_processes_of_one_machine_share_its_processors(monkeypatch, bound, quota, processes, expected):
    """The third last: the launcher has bound each to its own; the last two: a container may use fewer than it sees."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)
    monkeypatch.setattr(workers, "processors", lambda: quota)
    world = {"RANK": "0", "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "LOCAL_RANK": "0"}
    for name, value in {**world, "MASTER_ADDR": "localhost", "MASTER_PORT": "1234"}.items():
        monkeypatch.setenv(name, value)
    assert workers.automatic() == expected


def test_one_pool_for_each_number_of_threads():
    assert workers.workers(3) is workers.workers(3)
    assert workers.workers(3) is not workers.workers(2)


def test_constants_of_many_files_are_measured_on_some(root, monkeypatch):
    source = opened(root)
    monkeypatch.setattr("residual.data.preprocessing._MOST", 6)
    some = measure(source, everything(source), "mean-std")
    same = measure(source, torch.arange(0, 18, 3), "mean-std")
    assert torch.equal(some.mean, same.mean)
    assert torch.equal(some.std, same.std)
