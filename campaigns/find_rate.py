"""Range tests of the network of seed 001 on CIFAR-10, with its optimiser and with SGD, two seeds.

About 2 minutes on two idle threads of an AMD EPYC, 4 on one.
"""

from __future__ import annotations

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    return run_study("find-rate", argv)
