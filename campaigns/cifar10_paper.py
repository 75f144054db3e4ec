"""The paper's 64,000 iterations on CIFAR-10: about 90 minutes of an idle 2-core machine for ResNet-20."""

from __future__ import annotations

from campaigns.one_recipe import train_recipe


def main(argv: list[str]) -> int:
    return train_recipe("cifar10-paper", argv, every_epochs=10)
