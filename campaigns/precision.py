"""bfloat16 beside float32: a short run of `cifar10-fast` with each, over the same seeds.

Judged by the 5,000 held-out images at the last step, and never by the test set; evaluations are float32 either way. The
seeds give both precisions the same first weights, order and augmentation, so the differences are taken by pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence

from campaigns.running import ROOT, cifar_folder, spread, trained, write_result
from residual.files import Facts
from residual.studies.student import mean_of

PRECISIONS = ("float32", "bfloat16")


def verdict(difference: Facts) -> str:
    """In words that the interval carries, and no others; points are hundredths of the held-out images."""
    points = f"{100 * difference['mean']:+.2f} points"
    if difference["interval"] is None:
        return f"bfloat16 differs by {points}; one seed carries no verdict"
    low, high = difference["interval"]
    within = f"95 % interval {100 * low:+.2f} to {100 * high:+.2f}"
    if low > 0:
        return f"bfloat16 is better by {points} ({within})"
    if high < 0:
        return f"bfloat16 is worse by {points} ({within})"
    return f"no difference was shown: {points} ({within})"


def compare(results: Mapping[str, Sequence[Facts]]) -> Facts:
    """Means, spreads, paired differences and the verdict, of results by precision in the order of the seeds."""
    found: Facts = {}
    for precision, runs in results.items():
        top1 = [run["final"]["validation"]["top1"] for run in runs]
        loss = [run["final"]["validation"]["loss"] for run in runs]
        seconds = [run["seconds"] for run in runs]
        found[precision] = {"top1": spread(top1), "loss": spread(loss), "seconds": spread(seconds)}
    pairs = zip(found["bfloat16"]["top1"]["values"], found["float32"]["top1"]["values"], strict=True)
    difference = mean_of([half - full for half, full in pairs]).as_dict()
    return {"precisions": found, "difference": difference, "verdict": verdict(difference)}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign precision", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--limit", type=int, help="training images; all of them unless given")
    parser.add_argument("--network", default="resnet-20")
    parser.add_argument("--trial", action="store_true", help="write no result file")
    options = parser.parse_args(argv)
    began, data = time.monotonic(), cifar_folder()
    limit = ["--set", f"data.limit={options.limit}"] if options.limit is not None else []
    results: dict[str, list[Facts]] = {precision: [] for precision in PRECISIONS}
    for seed in options.seeds:
        for precision in PRECISIONS:
            name = f"{options.network}-{options.epochs:g}-{options.limit or 'all'}-{precision}-seed{seed}"
            asked = ["cifar10-fast", "--network", options.network, "--epochs", f"{options.epochs:g}", *limit]
            asked += ["--seed", str(seed), "--set", f"compute.precision={precision}"]
            results[precision].append(trained(ROOT / "runs" / "precision" / name, asked, data))
    found = compare(results)
    print(found["verdict"])
    if not options.trial:
        about = {"network": options.network, "epochs": options.epochs, "seeds": options.seeds}
        images = results["float32"][0]["data"]
        write_result("precision", {**about, "images": [images["training"], images["validation"]], **found}, began)
    return 0
