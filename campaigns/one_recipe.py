"""A named recipe trained whole on CIFAR-10, one result file a seed; what was interrupted goes on."""

from __future__ import annotations

import argparse

from campaigns.running import RESULTS, ROOT, cifar_folder, trained
from residual.files import readable, replace_file


def train_recipe(recipe: str, argv: list[str], every_epochs: float) -> int:
    """Train on all 50,000 images, last step, single view; write `results/<recipe>-<network>-seed<n>.json`."""
    parser = argparse.ArgumentParser(prog=f"make campaign {recipe}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--network", default="resnet-20")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    data = cifar_folder()
    for seed in options.seeds:
        name = f"{recipe}-{options.network}-seed{seed}"
        choices = ["--protocol", "final", "--seed", str(seed), "--network", options.network, "--device", options.device]
        watch = ["--set", "evaluation.watch_test=true", "--set", f"evaluation.every_epochs={every_epochs:g}"]
        result = trained(ROOT / "runs" / name, [recipe, *choices, *watch], data)
        # Where the data lay on this machine is nobody's business; what it was stands in the checksums.
        result["command"] = f"make campaign {recipe} ARGS='--network {options.network} --seeds {seed}'"
        result["data"]["origin"] = "cifar-10-batches-bin"
        result["changed"].pop("data.path", None)
        replace_file(RESULTS / f"{name}.json", readable(result))
        print(f"written: results/{name}.json, test top-1 {result['final']['test']['top1']:.2%}")
    return 0
