"""The seed's genetic algorithm on CIFAR-10: ten individuals, five generations, ResNet-20, short one-cycle trainings.

The algorithm, space and optimiser are named on the command line and stored in the result, as is the subset: every
individual is trained on the same images, its fitness is read on held-out ones, and the test set is not read at all.
An interrupted campaign goes on where it was.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from typing import Any

from campaigns.running import cifar_folder, write_result
from residual.files import Facts
from residual.training.recipe import Override
from residual.tuning.study import Wish, tune
from residual.tuning.summary import summarise

FAST = "cifar10-fast"


def wish(epochs: float, limit: int | None, network: str, optimiser: str, space: str, **more: Any) -> Wish:
    changes: list[Override] = [("epochs", epochs), ("network.name", network), ("evaluation.test", False)]
    changes += [] if limit is None else [("data.limit", limit)]
    changes += [] if optimiser == "sgd" else [("optimiser.kind", optimiser), ("optimiser.nesterov", False)]
    usual: dict[str, Any] = {"sampler": "ga-001", "space": space, "population": 10, "generations": 5}
    return Wish(FAST, tuple(changes), **usual | more)


def search(name: str, asked: Wish, data: str | None, own: Sequence[Override] = (), tell: Any = None) -> Facts:
    """Run a study to its end, or go on with it; what is shown of it, without where it lies on this machine."""
    study = tune(name, asked, own=[("data.path", data), *own], tell=tell)
    found = summarise(study)
    return {key: value for key, value in found.items() if key not in ("folder", "storage")}


def say(event: Facts) -> None:
    from residual.cli.tune import describe

    print("\n".join(describe(event)), flush=True)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign ga001", description=__doc__)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--limit", type=int, default=10_000, help="training images; 0 takes all")
    parser.add_argument("--network", default="resnet-20")
    parser.add_argument("--optimiser", choices=["sgd", "adam", "adamw"], default="sgd")
    parser.add_argument("--space", choices=["seed001", "default"], default="seed001")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default=None)
    options = parser.parse_args(argv)
    began = time.monotonic()
    name = options.name or f"ga001-{options.network}-{options.optimiser}-{options.space}-seed{options.seed}"
    asked = wish(
        options.epochs, options.limit or None, options.network, options.optimiser, options.space, seed=options.seed
    )
    found = search(name, asked, cifar_folder(), [("compute.device", options.device)], say)
    command = " ".join(["make campaign ga001", *([f"ARGS={shlex.join(argv)!r}"] if argv else [])])
    facts = {
        "campaign": "ga001",
        "command": command,
        "settings": {k: v for k, v in vars(options).items() if k != "name"},
        "study": found,
    }
    write_result(name, facts, began)
    best = found["best"]
    print(
        "every individual failed" if best is None else f"best validation top-1 {best['fitness']:.2%}: {best['genes']}"
    )
    return 0 if found["status"] == "finished" else 1
