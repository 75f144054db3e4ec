"""The training loop of public scripts, for comparison: PIL images one by one, a DataLoader, float32, `loss.item()`.

Written after torchvision's `CIFAR10`, `RandomCrop(32, padding=4)`, `RandomHorizontalFlip`, `ToTensor` and `Normalize`,
and for photographs `ImageFolder`, `RandomResizedCrop(224)`, `Resize(256)` and `CenterCrop(224)`, with the same calls of
PIL, numpy and torch, and after the loops of the well-known CIFAR-10 repositories and torch's example of ImageNet.
images_NHWC uint8, pixels 0-255; batches are float32 NCHW.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.limit import Memory
from residual.models import NetworkSpec, build

_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def _tensor(image: Image.Image) -> Tensor:
    """`ToTensor` and `Normalize`."""
    pixels = torch.from_numpy(numpy.array(image, copy=True))
    tensor = pixels.permute((2, 0, 1)).contiguous().to(torch.float32).div(255)
    mean, std = torch.tensor(_MEAN), torch.tensor(_STD)
    return tensor.clone().sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


class UsualImages(Dataset[tuple[Tensor, int]]):
    """Each image is made into a PIL image, cropped, mirrored, made into a tensor and normalised by itself."""

    def __init__(self, images: numpy.typing.NDArray[numpy.uint8], labels: list[int], *, augmented: bool = True) -> None:
        self.images, self.labels, self.augmented = images, labels, augmented

    def plain(self) -> UsualImages:
        """The same images, as a test set has them."""
        return UsualImages(self.images, self.labels, augmented=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])
        if not self.augmented:
            return _tensor(image), self.labels[index]
        image = ImageOps.expand(image, border=4, fill=0)
        width, height = image.size
        top = int(torch.randint(0, height - 32 + 1, size=(1,)).item())
        left = int(torch.randint(0, width - 32 + 1, size=(1,)).item())
        image = image.crop((left, top, left + 32, top + 32))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return _tensor(image), self.labels[index]


class UsualPhotographs(Dataset[tuple[Tensor, int]]):
    """Each file is opened, decoded, cropped at random to 224 pixels or resized and cut at the centre."""

    def __init__(self, files: list[str], labels: list[int], side: int = 224, *, augmented: bool = True) -> None:
        self.files, self.labels, self.side, self.augmented = files, labels, side, augmented

    def plain(self) -> UsualPhotographs:
        """The same files, as a test set has them."""
        return UsualPhotographs(self.files, self.labels, self.side, augmented=False)

    def __len__(self) -> int:
        return len(self.files)

    def _window(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The box of `RandomResizedCrop`: 8 to 100 % of the area, proportions 3/4 to 4/3, ten tries."""
        for _ in range(10):
            area = width * height * float(torch.empty(1).uniform_(0.08, 1.0))
            ratio = math.exp(float(torch.empty(1).uniform_(math.log(3 / 4), math.log(4 / 3))))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(0, height - h + 1, size=(1,)).item())
                left = int(torch.randint(0, width - w + 1, size=(1,)).item())
                return left, top, left + w, top + h
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with open(self.files[index], "rb") as file:
            image = Image.open(file).convert("RGB")
        side, (width, height) = self.side, image.size
        if self.augmented:
            image = image.crop(self._window(width, height)).resize((side, side), Image.Resampling.BILINEAR)
            if torch.rand(1) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return _tensor(image), self.labels[index]
        shorter, target = min(width, height), side * 256 // 224
        image = image.resize((width * target // shorter, height * target // shorter), Image.Resampling.BILINEAR)
        left, top = (image.size[0] - side) // 2, (image.size[1] - side) // 2
        return _tensor(image.crop((left, top, left + side, top + side))), self.labels[index]


Usual = UsualImages | UsualPhotographs


class UsualLoop:
    """One network and its loader; `rate` goes on where it stopped."""

    def __init__(
        self, network: nn.Module, images: Usual, device: torch.device, workers: int, batch_size: int = 128
    ) -> None:
        self.workers, self.device = workers, device
        self.memory = Memory()
        self.network = network.to(device).train()
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.criterion = nn.CrossEntropyLoss()
        pinned = device.type == "cuda"
        self.loader = DataLoader(images, batch_size, shuffle=True, num_workers=workers, pin_memory=pinned)
        self.tests = DataLoader(images.plain(), batch_size, num_workers=workers, pin_memory=pinned)
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

    def answer(self, batches: int) -> float:
        """Images per second of the test loop over that many batches, after one that is not timed."""
        self.network.eval()
        seen, hits, start = 0, 0, 0.0
        with torch.no_grad():
            while seen == 0 or batches > 0:
                for images, labels in self.tests:
                    outputs = self.network(images.to(self.device))
                    hits += int(outputs.max(1)[1].eq(labels.to(self.device)).sum().item())
                    if start == 0:
                        start = time.perf_counter()
                        continue
                    seen, batches = seen + len(labels), batches - 1
                    if batches <= 0:
                        break
        self.network.train()
        return seen / (time.perf_counter() - start)


class UsualProcess:
    """The usual loop in a process of its own, as a script has it: nothing that ours sets up helps or hinders it."""

    def __init__(self, spec: NetworkSpec, images: Usual, device: str, batch_size: int = 128) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        # No daemon: its DataLoader has processes of its own.
        self._process = context.Process(target=_serve, args=(far, spec.model_dump_json(), images, device, batch_size))
        self._process.start()
        far.close()

    def rate(self, workers: int, steps: int, warm: int) -> float:
        """Images per second; each number of workers has its own network and goes on where it stopped."""
        self._pipe.send(("rate", workers, (steps, warm)))
        return float(self._pipe.recv())

    def answer(self, workers: int, batches: int) -> float:
        """Images per second of the test loop."""
        self._pipe.send(("answer", workers, (batches,)))
        return float(self._pipe.recv())

    def memory(self, workers: int) -> int | None:
        """Bytes that the training process has held at most above what it held before the network; no workers'."""
        self._pipe.send(("memory", workers, ()))
        found: int | None = self._pipe.recv()
        return found

    def end(self) -> None:
        self._pipe.close()
        self._process.join(60)


def _serve(pipe: Connection, spec: str, images: Usual, device: str, batch_size: int) -> None:
    loops: dict[int, UsualLoop] = {}
    while True:
        try:
            what, workers, values = pipe.recv()
        except EOFError:
            return
        if workers not in loops:
            network = build(NetworkSpec.model_validate_json(spec), 0)
            loops[workers] = UsualLoop(network, images, torch.device(device), workers, batch_size)
        loop = loops[workers]
        if what == "memory":
            pipe.send(loop.memory.peak())
        else:
            pipe.send(loop.rate(*values) if what == "rate" else loop.answer(*values))
