"""The network of seed 001 on CIFAR-10 as described, and with one thing changed at a time; --budget gpu has all arms.

About 50 minutes on two idle threads of an AMD EPYC, 90 on one.
"""

from __future__ import annotations

import argparse

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--arms", nargs="+")

    return run_study("seed001", argv, options)
