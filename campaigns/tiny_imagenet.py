"""A subset of Tiny ImageNet, straight from its .tar.gz: ResNet-18 on 64 x 64 pixels, an epoch at a time resumable.

20,000 training images (100 of each of 200 classes) and all 10,000 validation images; the figure is that of the
validation images at the last step, single view, and nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from campaigns.running import RESULTS, ROOT, trained
from residual.errors import DataError
from residual.files import readable, replace_file

ARCHIVE = "tiny-imagenet-200-subset.tar.gz"
RECIPE = (
    "--batch-size", "128",
    "--network", "resnet-18",
    "--set", "data.image_size=64",
    "--set", "data.augment.crop_scale=[0.35, 1.0]",
    "--set", "schedule.peak=0.08",  # four times that of `photos`, as is its batch
)  # fmt: skip


def find_archive(named: str | None) -> Path:
    """The archive: the one named, else below RESIDUAL_DATA, else in the folder `shared` beside the checkout.

    Raises:
        DataError: it is nowhere.
    """
    if named is not None:
        places = [Path(named).expanduser()]
    else:
        folders = [os.environ.get("RESIDUAL_DATA"), os.environ.get("RESIDUAL_SHARED"), str(ROOT.parent / "shared")]
        below = (ARCHIVE, f"tiny-imagenet/{ARCHIVE}", f"data/tiny-imagenet/{ARCHIVE}")
        places = [Path(folder) / path for folder in folders if folder for path in below]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(f"no {ARCHIVE}", places[0].parent, "name it with --data, or set RESIDUAL_DATA to its folder")
    return found.resolve()


def grey_images(data: Path) -> dict[str, int]:
    """How many images of each part are stored as grey."""
    from residual.data.folder import Wishes, open_folder
    from residual.data.reading import FolderSource

    dataset = open_folder(data, Wishes(image_size=64))
    parts = {"training": dataset.train, "validation": dataset.held}
    return {
        name: sum(verdict.grey for verdict in source.verdicts)
        for name, source in parts.items()
        if isinstance(source, FolderSource)
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign tiny-imagenet")
    parser.add_argument("--data", help=f"{ARCHIVE}, a folder of the same layout, or a pack of it")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--stem", help="another stem than the one that the size of the images picks")
    options = parser.parse_args(argv)
    data = find_archive(options.data)
    grey = grey_images(data)
    print(f"{sum(grey.values()):,} images are stored as grey: {grey}")
    usual = (options.epochs, options.seed, options.stem) == (10, 0, None)
    name = "tiny-imagenet" if usual else f"tiny-imagenet-{options.epochs:g}-seed{options.seed}"
    name += f"-{options.stem}" if options.stem else ""
    choices = ["--epochs", f"{options.epochs:g}", "--seed", str(options.seed), "--device", options.device]
    choices += ["--set", f"network.stem={options.stem}"] if options.stem else []
    result = trained(ROOT / "runs" / name, ["photos", *RECIPE, *choices], str(data))
    # Where the data lay on this machine is nobody's business; what it was stands in the checksums.
    result["command"] = (
        f"make campaign tiny-imagenet ARGS='{' '.join(argv)}'" if argv else "make campaign tiny-imagenet"
    )
    result["data"]["origin"] = data.name
    result["changed"].pop("data.path", None)
    result["grey_images"] = grey
    replace_file(RESULTS / f"{name}.json", readable(result))
    print(f"written: results/{name}.json, validation top-1 {result['final']['validation']['top1']:.2%}")
    return 0
