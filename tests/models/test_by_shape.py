"""Shapes without computing: what torch itself gives, and nothing of its compiler in the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from residual.models.by_shape import ByShape

SIDES = (7, 8, 9, 12)
POOLS: tuple[Callable[..., torch.Tensor], ...] = (F.max_pool2d, F.avg_pool2d)


def shape_of(call, *tensors):
    with ByShape():
        return call(*(one.to("meta") for one in tensors)).shape


@pytest.mark.parametrize("height", SIDES)
def test_pooling(height):
    maps = torch.zeros(2, 4, height, height + 1)
    for kernel, stride, padding in product((1, 2, 3, (2, 3)), (None, 1, 2, 3, (1, 2)), (0, 1)):
        if padding and kernel == 1:
            continue  # torch pads by half a window at most
        for ceil, pool in product((False, True), POOLS):
            call = partial(pool, kernel_size=kernel, stride=stride, padding=padding, ceil_mode=ceil)
            assert shape_of(call, maps) == call(maps).shape


@pytest.mark.parametrize("height", SIDES)
def test_convolutions(height):
    maps = torch.zeros(2, 4, height, height + 1)
    for size, stride, padding, dilation in product((1, 3), (1, 2, (2, 1)), (0, 1, (1, 0)), (1, 2)):
        weight = torch.zeros(6, 4, size, size)
        call = partial(F.conv2d, stride=stride, padding=padding, dilation=dilation)
        assert shape_of(call, maps, weight) == call(maps, weight).shape


def test_sums_products_means_and_the_rest():
    maps, row, weight = torch.zeros(2, 4, 6, 5), torch.zeros(4, 1, 1), torch.zeros(3, 5)
    calls = (
        lambda x, r, w: x + x,
        lambda x, r, w: torch.add(x, r),
        lambda x, r, w: 1 - r * x,
        lambda x, r, w: 0.5 * x,
        lambda x, r, w: torch.sigmoid(x),
        lambda x, r, w: F.relu(x),
        lambda x, r, w: F.relu(x.clone(), inplace=True),
        lambda x, r, w: F.batch_norm(x, r.flatten(), 1 + r.flatten()),
        lambda x, r, w: F.batch_norm(x, None, None, weight=r.flatten(), bias=r.flatten(), training=True),
        lambda x, r, w: x.mean(dim=(2, 3)),
        lambda x, r, w: x.permute(0, 2, 3, 1).mean(dim=(1, 2)),
        lambda x, r, w: F.linear(x, w),
        lambda x, r, w: F.pad(x, (0, 1, 0, 0, 2, 3)),
        lambda x, r, w: F.pad(x, (1, 2)),
        lambda x, r, w: F.adaptive_avg_pool2d(x, 7),
        lambda x, r, w: F.max_pool2d(x, 2, return_indices=True)[0],
    )
    for call in calls:
        assert shape_of(call, maps, row, weight) == call(maps, row, weight).shape


def test_what_leaves_no_map_is_refused_as_torch_refuses_it():
    maps = torch.zeros(1, 4, 2, 2)
    calls = (
        lambda x: F.max_pool2d(x, 3),
        lambda x: F.conv2d(x, x.new_empty(4, 4, 3, 3)),
        lambda x: F.conv2d(x, x.new_empty(4, 3, 1, 1)),
        lambda x: F.linear(x, x.new_empty(5, 3)),
        lambda x: F.batch_norm(x, x.new_zeros(3), x.new_ones(3)),
        lambda x: x + x.new_empty(1, 8, 2, 2),
    )
    for call in calls:
        with pytest.raises(RuntimeError):
            shape_of(call, maps)


PROGRAM = """
import re
import sys
import residual
from residual.models.counting import count
from residual.models import NETWORKS, NetworkSettings, resolve
shortest = {}
for name in sorted(NETWORKS, key=lambda name: NETWORKS[name].spec().weighted_layers):
    shortest.setdefault(re.sub(r"\\d+", "N", name), name)  # of each family
for name in shortest.values():
    for gate in ("none", "exclusive"):
        if not name.startswith(("plain", "vgg")) or gate == "none":
            for size in (32, 224):
                count(resolve(NetworkSettings(name=name, gate=gate), classes=10), size)
changes = {"steps": 2, "network.name": "resnet-8", "data.limit": 200, "optimiser.nesterov": False}
for kind in ("sgd", "adam", "adamw"):
    residual.train("digits", set={**changes, "optimiser.kind": kind}, out=sys.argv[1] + kind)
print(sorted({"sympy", "torch._dynamo", "torch._inductor"} & {*sys.modules}))
"""


def test_training_and_counting_need_neither_sympy_nor_the_compiler(tmp_path):
    """They are more than a second of every process, and torch imports them for things that look innocent."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "run-")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
