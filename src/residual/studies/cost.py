"""Multiply-adds against measured time by depth, and the size of a data set: what no training is needed for.

Times are seconds of a training step (forward, loss, backward, update) or of a forward pass, divided by the images of
the batch; medians over steps taken by turns, so that a busy moment of the machine meets all networks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch.nn.functional import cross_entropy

from residual.chance import stream
from residual.data.datasets import DataSettings, open_dataset
from residual.files import Facts
from residual.models import NetworkSettings, build, count, put, resolve
from residual.studies.arms import spread
from residual.studies.evidence import Evidence, made
from residual.studies.table import DEFINITIONS

SMALL: Final = ("plain-20", "resnet-20", "resnet-32", "resnet-44", "resnet-56", "resnet-110", "preact-110")
LARGE: Final = ("plain-34", "resnet-34", "resnet-50", "vgg-19")
"""On images of 224 pixels, forward alone."""
_SETS: Final = {"CIFAR networks, training step": (SMALL, 32, 32), "ImageNet networks, forward": (LARGE, 224, 2)}


def study_cost(command: str, turns: int = 5, sets: Sequence[str] = tuple(_SETS)) -> Evidence:
    """Time every network of the sets, by turns."""
    began = time.monotonic()
    measured: Facts = {}
    series: Facts = {}
    for label in sets:
        networks, side, batch = _SETS[label]
        trials = {name: _trial(name, side, batch, forward="forward" in label) for name in networks}
        times: dict[str, list[float]] = {name: [] for name in networks}
        for turn in range(turns + 1):
            for name, trial in trials.items():
                seconds = trial()
                if turn:  # the first is for the caches
                    times[name].append(seconds / batch)
        costs = {name: _cost(name, side) for name in networks}
        for name in networks:
            figures = spread(times[name]) | {"median": statistics.median(times[name])}
            measured[name] = {"multiply_adds": costs[name], "seconds": figures}
        series[label] = {
            "network": list(networks),
            "multiply_adds": [costs[name] for name in networks],
            "seconds": [measured[name]["seconds"]["median"] for name in networks],
        }
    device = {"device": "cpu", "threads": torch.get_num_threads(), "precision": "float32"}
    seconds = round(time.monotonic() - began, 1)
    return made(
        DEFINITIONS["cost"],
        "cpu",
        command,
        measured,
        settings={"turns": turns},
        series={"costs": series},
        device=device,
        seconds=seconds,
    )


def _cost(name: str, side: int) -> int:
    return count(resolve(NetworkSettings(name=name), classes=1000 if side == 224 else 10), side).multiply_adds


def _trial(name: str, side: int, batch: int, forward: bool) -> Callable[[], float]:
    """One timed step of a network on images N(0, 1)."""
    classes = 1000 if side == 224 else 10
    network = put(build(resolve(NetworkSettings(name=name), classes=classes)), torch.device("cpu"))
    images = torch.randn(batch, 3, side, side, generator=stream(0, "cost", "images", side))
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,), generator=stream(0, "cost", "labels", side))
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    network.train(not forward)

    def step() -> float:
        began = time.perf_counter()
        if forward:
            with torch.inference_mode():
                network(images)
            return time.perf_counter() - began
        optimiser.zero_grad(set_to_none=True)
        cross_entropy(network(images), labels).backward()
        optimiser.step()
        return time.perf_counter() - began

    return step


def study_cifar10(command: str, path: str | None = None) -> Evidence:
    """Images and classes of the official files, counted."""
    began = time.monotonic()
    dataset = open_dataset(DataSettings(dataset="cifar-10", path=path))
    labels = torch.cat([dataset.train.labels, dataset.test.labels])
    of_class = torch.bincount(labels, minlength=len(dataset.class_names))
    measured = {
        "training": len(dataset.train),
        "test": len(dataset.test),
        "classes": len(dataset.class_names),
        "side": dataset.image_size[0],
        "least_in_a_class": int(of_class.min()),
        "most_in_a_class": int(of_class.max()),
        "training_of_a_class": int(torch.bincount(dataset.train.labels).min()),
    }
    data = {"name": dataset.name, "checksums": dataset.checksums}
    seconds = round(time.monotonic() - began, 1)
    return made(DEFINITIONS["cifar-10"], "cpu", command, measured, data=data, seconds=seconds)
