"""Images per second and core of reading and augmenting photographs, beside PIL, in one run, turn by turn.

500 JPEGs of 500 x 375 and 200 of 2048 x 1536, quality 90: mosaics of 4 x 3 photographs of Tiny ImageNet, enlarged, so
neither gradients nor noise. Ours is `batch_at` of a folder as `residual train PHOTOS/` reads it (crops of 35 to 100 %
of the area, mirror, normalised float32 batches of 224 x 224), and the same from a pack of shorter side 256. Theirs are
public scripts, one image at a time: PIL opens, converts, resizes the shorter side to 256 and crops 224; or crops as
ours does and resizes. Both then mirror, make float32 and normalise. All run in one process held to one core, with one
thread, over files that lie in the memory of the system. The clock is the processor's time of the process, so that what
else runs on the machine plays a small part.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from campaigns.running import write_result
from campaigns.tiny_imagenet import find_archive
from residual.data import encoded, quick_jpeg
from residual.data.batches import Batches
from residual.data.encoded import Encoded, opened
from residual.data.folder import Wishes, open_folder
from residual.data.images import fitted
from residual.data.packing import pack
from residual.data.places import scan
from residual.data.preprocessing import measure
from residual.data.source import everything
from residual.files import Facts
from residual.training.compute import keep_memory
from residual.training.recipes import PHOTOS, RECIPES

SETS = {"500x375": (500, 375, 500), "2048x1536": (2048, 1536, 200)}
MARKS = {"500x375": 1.5, "2048x1536": 3.0}
PACKED = 5.0
SIDE, RESIZED = 224, 256
ACROSS, DOWN = 4, 3
WAYS = ("ours", "ours, Pillow alone", "packed")
_BATCH = 50
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def mosaic(tiles: Sequence[Image.Image], width: int, height: int) -> Image.Image:
    """Twelve photographs enlarged (Lanczos) side by side."""
    size = (width // ACROSS, height // DOWN)
    whole = Image.new("RGB", (width, height))
    for number, tile in enumerate(tiles[: ACROSS * DOWN]):
        place = (number % ACROSS * size[0], number // ACROSS * size[1])
        whole.paste(tile.convert("RGB").resize(size, Image.Resampling.LANCZOS), place)
    return whole


def write_photographs(folder: Path, tiles: Sequence[Image.Image], width: int, height: int, count: int) -> list[Path]:
    """FOLDER/CLASS/NUMBER.jpg of mosaics of drawn tiles, two classes."""
    chance, files = random.Random(f"{width}x{height}"), []
    for number in range(count):
        file = folder / "ab"[number % 2] / f"{number:03}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        mosaic(chance.choices(tiles, k=ACROSS * DOWN), width, height).save(file, "JPEG", quality=90)
        files.append(file)
    return files


def tiny_photographs(archive: Path, count: int = 2000) -> list[Image.Image]:
    """Some training photographs of Tiny ImageNet in colour, evenly spread over its classes."""
    layout = scan(archive)
    files = [file for held in layout.parts["train"].values() for file in held.files]
    chosen = files[:: max(1, len(files) // count)]
    found = []
    for file in chosen:
        with opened(layout.store.read(file), file.path) as image:
            if image.mode == "RGB":
                found.append(image.copy())
    return found


def usual_resize(file: Path, chance: random.Random) -> Tensor:
    """Open, convert, resize the shorter side to 256, crop 224: torchvision's Resize and RandomCrop."""
    image = Image.open(file).convert("RGB")
    scale = RESIZED / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (chance.randint(0, side - SIDE) for side in image.size)
    return _tensor(image.crop((left, top, left + SIDE, top + SIDE)), chance)


def usual_crop(file: Path, chance: random.Random) -> Tensor:
    """Open, convert, crop 35 to 100 % of the area, resize to 224: torchvision's RandomResizedCrop."""
    image = Image.open(file).convert("RGB")
    area = image.width * image.height * chance.uniform(0.35, 1)
    aspect = 2 ** chance.uniform(-0.415, 0.415)
    width, height = min(image.width, round((area * aspect) ** 0.5)), min(image.height, round((area / aspect) ** 0.5))
    left, top = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
    image = image.crop((left, top, left + width, top + height)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return _tensor(image, chance)


def _tensor(image: Image.Image, chance: random.Random) -> Tensor:
    """Mirror, then as ToTensor and Normalize make it."""
    if chance.random() < 0.5:
        image = ImageOps.mirror(image)
    tensor = torch.from_numpy(np.array(image, copy=True)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    mean, std = torch.tensor(_MEAN).view(-1, 1, 1), torch.tensor(_STD).view(-1, 1, 1)
    return tensor.sub_(mean).div_(std)


def usual(read: Callable[[Path, random.Random], Tensor], files: Sequence[Path]) -> Callable[[], int]:
    chance = random.Random(0)

    def turn() -> int:
        for start in range(0, len(files), _BATCH):
            torch.stack([read(file, chance) for file in files[start : start + _BATCH]])
        return len(files)

    return turn


def ours(place: Path) -> Callable[[], int]:
    """All images once, as a run reads them."""
    dataset = open_folder(place, Wishes(image_size=SIDE, threads=1))
    numbers = everything(dataset.train)
    constants = measure(dataset.train, numbers[:8], "mean-std")
    settings = RECIPES[PHOTOS].data.augment
    batches = Batches(dataset.train, numbers, constants, settings, min(_BATCH, len(numbers)), 0)
    step = 0

    def turn() -> int:
        nonlocal step
        images = 0
        while images < len(numbers):
            images += len(batches.batch_at(step).labels)
            step += 1
        return images

    return turn


def _without_the_extra(turn: Callable[[], int]) -> Callable[[], int]:
    def alone() -> int:
        with mock.patch.object(encoded, "quick_decoder", return_value=None):
            return turn()

    return alone


def difference(files: Sequence[Path]) -> Facts:
    """What decoding at a fraction changes in the 224 x 224 pixels of evaluation, in grey levels of 0 to 255."""
    found, scaled = [], 0
    for file in files:
        with opened(file.read_bytes(), file) as image:
            picture = Encoded(image)
            small = fitted(picture, 3, (SIDE, SIDE), file)
            full = Image.open(file)
            scaled += picture.image.size != full.size
        whole = np.array(full.convert("RGB"))
        exact = fitted(_Whole(whole), 3, (SIDE, SIDE), file)
        found.append((small.int() - exact.int()).abs().flatten())
    levels = torch.cat(found)
    return {
        "images": len(files),
        "decoded at a fraction": scaled,
        "mean": round(float(levels.float().mean()), 4),
        "share above 4": round(float((levels > 4).float().mean()), 6),
        "most": int(levels.max()),
    }


class _Whole:
    """A picture decoded in its own size whatever is asked for."""

    def __init__(self, pixels: np.typing.NDArray[np.uint8]) -> None:
        self.pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def array(self, channels: int, least: tuple[int, int] | None = None) -> np.typing.NDArray[np.uint8]:
        return self.pixels


def _is_rate(figures: object) -> bool:
    return isinstance(figures, dict) and "median" in figures


def spread(values: Sequence[float]) -> Facts:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "values": list(values)}


def compare(photos: Path, packed: Path, files: Sequence[Path], rounds: int) -> Facts:
    """Images per second of each way, and ours divided by theirs; the first turn of each is thrown away."""
    ways = {
        "theirs": usual(usual_resize, files),
        "theirs, cropped first": usual(usual_crop, files),
        "ours, Pillow alone": _without_the_extra(ours(photos)),
        "packed": ours(packed),
    }
    if quick_jpeg.quick_decoder() is not None:
        ways["ours"] = ours(photos)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, turn in ways.items():
            start = time.process_time()
            rates[name].append(turn() / (time.process_time() - start))
    found: Facts = {name: spread(values[1:]) for name, values in rates.items()}
    for name in [name for name in ways if not name.startswith("theirs")]:
        ratio = found[name]["median"] / found["theirs"]["median"]
        other = found[name]["median"] / found["theirs, cropped first"]["median"]
        found[f"ratio {name}"] = {"resized first": ratio, "cropped first": other}
    return found


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """This process on one core, with one thread of torch."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    torch.set_num_threads(1)
    keep_memory()  # as training does
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="make campaign loading", description="images/s and core of reading photographs"
    )
    parser.add_argument("--data", help="the archive of Tiny ImageNet's subset")
    parser.add_argument("--rounds", type=int, default=5, help="turns that count")
    parser.add_argument("--share", type=float, default=1.0, help="of the photographs; below 1 nothing is written")
    given = parser.parse_args(argv)
    began, tiles = time.monotonic(), tiny_photographs(find_archive(given.data))
    sets: dict[str, Facts] = {}
    with tempfile.TemporaryDirectory() as name, one_core():
        os.environ["RESIDUAL_CACHE"] = f"{name}/cache"
        for size, (width, height, count) in SETS.items():
            folder = Path(name) / size
            files = write_photographs(folder, tiles, width, height, max(4, round(count * given.share)))
            packed = pack(folder, Path(name) / f"{size}.pack", RESIZED, Wishes(threads=1)).path
            found = compare(folder, packed, files, given.rounds)
            found["difference of scaled decoding"] = difference(files[:50])
            found["bytes of a file"] = round(statistics.mean(file.stat().st_size for file in files))
            sets[size] = {"images": len(files), **found}
            told = [f"{way} {figures['median']:,.0f}" for way, figures in found.items() if _is_rate(figures)]
            print(f"{size}: {', '.join(told)} images/s", flush=True)
            for way in WAYS:
                if f"ratio {way}" in found:
                    print(f"  {way}: {found[f'ratio {way}']['resized first']:.2f} times theirs", flush=True)
    reached = {
        size: {
            way: found[f"ratio {way}"]["resized first"] >= (PACKED if way == "packed" else MARKS[size])
            for way in WAYS
            if f"ratio {way}" in found
        }
        for size, found in sets.items()
    }
    print(f"marks reached: {reached}")
    if given.share >= 1:
        marks = {"ours": MARKS, "packed": PACKED, "reached": reached}
        write_result("loading", {"rounds": given.rounds, "side": SIDE, "sets": sets, "marks": marks}, began)
    return 0
