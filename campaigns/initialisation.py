"""Networks of 22 and 30 layers without normalisation, two initialisations, 1,000 iterations, two seeds.

About 17 minutes on two idle threads of an AMD EPYC, 30 on one.
"""

from __future__ import annotations

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    return run_study("initialisation", argv)
