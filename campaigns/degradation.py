"""Plain and residual networks of 20 and 56 layers on CIFAR-10, 8,000 iterations, two seeds; --budget gpu has 64,000.

About 2.4 hours on two idle threads of an AMD EPYC, 4.7 on one.
"""

from __future__ import annotations

from campaigns.one_study import add_networks, run_study


def main(argv: list[str]) -> int:
    return run_study("degradation", argv, add_networks)
