"""Plain and residual networks of 20 and 56 layers on CIFAR-10, 8,000 iterations, two seeds; --budget gpu has 64,000.

About 2.4 hours on two idle threads of an AMD EPYC, 4.7 on one.
"""

from __future__ import annotations

import argparse

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--depths", type=int, nargs="+")
        parser.add_argument("--kinds", nargs="+")

    return run_study("degradation", argv, options)
