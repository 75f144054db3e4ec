"""A study whose fitness is a known function of the genes, worked on by the real worker on a real database.

`python -m tests.tuning.analytic NAME SAMPLER SEED [STORAGE [wait]]` is one worker of it, as a process of its own; with
`wait` it says that it is there, and begins when it is sent a line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from optuna.trial import TrialState

from residual.training.recipe import to_recipe
from residual.tuning.individual import Outcome, Plan, Watch
from residual.tuning.rows import Snapshot
from residual.tuning.space import Genes
from residual.tuning.study import Study, Wish, algorithm_of, join
from residual.tuning.worker import Worker

BEST = (0.7, 0.3, 0.6)


def sphere(plan: Plan, genes: Genes) -> float:
    """One minus the squared distance of the places from BEST, its only optimum."""
    return 1 - sum((place - best) ** 2 for place, best in zip(plan.space.places(genes), BEST, strict=True))


def evaluate(plan: Plan, number: int, genes: Genes, watch: Watch, same_data: Callable[[Any], bool]) -> Outcome:
    time.sleep(0.01 * (7 * number % 3))  # workers finish in another order than they began
    if number % 6 == 5:
        return Outcome(TrialState.FAIL, None, {"reason": "the sixth of six"})
    return Outcome(TrialState.COMPLETE, sphere(plan, genes), {"seconds": 0.01})


def begin(name: str, sampler: str = "ga", seed: int = 0, storage: str | None = None, **wish: Any) -> Study:
    return join(
        name, Wish("digits", sampler=sampler, seed=seed, **{"population": 8, "generations": 3, **wish}), storage
    )


def worker(study: Study, train: Any = evaluate, **settings: Any) -> Worker:
    recipe = to_recipe(study.facts["recipe"], "test")
    plan = Plan(study.name, recipe, study.space, study.folder)
    nobody: Any = settings.pop("tell", lambda event: None)
    return Worker(study.ledger, plan, algorithm_of(study.facts), study.facts, nobody, Quiet(), train=train, **settings)


class Quiet:
    def began(self, plan: Any) -> None: ...

    def stepped(self, step: int, images: int) -> None: ...

    def recorded(self, record: Any) -> None: ...

    def saved(self, step: int) -> None: ...

    def ended(self) -> None: ...


def story(snapshot: Snapshot) -> list[Any]:
    """What must not depend on who trained whom and when."""
    individuals = [
        (i.number, i.generation, i.genes, i.state, i.fitness, i.how, i.parents) for i in snapshot.individuals
    ]
    return [individuals, snapshot.generations]


if __name__ == "__main__":
    if sys.argv[5:] == ["wait"]:
        print("here", flush=True)
        sys.stdin.readline()
    worker(begin(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:5])).run()
