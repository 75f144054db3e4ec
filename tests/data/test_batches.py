"""The batch of any step follows from (seed, step) alone: order, augmentation, rank and world."""

import pickle
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from residual.data.augment import AugmentSettings
from residual.data.batches import Batches, steps_of
from residual.data.preprocessing import measure
from residual.data.sending import sent
from residual.data.source import MemorySource, ResidentSource, resident
from residual.errors import UsageError

SETTINGS = AugmentSettings(pad_crop=2, shift=1, mirror=True)


def batches(count=50, batch_size=8, seed=0, settings=SETTINGS, size=6):
    """Batches over the even numbers of a source of twice as many images; sample i has label i % 10."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (2 * count, 3, size, size), generator=generator).to(torch.uint8)
    source = MemorySource(images, torch.arange(2 * count) % 10)
    indices = torch.arange(0, 2 * count, 2)
    return Batches(source, indices, measure(source, indices, "mean-std"), settings, batch_size, seed)


def equal(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "labels", "samples"))


@given(count=st.integers(1, 40), data=st.data())
def test_every_epoch_sees_every_image_once(count, data):
    size = data.draw(st.integers(1, count))
    two = [batches_of(count, size) for _ in range(2)]  # by turns: nothing is remembered from step to step
    places = [place for step in range(3 * count) for place in two[step % 2].places(step)]
    for epoch in range(3 * size):
        rows = torch.cat([rows for number, rows in places if number == epoch])
        assert sorted(rows.tolist()) == list(range(count))


def batches_of(count, size):
    source = MemorySource(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
    found = Batches(source, torch.arange(count), measure(source, torch.arange(count), "mean-std"), SETTINGS, size, 3)
    return found


def test_a_batch_is_full_and_holds_what_its_samples_are():
    found = batches()
    for step in (0, 6, 12):  # the second and third span two epochs
        batch = found.batch_at(step)
        assert batch.images.shape == (8, 3, 6, 6)
        assert (batch.images.dtype, batch.labels.dtype, batch.samples.dtype) == (
            torch.float32,
            torch.int64,
            torch.int64,
        )
        assert torch.equal(batch.labels, batch.samples % 10)
        assert set(batch.samples.tolist()) <= set(range(0, 100, 2))


def test_without_augmentation_a_batch_is_its_normalised_images():
    found = batches(settings=AugmentSettings())
    batch = found.batch_at(6)
    assert torch.equal(batch.images, found.preprocessing.normalise(found.source.read(batch.samples)))


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_shares_of_all_ranks_are_the_batch(world):
    found = batches()
    for step in (0, 6, 12, 1000):
        whole = found.batch_at(step)
        shares = [batches().batch_at(step, rank, world) for rank in range(world)]
        for name in ("images", "labels", "samples"):
            assert torch.equal(torch.cat([getattr(share, name) for share in shares]), getattr(whole, name))


def test_a_world_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(UsageError, match="a batch of 8 cannot be shared equally by 3 processes"):
        batches().batch_at(0, 0, 3)


def test_any_step_can_be_had_at_any_time():
    steps = list(range(20))
    one = batches()
    sequential = {step: one.batch_at(step) for step in steps}
    other = batches()
    for step in [19, 0, 13, 13, *reversed(steps)]:
        assert equal(other.batch_at(step), sequential[step])
    far = 10**12
    assert equal(batches().batch_at(far), other.batch_at(far))


def test_global_chance_plays_no_part():
    torch.manual_seed(1)
    first = batches().batch_at(3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert equal(batches().batch_at(3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_or_epoch_has_another_order_and_augmentation():
    found = batches(count=48)  # six steps an epoch
    first = found.batch_at(0)
    assert not torch.equal(first.samples, batches(count=48, seed=1).batch_at(0).samples)
    assert not torch.equal(first.samples, found.batch_at(6).samples)


def by_sample(found, steps):
    return {
        int(sample): image
        for step in steps
        for sample, image in zip(*(lambda b: (b.samples, b.images))(found.batch_at(step)), strict=True)
    }


def test_an_image_is_augmented_alike_whatever_the_batch_size():
    small, large = batches(count=48, batch_size=8), batches(count=48, batch_size=16)
    ones, others = by_sample(small, range(6)), by_sample(large, range(3))
    assert ones.keys() == others.keys()
    assert len(ones) == 48
    assert all(torch.equal(ones[sample], others[sample]) for sample in ones)


def test_an_image_is_augmented_anew_in_every_epoch():
    found = batches(count=48)
    first, second = by_sample(found, range(6)), by_sample(found, range(6, 12))
    assert sum(torch.equal(first[sample], second[sample]) for sample in first) < 5


def test_the_schedule_of_the_paper_is_met_to_the_last_image():
    """64,000 steps of 128 over 50,000 images (He et al. 2015, section 4.2) are 163.84 epochs."""
    source = MemorySource(torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8), torch.zeros(50_000, dtype=torch.int64))
    chosen = torch.arange(50_000)
    found = Batches(source, chosen, measure(source, chosen, "mean-std"), SETTINGS, 128, 0)
    assert found.epoch(64_000) == 163.84
    assert steps_of(163.84, 50_000, 128) == 64_000
    assert [epoch for epoch, _ in found.places(390)] == [0, 1]  # 390.625 steps an epoch
    assert [len(rows) for _, rows in found.places(390)] == [80, 48]
    ((epoch, rows),) = found.places(63_999)
    assert (epoch, len(rows)) == (163, 128)


@pytest.mark.parametrize(
    ("count", "batch_size", "epochs", "steps"),
    [(50, 8, 1, 7), (48, 8, 1, 6), (48, 8, 2.5, 15), (50, 8, 4, 25), (1000, 100, 1.1, 11), (1000, 100, 1e-9, 1)],
)
def test_epochs_are_rounded_up_to_whole_steps(count, batch_size, epochs, steps):
    assert steps_of(epochs, count, batch_size) == steps


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 400))
def test_so_many_steps_and_no_fewer_see_the_epochs(count, tenths, size):
    steps = steps_of(tenths / 10, count, size)
    assert steps * size * 10 >= tenths * count
    assert steps == 1 or (steps - 1) * size * 10 < tenths * count


def test_fewer_images_than_a_batch_are_refused():
    message = "50 training images are fewer than one batch of 51 .*batch_size.*set it to 50"
    with pytest.raises(UsageError, match=message):
        batches(batch_size=51)
    assert len(batches(batch_size=50)) == 50


def test_batches_from_images_that_lie_on_the_device_are_the_same(monkeypatch):
    found = batches()
    source = found.source
    assert isinstance(source, MemorySource)
    assert resident(source, torch.device("cpu")) is source
    found.source = ResidentSource(source.images, source.labels)
    assert all(equal(found.batch_at(step), batches().batch_at(step)) for step in (0, 6))
    assert len(found.source) == len(source)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (source.images.nbytes, 1 << 40))
    assert resident(source, torch.device("cuda:0")) is source, "a GPU without room takes a batch at a time"
    images = source.read(torch.arange(3))
    assert sent(images, torch.device("cpu")) is images


def test_batches_go_to_the_processes_of_a_loader():
    found = batches()
    again = pickle.loads(pickle.dumps(found))
    assert equal(again.batch_at(9), found.batch_at(9))
    assert len(pickle.dumps(found)) < 2 * found.source.images.nbytes + 10_000, "the images once"


def test_memory_that_torch_keeps_at_rest_is_room_for_the_images(monkeypatch):
    class Images:
        nbytes = 100

        def to(self, device):
            return "on the device"

    source, device = MemorySource(cast(Any, Images()), torch.zeros(3, dtype=torch.int64)), torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (150, 1000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 40)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 200)
    assert resident(source, device) is source
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    assert cast(Any, resident(source, device)).images == "on the device"
