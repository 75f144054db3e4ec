"""Linear probes and CKA, on the runs of `make campaign degradation`, which are trained where they lack.

About 4 minutes on two idle threads of an AMD EPYC, 7 on one, after the trainings.
"""

from __future__ import annotations

import argparse

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--images", type=int, help="of the test")

    return run_study("probes", argv, options)
