"""The studies: one literal table with what each measures, how its figures are had, and what that costs.

Hours are those of an AMD EPYC of two cores, estimated from the measured rates of `results/speed.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from residual.files import Facts
from residual.studies.checks import architecture, equations, signals, training
from residual.studies.evidence import Definition, Evidence, made
from residual.studies.verdicts import Way

REPRODUCE: Final = "residual reproduce --budget smoke"
Check = Callable[[], Facts]

CHECKS: Final[Mapping[str, tuple[Check, str]]] = {
    "counts": (architecture.counts, "parameters, multiply-adds and weighted layers of networks as built"),
    "walks": (architecture.walks, "kernels, poolings, maps and shortcuts of networks, module by module"),
    "layer": (equations.layers, "a convolution against the product of its weights and patches, float64"),
    "equations": (equations.units, "units against their equations written out, float64"),
    "shortcut-options": (equations.shortcuts, "shortcuts where dimensions change, float64"),
    "identities": (equations.identities, "zero branches, inserted identity layers, both forms of a mapping, float64"),
    "unrolled": (equations.unrolled, "the additive form of a stage and its gradient, float64"),
    "seed-block": (equations.block_of_seed_001, "the residual block of seed 001 against ours, float64"),
    "variances": (signals.variances, "variances through thirty ReLU layers against the formula"),
    "initial-weights": (signals.initial_weights, "deviations of initial weights against sqrt(2/n)"),
    "gradients": (signals.gradients, "gradients through 56 layers at the start, with and without normalisation"),
    "recipe": (training.recipe, "the paper's training as the program has it"),
    "one-cycle": (training.one_cycle, "rate and momentum of one cycle over 1,000 steps"),
    "search": (training.search, "ranges and generations of the seed's genetic algorithm"),
    "checkpoints": (training.checkpoints, "a stopped and resumed run beside one left alone"),
}
"""What needs no data: the check, and in words what it measures. Together they take some seconds."""


@dataclass(frozen=True)
class Study:
    """What is defined, and how its figures would be had."""

    definition: Definition
    way: Way


def _study(name: str, measures: str, command: str, cost: str, recipe: str = "", dataset: str = "cifar-10") -> Study:
    return Study(Definition(name, measures, recipe, dataset), Way(command, cost))


PAPER: Final = "cifar10-paper"
_ERRORS: Final = "training error (running, last record) and test error (last step, single view) in percent, over seeds"

TRAINED: Final[Mapping[str, Study]] = {
    study.definition.study: study
    for study in (
        _study("degradation", _ERRORS, "make campaign degradation", "2.4 hours on two threads, 4.7 on one", PAPER),
        _study("units", _ERRORS, "make campaign units", "2 hours on two threads, 3.8 on one", PAPER),
        _study("shortcuts", _ERRORS, "make campaign shortcuts", "1.3 hours on two threads, 2.5 on one", PAPER),
        _study(
            "momentum",
            f"{_ERRORS}; roughness: the mean rise of the validation loss where it rises, nats",
            "make campaign momentum",
            "20 minutes on two threads, 37 on one",
            PAPER,
        ),
        _study(
            "batchnorm",
            f"{_ERRORS}; sensitivity: the difference of training errors between two initialisations, seed by seed",
            "make campaign batchnorm",
            "10 minutes on two threads, 18 on one",
            PAPER,
        ),
        _study("dropout", _ERRORS, "make campaign dropout", "20 minutes on two threads, 37 on one", PAPER),
        _study(
            "initialisation",
            "training loss in nats of ReLU networks without normalisation, mean of the last tenth of the steps",
            "make campaign initialisation",
            "17 minutes on two threads, 30 on one",
            PAPER,
        ),
        _study(
            "responses",
            "deviation of every 3x3 output after normalisation, before ReLU and addition; the mean over the layers",
            "make campaign responses",
            "2 minutes after `make campaign degradation`",
            PAPER,
        ),
        _study(
            "lesion",
            "test error with single units deleted or swapped; silent: a branch below 1 % of what its shortcut carries",
            "make campaign lesion",
            "20 minutes after `make campaign degradation`",
            PAPER,
        ),
        _study(
            "probes",
            "test accuracy of ridge classifiers on each unit's averaged maps; unbiased linear CKA of neighbours",
            "make campaign probes",
            "4 minutes after `make campaign degradation`",
            PAPER,
        ),
        _study(
            "cost",
            "multiply-adds, and seconds of a training step on an image, medians of repeated steps in turns",
            "make campaign cost",
            "3 minutes",
            dataset="",
        ),
        _study("cifar-10", "numbers of images and classes of the official files", "make campaign cifar-10", "seconds"),
        _study(
            "cifar-100",
            _ERRORS,
            "residual study units cifar100-paper --data DIR --protocol final --seeds 5 --networks "
            "resnet-164-bottleneck,preact-164-bottleneck,resnet-1001-bottleneck,preact-1001-bottleneck",
            "a GPU, days: five runs of 1.2e16 and of 7.3e16 floating-point operations for each kind",
            "cifar100-paper",
            "cifar-100",
        ),
        _study(
            "tiny-imagenet",
            "training error (running, last record) and error on the validation images that ImageNet gives out (last "
            "step, single view) in percent, over seeds",
            "make campaign tiny-degradation",
            "142 minutes a seed on one thread without AVX-512; as wide as the paper's: a GPU",
            dataset="",
        ),
        _study(
            "seed001",
            f"{_ERRORS}; roughness: the mean rise of the validation loss, and of the training loss, where they rise",
            "make campaign seed001",
            "50 minutes on two threads, 90 on one; all arms: a GPU",
            "seed001-onecycle",
        ),
        _study(
            "find-rate",
            "rates that range tests suggest for the network of seed 001, by optimiser, over seeds",
            "make campaign find-rate",
            "2 minutes on two threads, 4 on one",
            "seed001-onecycle",
        ),
        _study("tuning", _ERRORS, "make campaign comparison", "3 hours on two cores, one worker on each"),
    )
}

DEFINITIONS: Final[Mapping[str, Definition]] = {
    **{name: Definition(name, measures) for name, (_, measures) in CHECKS.items()},
    **{name: study.definition for name, study in TRAINED.items()},
}
WAYS: Final[Mapping[str, Way]] = {
    **{name: Way(REPRODUCE, "seconds") for name in CHECKS},
    **{name: study.way for name, study in TRAINED.items()},
}


def checked(name: str, seconds: Callable[[], float]) -> Evidence:
    """The evidence of a check, computed now.

    Args:
        seconds: a clock.
    """
    check, _ = CHECKS[name]
    began = seconds()
    measured = check()
    return made(DEFINITIONS[name], "smoke", REPRODUCE, measured, seconds=round(seconds() - began, 2))
