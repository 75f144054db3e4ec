"""A search over more than numbers: a part of the network, a schedule's shape, an augmentation, beside the peak rate.

The embedded digits with ResNet-8, `ga`, the test set unread; the study is stored. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import time

from campaigns.ga001 import say, search
from campaigns.running import write_result
from residual.tuning.study import Wish

NAME = "tuning-parts"
GENES = (
    "network.shortcut=choice:A,B,C",
    "network.order=choice:original,full-pre-activation",
    "schedule.shape=choice:cosine,linear",
    "data.augment.shift=int:0:3",
    "schedule.peak=log:1e-3:3",
)


def wish(epochs: float, population: int, generations: int, seed: int) -> Wish:
    changes = (("network.name", "resnet-8"), ("epochs", epochs), ("evaluation.test", False))
    size = (population, generations, seed)
    return Wish("digits", changes, "ga", {}, None, GENES, *size)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign tuning-parts", description=__doc__)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    options = parser.parse_args(argv)
    began = time.monotonic()
    asked = wish(options.epochs, options.population, options.generations, options.seed)
    found = search(NAME, asked, None, [("compute.threads", 1)], say)
    write_result(NAME, {"settings": vars(options), "study": found}, began)
    return 0 if found["status"] == "finished" else 1
