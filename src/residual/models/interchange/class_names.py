"""The names of the classes that published weights tell apart, where they are known."""

from __future__ import annotations

from importlib import resources


def imagenet_numbers() -> tuple[str, ...]:
    """Their numbers in WordNet, by which the folders of ImageNet are named, in the same order."""
    text = resources.files(__package__).joinpath("imagenet_wnids.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def imagenet_names() -> tuple[str, ...]:
    """The 1000 classes of ImageNet (ILSVRC 2012) in the order of their labels; source and licence stand in the file."""
    text = resources.files(__package__).joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))
