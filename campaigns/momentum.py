"""Momenta of .8 to .99, ResNet-20 on CIFAR-10, 2,000 iterations, two seeds, a tenth of the images held out and
judged four times an epoch.

About 20 minutes on two idle threads of an AMD EPYC, 37 on one.
"""

from __future__ import annotations

import argparse

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--depth", type=int)

    return run_study("momentum", argv, options)
