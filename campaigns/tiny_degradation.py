"""Figure 4 of the paper on a subset of Tiny ImageNet: plain and residual networks of 18 and 34 layers.

The recipe `imagenet-steps` in 20 epochs, the rate divided by 10 after a third and two thirds of them. On a CPU the
networks are a quarter as wide as the paper's; `--width 64 --device cuda` has them whole. A seed took 142 minutes on
one thread of an EPYC without AVX-512.
Errors are those of all 10,000 validation images at the last step; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import shlex

from campaigns.one_study import EVIDENCE, say_run
from campaigns.running import ROOT
from campaigns.tiny_imagenet import find_archive
from residual.studies.evidence import ENDING, write
from residual.studies.training_studies import Wish, degradation

RECIPE = "imagenet-steps"
CHANGES = (
    ("batch_size", 64),
    ("schedule.rate", 0.05),  # of half the batch of the paper's .1 on small images
    ("data.image_size", 64),
    ("data.crop", 1.0),
    ("data.augment.crop_scale", [0.35, 1.0]),  # eight hundredths of 64 x 64 pixels show nothing
    ("network.stem", "7x7"),  # the paper's, where images of this size would get a smaller one
    ("evaluation.every_epochs", 2),
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign tiny-degradation")
    parser.add_argument("--data", help="the archive, a folder of the same layout, or a pack of it")
    parser.add_argument("--depths", type=int, nargs="+", default=[18, 34])
    parser.add_argument("--kinds", nargs="+", default=["plain", "resnet"])
    parser.add_argument("--width", type=int, default=16, help="of the first stage; the paper's is 64")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="the first seed; files of other seeds count together")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", help="of the result file, so that it stands beside another of the study")
    options = parser.parse_args(argv)
    widths = [options.width * 2**stage for stage in range(4)]
    places = [("data.path", str(find_archive(options.data))), ("compute.device", options.device)]
    wish = Wish(
        RECIPE,
        range(options.first, options.first + options.seeds),
        set=(("epochs", options.epochs), ("network.widths", widths), *CHANGES, *places),
        out=ROOT / "runs" / f"tiny-degradation-{options.width}-{options.epochs:g}",
        command="make campaign tiny-degradation" + (f" ARGS={shlex.join(argv)!r}" if argv else ""),
        listener=say_run,
    )
    found = degradation(wish, options.depths, options.kinds).evidence
    path = EVIDENCE / f"tiny-imagenet{f'-{options.name}' if options.name else ''}{ENDING}"
    write(found, path)
    print(f"written: {path.relative_to(ROOT)}; then: residual reproduce --markdown docs/claims.md")
    return 0
