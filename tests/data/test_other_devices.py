"""Augmentation on a device that is not the host's: `meta`, whose tensors have no content and mix with no others."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import pytest
import torch
from torch.overrides import TorchFunctionMode

from residual.data import colour, sending, trivial
from residual.data.augment import AugmentSettings, Draws, augment
from residual.data.mixing import Mixes, mix
from residual.data.preprocessing import Preprocessing

META = torch.device("meta")
ALL = AugmentSettings(pad_crop=2, shift=1, mirror=True, cutout=4, erase=0.5)


@pytest.mark.parametrize("name", trivial.OPERATIONS)
def test_every_operation_of_trivial_augment_stays_on_the_device(name):
    images, numbers = torch.zeros(6, 3, 16, 16, device=META), torch.ones(6, device=META)
    found = trivial.OPERATIONS[name](images, numbers, numbers)
    assert (found.device.type, found.shape, found.dtype) == ("meta", images.shape, torch.float32)


def test_draws_travel_once_and_all_else_happens_on_the_device():
    images = torch.zeros(6, 3, 16, 16, device=META)
    tables = {
        "crop": torch.zeros(6, 2, dtype=torch.int64),
        "shift": torch.zeros(6, 2, dtype=torch.int64),
        "mirror": torch.zeros(6, dtype=torch.bool),
        "cutout": torch.zeros(6, 2),
        "erase": torch.zeros(6, 5),
        "colour_noise": torch.zeros(6, 3),
        "colour_jitter": torch.ones(6, 3),
        "trivial": torch.zeros(6, 3, dtype=torch.int64),
        "window": torch.zeros(6, 5),
    }
    draws = Draws(tables).on(META)
    on_host = {name for name, table in draws.tables.items() if table.device.type == "cpu"}
    assert on_host == {"trivial", "window"}
    constants = Preprocessing((16, 16), 3, "mean-std", torch.zeros(3, 1, 1), torch.ones(3, 1, 1)).on(META)
    normal = constants.normalise(torch.zeros(6, 3, 16, 16, dtype=torch.uint8, device=META))
    noisy = colour.add_noise(normal, draws.tables["colour_noise"], torch.zeros(3, 3, device=META), constants.std)
    assert augment(noisy, draws, ALL).device.type == "meta"
    assert colour.jitter(images.to(torch.uint8), draws.tables["colour_jitter"]).device.type == "meta"
    mixes = Mixes(torch.ones(6), torch.zeros(6, dtype=torch.bool), torch.zeros(6, 2))
    assert {part.device.type for part in mix(images, torch.zeros(6, dtype=torch.int64, device=META), mixes)} == {"meta"}


class NoneWaits(TorchFunctionMode):
    """Refuses what makes the host wait for a GPU's queue: single values written to it from unpinned memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert func is not torch.tensor or "device" not in kwargs
        if func is torch.Tensor.__setitem__ and args[0].device == META:
            assert isinstance(args[2], torch.Tensor)
        return func(*args, **kwargs)


def test_constants_are_made_on_the_host_and_sent():
    images, numbers = torch.zeros(6, 3, 16, 16, device=META), torch.ones(6, device=META)
    with NoneWaits():
        colour.jitter(images.to(torch.uint8), torch.ones(6, 3, device=META))
        for operation in trivial.OPERATIONS.values():
            operation(images, numbers, numbers)


class Host:
    """A tensor of the host, of so many bytes, and what is done to it."""

    device = torch.device("cpu")

    def __init__(self, nbytes, told):
        self.nbytes, self.told = nbytes, told

    def pin_memory(self):
        self.told.append("pinned")
        return self

    def to(self, device, non_blocking=False):
        assert non_blocking
        return self

    def record_event(self):
        return self

    def synchronize(self):
        self.told.append("waited")


def test_few_large_copies_wait_at_a_time(monkeypatch):
    told: list[str] = []
    gpu, send = torch.device("cuda:0"), cast(Any, sending.sent)
    monkeypatch.setattr(sending, "_copies", deque())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Host(0, told))
    for _ in range(50):
        send(Host(1000, told), gpu)
    assert told == ["pinned"] * 50
    told.clear()
    for _ in range(sending.WAITING + 2):
        send(Host(sending.LARGE, told), gpu)
    assert told == ["pinned"] * sending.WAITING + ["waited", "pinned"] * 2
