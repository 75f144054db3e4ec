"""The `cifar10-fast` recipe on all of CIFAR-10, over seeds: about a quarter of an hour of an idle 2-core machine each.

Writes `results/cifar10-fast-<network>-seed<n>.json` for every seed, and with several `results/cifar10-fast.json`:
test accuracy at the last step as mean and spread, and accuracy against images seen.
"""

from __future__ import annotations

import argparse
import json
import time

from campaigns.one_recipe import train_recipe
from campaigns.running import RESULTS, spread, write_result
from residual.files import Facts

PAPER = 0.9125
"""He et al. 2015, table 6: ResNet-20 after 64,000 iterations."""


def curve(results: list[Facts]) -> list[Facts]:
    """Test top-1 against images seen, mean and spread over the seeds, at every evaluation."""
    by_step: dict[int, list[float]] = {}
    for result in results:
        for point in result["by_epoch"]:
            if point["split"] == "test":
                by_step.setdefault(point["step"], []).append(point["top1"])
    batch = results[0]["images_seen"] // results[0]["steps"]
    return [
        {"images_seen": step * batch, "test_top1": spread(values)}
        for step, values in sorted(by_step.items())
        if len(values) == len(results)
    ]


def main(argv: list[str]) -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="make campaign cifar10-fast", add_help=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--network", default="resnet-20")
    known, others = parser.parse_known_args(argv)
    train_recipe(
        "cifar10-fast",
        ["--network", known.network, "--seeds", *map(str, known.seeds), *others],
        every_epochs=4,
    )
    if len(known.seeds) < 2:
        return 0
    names = [f"cifar10-fast-{known.network}-seed{seed}" for seed in known.seeds]
    results = [json.loads((RESULTS / f"{name}.json").read_bytes()) for name in names]
    top1 = spread([result["final"]["test"]["top1"] for result in results])
    value = {
        "network": known.network,
        "seeds": known.seeds,
        "epochs": results[0]["images_seen"] / results[0]["data"]["training"],
        "training_images": results[0]["data"]["training"],
        "test_top1": top1,
        "run_seconds": spread([result["seconds"] for result in results]),
        "paper_top1": PAPER,
        "curve": curve(results),
        "runs": [f"results/{name}.json" for name in names],
    }
    write_result("cifar10-fast", value, began)
    print(f"test top-1 {top1['mean']:.2%} +- {top1['std']:.2%} over {len(results)} seeds; the paper's is {PAPER:.2%}")
    return 0
