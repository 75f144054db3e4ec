"""What each budget allows a study: the settings its evidence is made with, and the doing of it.

The runs of a plan are resumable; the same plan goes on where it was, and trains nothing twice. Studies of trained
networks take the runs of `degradation`, which are trained first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from residual.errors import UsageError, nearest
from residual.runs.folder import runs_root
from residual.studies import arm_table, run_studies, training_studies
from residual.studies.cost import study_cifar10, study_cost
from residual.studies.departures import strongest
from residual.studies.evidence import BUDGETS, ENDING, Budget, Evidence, write
from residual.studies.rates import study_rates
from residual.studies.run_studies import Asked
from residual.studies.table import TRAINED
from residual.studies.training_studies import Wish
from residual.training.progress import Listener, Silent
from residual.training.recipe import Override

FINAL: Final[tuple[Override, ...]] = (("data.validation", 0.0), ("evaluation.watch_test", True))
"""Trained on all images; the test is read now and then for the figure, and nothing is chosen by it."""


@dataclass(frozen=True)
class Plan:
    """How a study is made: seeds and steps, what is changed in all runs, and its own options."""

    seeds: tuple[int, ...] = (0, 1)
    steps: int | None = None
    set: tuple[Override, ...] = FINAL
    options: Mapping[str, Any] = field(default_factory=dict)


_RARELY: Final[tuple[Override, ...]] = (*FINAL, ("evaluation.every_epochs", 4))
_HELD: Final[tuple[Override, ...]] = (("data.validation", 0.1),)
_OFTEN: Final[tuple[Override, ...]] = (*_HELD, ("evaluation.every_epochs", 0.25))  # a spike between two is not seen
_DEPTHS: Final = {"depths": (20, 56), "kinds": ("plain", "resnet")}

CPU: Final[Mapping[str, Plan]] = {
    "degradation": Plan(steps=8000, set=_RARELY, options=_DEPTHS),
    "responses": Plan(),
    "lesion": Plan(options={"images": 2000}),
    "probes": Plan(options={"images": 2000}),
    "units": Plan((0, 1, 2, 3, 4), steps=4000, set=_RARELY, options={"depth": 20}),
    "shortcuts": Plan(steps=4000, set=_RARELY, options={"depth": 20}),
    "momentum": Plan(steps=2000, set=_OFTEN, options={"depth": 20}),
    "batchnorm": Plan(steps=1000, options={"depth": 20}),
    "dropout": Plan(steps=4000, set=_RARELY, options={"depth": 20}),
    "initialisation": Plan(steps=1000, set=(("data.validation", 0.0),)),
    "seed001": Plan(set=(("data.validation", 0.1),), options={"arms": ("as-described", "sgd")}),
    "find-rate": Plan(set=()),
    "cifar-10": Plan(),
    "cost": Plan(),
}
GPU: Final[Mapping[str, Plan]] = {
    **CPU,
    "degradation": Plan((0, 1, 2), 64_000, _RARELY, {"depths": (20, 32, 44, 56, 110), "kinds": ("plain", "resnet")}),
    "units": Plan((0, 1, 2, 3, 4), 64_000, _RARELY, {"depth": 110}),
    "shortcuts": Plan((0, 1, 2), 64_000, _RARELY, {"depth": 110}),
    "momentum": Plan((0, 1, 2), 64_000, _OFTEN, {"depth": 56}),
    "dropout": Plan((0, 1, 2), 64_000, _RARELY, {"depth": 56}),
    "seed001": Plan((0, 1, 2), set=(("data.validation", 0.1),)),
}
PLANS: Final[Mapping[Budget, Mapping[str, Plan]]] = {"smoke": {}, "cpu": CPU, "gpu": GPU}
OF_RUNS: Final = ("responses", "lesion", "probes")
_TRAINED: Final[Mapping[str, Callable[..., training_studies.Studied]]] = {
    "degradation": training_studies.degradation,
    "units": training_studies.units,
    "shortcuts": training_studies.shortcuts,
    "momentum": training_studies.momentum,
    "batchnorm": training_studies.batchnorm,
    "dropout": training_studies.dropout,
    "seed001": training_studies.seed001,
    "initialisation": training_studies.initialisation,
}
_MEASURED: Final[Mapping[str, Callable[[Asked], Evidence]]] = {
    "responses": run_studies.study_responses,
    "lesion": run_studies.study_lesion,
    "probes": run_studies.study_probes,
}
Listening = Callable[[str, int], Listener]


def plan_of(study: str, budget: Budget) -> Plan:
    """The plan of a study.

    Raises:
        UsageError: there is none of that budget.
    """
    plans = PLANS[budget]
    if study not in plans:
        raise UsageError(
            f"the study {study[:40]!r} has no plan of the budget {budget}", "plans", nearest(study, [*plans])
        )
    return plans[study]


def carry_out(
    study: str,
    plan: Plan,
    *,
    data: str | None = None,
    device: str | None = None,
    root: Path | None = None,
    command: str = "",
    budget: Budget = "cpu",
    listener: Listening = lambda arm, seed: Silent(),
) -> Evidence:
    """Do what a plan says, in folders under `root`, and give its evidence.

    Args:
        data: where the images are, if not in a usual place.
        root: the folder of the runs; without it, the usual one.
        command: what is stored as the command that makes it.

    Raises:
        UsageError, DataError: as trainings do.  Interrupted: the same call goes on.
    """
    root = root or runs_root()
    if study == "cifar-10":
        return study_cifar10(command, data)
    if study == "cost":
        return study_cost(command)
    if study in OF_RUNS:
        base = plan_of("degradation", budget)
        trained = replace(base, **plan.options.get("degradation", {}))
        carry_out("degradation", trained, data=data, device=device, root=root, budget=budget, listener=listener)
        options = {name: value for name, value in plan.options.items() if name != "degradation"}
        runs = _runs_of(trained, root / "degradation")
        asked = Asked(runs, data=data, device=device or "auto", command=command, **options)
        return _MEASURED[study](asked)
    places: list[Override] = [("data.path", data)] if data is not None else []
    places += [("compute.device", device)] if device is not None else []
    if study == "find-rate":
        return study_rates(plan.seeds, set=places, command=command)
    recipe = TRAINED[study].definition.recipe
    wish = Wish(recipe, plan.seeds, plan.steps, (*plan.set, *places), root / study, command, listener)
    return _TRAINED[study](wish, **plan.options).evidence


def _runs_of(trained: Plan, folder: Path) -> list[str]:
    """The runs of a plan of `degradation`, arm by arm; those of other seeds beside them may not be finished."""
    arms = sorted(arm_table.degradation(**trained.options))
    return [str(folder / arm / f"seed-{seed}") for arm in arms for seed in trained.seeds]


def trainer(
    budget: Budget, data: str | None = None, listener: Listening = lambda arm, seed: Silent()
) -> Callable[[Sequence[str], Sequence[Evidence]], list[Evidence]]:
    """What `reproduce` asks for more evidence: trains the studies that have none of this budget or a larger one."""

    def more(studies: Sequence[str], found: Sequence[Evidence]) -> list[Evidence]:
        made: list[Evidence] = []
        for study, plan in PLANS[budget].items():
            best = strongest(found, study)
            if study not in studies or (best and BUDGETS.index(best[0].budget) >= BUDGETS.index(budget)):
                continue
            command = f"residual reproduce --budget {budget}"
            root = runs_root() / f"studies-{budget}"  # each budget has runs of its own
            one = carry_out(study, plan, data=data, root=root, command=command, budget=budget, listener=listener)
            write(one, root / f"{study}{ENDING}")
            made.append(one)
        return made

    return more
