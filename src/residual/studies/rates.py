"""Which learning rates range tests suggest for the network of seed 001, with its optimiser and with SGD.

Rates of the suggestions `steepest`, `valley` (fastai's default) and `before-divergence`, over seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from residual.data.datasets import open_dataset
from residual.files import Facts
from residual.studies.arms import public, spread
from residual.studies.evidence import Budget, Evidence, made, recipe_facts
from residual.studies.table import DEFINITIONS
from residual.training.find_rate import STEPS, Found, find_rate
from residual.training.recipe import Override

RECIPE: Final = "seed001-onecycle"
OPTIMISERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "adam": {},
    "sgd": {"optimiser.kind": "sgd", "optimiser.weight_decay": 5e-4},
}


def study_rates(
    seeds: Sequence[int] = (0, 1),
    *,
    set: Sequence[Override] = (),
    steps: int = STEPS,
    command: str = "",
    tell: Callable[[str, int], None] = lambda optimiser, seed: None,
) -> Evidence:
    """A range test of each optimiser and seed.

    Args:
        set: values to change in all of them, by path: where the data are, the device.
        tell: told of every test before it is made.

    Raises:
        DataError: CIFAR-10 is not there.
    """
    began = time.monotonic()
    measured: Facts = {}
    series: Facts = {}
    tests: list[Found] = []
    for name, changes in OPTIMISERS.items():
        rates: dict[str, list[float]] = {}
        for seed in seeds:
            tell(name, seed)
            found = find_rate(RECIPE, set=[*changes.items(), *set, ("seed", seed)], steps=steps)
            tests.append(found)
            for one in found.test.suggestions:
                rates.setdefault(one.name, []).append(one.rate)
            points = {"rate": list(found.test.rates), "loss": list(found.test.smoothed)}
            series.setdefault(name, points)  # of the first seed
        # A suggestion that some seed did not come to is none.
        measured[name] = {label: spread(values) for label, values in rates.items() if len(values) == len(seeds)}
    dataset = open_dataset(tests[0].recipe.data)
    budget: Budget = "cpu" if tests[0].device == "cpu" else "gpu"
    return made(
        DEFINITIONS["find-rate"],
        budget,
        command,
        measured,
        settings={"steps": steps, "network": tests[0].network},
        series={"rates": series},
        recipes={name: recipe_facts(RECIPE, {**changes, **public(dict(set))}) for name, changes in OPTIMISERS.items()},
        seeds=tuple(seeds),
        data={"name": dataset.name, "checksums": dataset.checksums},
        device={"device": tests[0].device},
        seconds=round(time.monotonic() - began, 1),
    )
