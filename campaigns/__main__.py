"""`python -m campaigns NAME [ARGUMENT...]`: run one campaign; without a name, list them all.

Each campaign is a module with `main(argv) -> int`, imported only when it is asked for.
"""

from __future__ import annotations

import importlib
import sys

from residual.errors import ResidualError, UsageError, nearest

CAMPAIGNS = {
    "fresh": "campaigns.fresh: a fresh clone, `make demo` and `make test` as the README prints them, with their times",
    "digits": "campaigns.digits: the embedded digits over three seeds: accuracy and time of `residual train`",
    "every-step": "campaigns.every_step: state saved at every step of a tiny run, each restored, each rest compared",
    "kill": "campaigns.kill: runs killed at random instants and resumed equal the run that was left alone",
    "damage": "campaigns.damage: every flipped bit and every cut of a checkpoint is found, and the one before serves",
    "faults": "campaigns.faults: the N-th write, fsync, rename, mkdir fails, for every N, and nothing is lost",
    "nonfinite": "campaigns.nonfinite: NaN and inf put into a run in five places, found in the same step",
    "cifar10-fast": "campaigns.cifar10_fast: CIFAR-10 in 37 epochs over three seeds, with a result file each",
    "precision": "campaigns.precision: bfloat16 beside float32, three seeds each of a short ResNet-20 run on CIFAR-10",
    "speed": "benchmarks.speed: training and inference beside the usual loop and the machine's limit, three networks",
    "train-throughput": "benchmarks.train_throughput: images/s of `residual train` beside those of the usual loop",
    "start-up": "benchmarks.start_up: seconds from the command to its first step: train, resume, resume at 60,000",
    "loading": "benchmarks.loading: images/s and core of reading photographs beside PIL image by image",
    "mutated": "campaigns.mutated: 10,000 mutated image files of every format: no crash, no hang, no death",
    "runs-listing": "benchmarks.runs_listing: seconds of `residual runs` with 1,000 runs, and with 10",
    "onnx": "campaigns.onnx: ONNX Runtime beside the network on 1,000 images; weights out and in again, bit for bit",
    "peers": "campaigns.peers: the networks of torchvision, timm and Keras, where installed, beside ours: equal logits",
    "ga001": "campaigns.ga001: the seed's genetic algorithm on CIFAR-10, ten individuals, five generations",
    "tuning-kill": "campaigns.tuning_kill: workers of a study killed -9 at random instants, on SQLite and PostgreSQL",
    "tuning-parts": "campaigns.tuning_parts: a search over a network's parts, a schedule's shape and an augmentation",
    "comparison": "campaigns.comparison: tuning against the default recipe repeated, at an equal number of trainings",
    "processes": "campaigns.processes: many processes on one run: against one, killed at random instants, with faults",
    "processes-scaling": "benchmarks.processes_scaling: images/s of one run by one process and by two",
    "degradation": "campaigns.degradation: plain against residual networks of 20 and 56 layers on CIFAR-10, two seeds",
    "responses": "campaigns.responses: figure 7 of the paper on the runs of degradation",
    "lesion": "campaigns.lesion: units of the runs of degradation deleted and swapped",
    "probes": "campaigns.probes: linear probes and CKA on the runs of degradation",
    "units": "campaigns.units: the five orders of a residual unit on CIFAR-10, short",
    "shortcuts": "campaigns.shortcuts: shortcuts that are no identities on CIFAR-10, short",
    "initialisation": "campaigns.initialisation: 22 and 30 layers without normalisation, two initialisations",
    "momentum": "campaigns.momentum: momenta of .8 to .99 on CIFAR-10, short",
    "batchnorm": "campaigns.batchnorm: plain-20 with and without normalisation, two initialisations",
    "dropout": "campaigns.dropout: plain-20 with and without dropout",
    "cifar-10": "campaigns.cifar10_facts: images and classes of the official files, counted",
    "seed001": "campaigns.seed001: the network of seed 001 as described, and with one thing changed at a time",
    "find-rate": "campaigns.find_rate: range tests of the network of seed 001, with its optimiser and with SGD",
    "cost": "campaigns.cost: multiply-adds against measured time by depth",
    "fine-tuning": "campaigns.fine_tuning: new classes from few images, fine-tuned and from scratch",
    "protocols": "campaigns.protocols: 1-crop, 10-crop, multi-scale and ensembles of finished runs",
    "readme": "campaigns.readme: the figures of the README, drawn up from the result files",
    "tiny-imagenet": "campaigns.tiny_imagenet: ResNet-18 on a subset of Tiny ImageNet, straight from its .tar.gz",
    "tiny-degradation": "campaigns.tiny_degradation: figure 4: plain and residual networks of 18 and 34 layers",
    "cifar10-paper": "campaigns.cifar10_paper: CIFAR-10 by the paper's 64,000 iterations, one result file a seed",
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m campaigns NAME [ARGUMENT...]\n")
        for name, entry in CAMPAIGNS.items():
            print(f"  {name:<15}{entry.partition(': ')[2]}")
        return 0
    name, *rest = argv
    try:
        if name not in CAMPAIGNS:
            raise UsageError(f"no campaign named {name!r}", remedy=nearest(name, list(CAMPAIGNS)))
        module = importlib.import_module(CAMPAIGNS[name].partition(":")[0])
        return int(module.main(rest))
    except ResidualError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
