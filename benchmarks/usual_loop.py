"""The training loop of public scripts, for comparison: PIL images one by one, a DataLoader, float32, `loss.item()`.

Written after torchvision's `CIFAR10`, `RandomCrop(32, padding=4)`, `RandomHorizontalFlip`, `ToTensor` and `Normalize`,
with the same calls of PIL, numpy and torch, and after the loops of the well-known CIFAR-10 repositories.
images_NHWC uint8, pixels 0-255; batches are float32 NCHW.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from residual.models import NetworkSpec, build

_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class UsualImages(Dataset[tuple[Tensor, int]]):
    """Each image is made into a PIL image, cropped, mirrored, made into a tensor and normalised by itself."""

    def __init__(self, images: numpy.typing.NDArray[numpy.uint8], labels: list[int]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])
        image = ImageOps.expand(image, border=4, fill=0)
        width, height = image.size
        top = int(torch.randint(0, height - 32 + 1, size=(1,)).item())
        left = int(torch.randint(0, width - 32 + 1, size=(1,)).item())
        image = image.crop((left, top, left + 32, top + 32))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(numpy.array(image, copy=True))
        tensor = pixels.permute((2, 0, 1)).contiguous().to(torch.float32).div(255)
        mean, std = torch.tensor(_MEAN), torch.tensor(_STD)
        return tensor.clone().sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1)), self.labels[index]


class UsualLoop:
    """One network and its loader; `rate` goes on where it stopped."""

    def __init__(self, network: nn.Module, images: UsualImages, device: torch.device, workers: int) -> None:
        self.workers, self.device = workers, device
        self.network = network.to(device).train()
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.criterion = nn.CrossEntropyLoss()
        pinned = device.type == "cuda"
        self.loader = DataLoader(images, batch_size=128, shuffle=True, num_workers=workers, pin_memory=pinned)
        self.batches = self._endless()
        self.loss, self.hits, self.seen = 0.0, 0, 0

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def _step(self) -> None:
        images, labels = next(self.batches)
        images, labels = images.to(self.device), labels.to(self.device)
        self.optimiser.zero_grad()
        outputs = self.network(images)
        loss = self.criterion(outputs, labels)
        loss.backward()
        self.optimiser.step()
        self.loss += loss.item()
        self.hits += int(outputs.max(1)[1].eq(labels).sum().item())
        self.seen += len(labels)

    def rate(self, steps: int, warm: int) -> float:
        """Images per second over `steps` steps, after `warm` that are not timed."""
        for _ in range(warm):
            self._step()
        before, start = self.seen, time.perf_counter()
        for _ in range(steps):
            self._step()
        return (self.seen - before) / (time.perf_counter() - start)


class UsualProcess:
    """The usual loop in a process of its own, as a script has it: nothing that ours sets up helps or hinders it."""

    def __init__(self, spec: NetworkSpec, images: UsualImages, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        # No daemon: its DataLoader has processes of its own.
        self._process = context.Process(target=_serve, args=(far, spec.model_dump_json(), images, device))
        self._process.start()
        far.close()

    def rate(self, workers: int, steps: int, warm: int) -> float:
        """Images per second; each number of workers has its own network and goes on where it stopped."""
        self._pipe.send((workers, steps, warm))
        return float(self._pipe.recv())

    def end(self) -> None:
        self._pipe.close()
        self._process.join(60)


def _serve(pipe: Connection, spec: str, images: UsualImages, device: str) -> None:
    loops: dict[int, UsualLoop] = {}
    while True:
        try:
            workers, steps, warm = pipe.recv()
        except EOFError:
            return
        if workers not in loops:
            network = build(NetworkSpec.model_validate_json(spec), 0)
            loops[workers] = UsualLoop(network, images, torch.device(device), workers)
        pipe.send(loops[workers].rate(steps, warm))
