"""Rows of Optuna's tables, and what they say: individuals, generations, a study at one moment.

Our own facts are user attributes: of the study `residual` (what is searched), `generation-<n>` and `data`; of a trial
`birth` (generation, how, parents), `owner`, `outcome` and `deaths` (steps at which its workers died).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from optuna.distributions import json_to_distribution
from optuna.storages._rdb import models as _models
from optuna.trial import TrialState
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from residual.files import Facts
from residual.tuning.space import Genes, Space

models: Any = _models  # its columns are typed as columns, their values as nothing
FACTS, BIRTH, OWNER, OUTCOME, DEATHS, DATA = "residual", "birth", "owner", "outcome", "deaths", "data"
GENERATION = "generation-"
OPEN = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class Individual:
    """One training of the study: `number` counts from 0 in the order of birth."""

    trial: int
    number: int
    generation: int
    genes: Genes
    state: TrialState
    fitness: float | None = None
    how: str = ""
    parents: tuple[int, ...] = ()
    owner: Facts = field(default_factory=dict)
    outcome: Facts = field(default_factory=dict)
    deaths: tuple[int, ...] = ()

    @property
    def closed(self) -> bool:
        return self.state not in OPEN


class Generation(NamedTuple):
    """Numbers of the individuals of one population: first those that survive from before, then its own."""

    survivors: tuple[int, ...]
    children: tuple[int, ...]

    @property
    def population(self) -> tuple[int, ...]:
        return self.survivors + self.children


@dataclass(frozen=True)
class Snapshot:
    """The study at one moment."""

    individuals: tuple[Individual, ...]
    generations: tuple[Generation, ...]

    @property
    def closed(self) -> bool:
        """Whether no individual waits or is being trained."""
        return all(one.closed for one in self.individuals)

    @property
    def best(self) -> Individual | None:
        able = [one for one in self.individuals if one.fitness is not None]
        return max(able, key=lambda one: (one.fitness or 0.0, -one.number), default=None)


def trials_in(session: Session, study: int, state: TrialState) -> list[Any]:
    query = select(models.TrialModel).where(models.TrialModel.study_id == study, models.TrialModel.state == state)
    return list(session.execute(query).scalars())


def study_attribute(study: int, key: str, value: Any) -> Any:
    return models.StudyUserAttributeModel(study_id=study, key=key, value_json=json.dumps(value))


def study_row(session: Session, study: int, key: str) -> Any:
    model = models.StudyUserAttributeModel
    return session.execute(select(model).where(model.study_id == study, model.key == key)).scalars().first()


def study_value(session: Session, study: int, key: str) -> Any:
    row = study_row(session, study, key)
    return None if row is None else json.loads(row.value_json)


def trial_row(session: Session, trial: int, key: str) -> Any:
    model = models.TrialUserAttributeModel
    return session.execute(select(model).where(model.trial_id == trial, model.key == key)).scalars().first()


def trial_value(session: Session, trial: int, key: str, absent: Any) -> Any:
    row = trial_row(session, trial, key)
    return absent if row is None else json.loads(row.value_json)


def put(session: Session, trial: int, key: str, value: Any) -> None:
    row = trial_row(session, trial, key)
    if row is None:
        session.add(models.TrialUserAttributeModel(trial_id=trial, key=key, value_json=json.dumps(value)))
    else:
        row.value_json = json.dumps(value)


def beat(session: Session, trial: int) -> None:
    model = models.TrialHeartbeatModel
    row = session.execute(select(model).where(model.trial_id == trial)).scalars().first()
    if row is None:
        session.add(model(trial_id=trial))
    else:
        row.heartbeat = session.execute(select(func.now())).scalar()


def read_generations(session: Session, study: int) -> list[Generation]:
    model = models.StudyUserAttributeModel
    query = select(model.key, model.value_json).where(model.study_id == study, model.key.startswith(GENERATION))
    found = {int(key.removeprefix(GENERATION)): json.loads(text) for key, text in session.execute(query)}
    return [Generation(tuple(found[n]["survivors"]), tuple(found[n]["children"])) for n in sorted(found)]


def read_individuals(session: Session, study: int, after: int, space: Space) -> list[Individual]:
    trials, values = models.TrialModel, models.TrialValueModel
    of_study = (trials.study_id == study, trials.trial_id > after)
    # Trials first: whoever sees one will see its genes, which were written with it.
    query = select(trials.trial_id, trials.number, trials.state, values.value).outerjoin(values).where(*of_study)
    rows = session.execute(query.order_by(trials.trial_id)).all()
    genes: dict[int, dict[str, Any]] = {}
    kinds: dict[str, Any] = {}
    model = models.TrialParamModel
    query = select(model.trial_id, model.param_name, model.param_value, model.distribution_json).join(trials)
    for trial, path, number, text in session.execute(query.where(*of_study)):
        kind = kinds.get(text) or kinds.setdefault(text, json_to_distribution(text))
        genes.setdefault(trial, {})[path] = kind.to_external_repr(number)
    notes: dict[int, dict[str, Any]] = {}
    attributes = models.TrialUserAttributeModel
    query = select(attributes.trial_id, attributes.key, attributes.value_json).join(trials)
    for trial, key, text in session.execute(query.where(*of_study)):
        notes.setdefault(trial, {})[key] = text
    found = []
    for trial, number, state, value in rows:
        own = notes.get(trial, {})
        birth = json.loads(own.get(BIRTH, "{}"))
        table = genes.get(trial, {})
        if "generation" not in birth or any(path not in table for path in space.paths):
            continue  # put into the study by another program
        found.append(
            Individual(
                trial,
                number,
                birth["generation"],
                tuple(table[path] for path in space.paths),
                state,
                value if state == TrialState.COMPLETE else None,
                birth["how"],
                tuple(birth["parents"]),
                json.loads(own.get(OWNER, "{}")),
                json.loads(own.get(OUTCOME, "{}")),
                tuple(json.loads(own.get(DEATHS, "[]"))),
            )
        )
    return found
