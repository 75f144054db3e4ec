"""The images and classes of CIFAR-10's official files, counted: some seconds."""

from __future__ import annotations

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    return run_study("cifar-10", argv)
