"""Multiply-adds against measured time by depth, and VGG-19 beside ResNet-34: about 3 minutes of an idle machine."""

from __future__ import annotations

from campaigns.one_study import run_study


def main(argv: list[str]) -> int:
    return run_study("cost", argv)
