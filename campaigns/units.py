"""The five orders of a residual unit on CIFAR-10: 20 layers, 4,000 iterations, five seeds; --budget gpu has 110 layers.

About 2 hours on two idle threads of an AMD EPYC, 3.8 on one. Half as wide and half as long (`--width 8 --steps 2000`)
a run took 13 minutes on one thread of an EPYC without AVX-512; --arms takes some of the orders.
"""

from __future__ import annotations

import argparse

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--depth", type=int)
        parser.add_argument("--networks", nargs="+")
        parser.add_argument("--arms", nargs="+")

    return run_study("units", argv, options)
