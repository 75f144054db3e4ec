"""The ledger of a study: who is to be trained, who is at it, and what came of it. Rows of Optuna's own tables.

A generation is one row (attribute `generation-<n>` of the study, unique by its key) and the trials of its children,
written in one transaction: it is there whole, once, or not at all. A trial is claimed by its step from WAITING to
RUNNING, together with the token of who claims it; whoever finishes, releases or beats for it must show that token.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from residual.errors import StorageError
from residual.files import Facts
from residual.tuning.algorithms import Brood
from residual.tuning.database import FIRST, Database
from residual.tuning.rows import (
    BIRTH,
    DATA,
    DEATHS,
    FACTS,
    GENERATION,
    OUTCOME,
    OWNER,
    Generation,
    Individual,
    Snapshot,
    beat,
    models,
    put,
    read_generations,
    read_individuals,
    study_attribute,
    study_row,
    study_value,
    trial_value,
    trials_in,
)
from residual.tuning.sampler import distribution_of
from residual.tuning.space import Space


def names_in(database: Database) -> set[str]:
    """The names of all studies in a database."""
    return database.do(lambda session: set(session.execute(select(models.StudyModel.study_name)).scalars()))


class Ledger:
    """The transactions of one study."""

    def __init__(self, database: Database, key: str) -> None:
        self._database, self._key = database, key
        self._study: int | None = None
        self._space: Space | None = None
        self._kept: list[Individual] = []  # closed ones change no more

    # -- the study ---------------------------------------------------------------------------------------

    def begin(self, facts: Facts) -> Facts:
        """Make the study with these facts, or find it; returns the facts that it has."""

        def action(session: Session) -> Facts:
            found = self._find(session)
            if found is None:
                study = models.StudyModel(study_name=self._key)
                study.directions.append(models.StudyDirectionModel(objective=0, direction=StudyDirection.MAXIMIZE))
                session.add(study)
                session.flush()
                session.add(study_attribute(study.study_id, FACTS, facts))
                self._study = study.study_id
                return facts
            self._study, stored = found
            return stored

        return self._database.do(action)

    def facts(self) -> Facts | None:
        """The facts of the study; None where there is none of this name."""

        def action(session: Session) -> Facts | None:
            found = self._find(session)
            if found is None:
                return None
            self._study = found[0]
            return found[1]

        return self._database.do(action)

    def _find(self, session: Session) -> tuple[int, Facts] | None:
        row = session.execute(
            select(models.StudyModel.study_id).where(models.StudyModel.study_name == self._key)
        ).first()
        if row is None:
            return None
        stored = study_value(session, row[0], FACTS)
        if not isinstance(stored, dict):
            what = "a study of this name was made by another program"
            raise StorageError(what, self._database.address.shown, "choose another --study")
        return row[0], stored

    def prolong(self, generations: int) -> Facts:
        """Give the study so many generations, unless it has more; returns its facts."""

        def action(session: Session) -> Facts:
            self._hold(session)  # else of two who prolong it on PostgreSQL, the later might take back what it has
            row = study_row(session, self.study, FACTS)
            facts: Facts = json.loads(row.value_json)
            facts["generations"] = max(facts["generations"], generations)
            row.value_json = json.dumps(facts)
            return facts

        return self._database.do(action)

    def _hold(self, session: Session) -> None:
        """Keep the row of the study until the end of the transaction (on SQLite a transaction is alone anyway)."""
        query = select(models.StudyModel.study_id).where(models.StudyModel.study_id == self.study)
        session.execute(query.with_for_update())

    def same_data(self, checksums: Facts) -> bool:
        """Whether these are the images of the study; whoever is first says which they are."""

        def action(session: Session) -> bool:
            stored = study_value(session, self.study, DATA)
            if stored is None:
                session.add(study_attribute(self.study, DATA, checksums))
            return stored is None or stored == checksums

        return self._database.do(action)

    def images(self) -> Facts | None:
        """The checksums of the study's images; None where none was trained on yet."""
        found: Facts | None = self._database.do(lambda session: study_value(session, self.study, DATA))
        return found

    @property
    def study(self) -> int:
        if self._study is None:
            raise StorageError("the study is not open", self._database.address.shown, "begin it first")
        return self._study

    # -- reading -----------------------------------------------------------------------------------------

    def read(self, space: Space) -> Snapshot:
        """All individuals by number; those known to be closed are not read again."""
        if self._space != space:
            self._space, self._kept = space, []

        def action(session: Session) -> tuple[list[Individual], list[Generation]]:
            after = self._kept[-1].trial if self._kept else -1
            generations = read_generations(session, self.study)  # before their children
            return read_individuals(session, self.study, after, space), generations

        fresh, generations = self._database.do(action)
        everyone = self._kept + fresh
        count = next((n for n, one in enumerate(everyone) if not one.closed), len(everyone))
        self._kept = everyone[:count]
        return Snapshot(tuple(everyone), tuple(generations))

    # -- generations -------------------------------------------------------------------------------------

    def open_generation(self, number: int, brood: Brood, population: Sequence[int], space: Space) -> bool:
        """Write a generation whole; False where it stands already.

        Args:
            population: numbers of the individuals that the places in `brood` mean.
        """

        def action(session: Session) -> bool:
            self._hold(session)
            if study_value(session, self.study, f"{GENERATION}{number}") is not None:
                return False
            counted = session.execute(
                select(func.count()).select_from(models.TrialModel).where(models.TrialModel.study_id == self.study)
            )
            first = int(counted.scalar_one())
            for offset, child in enumerate(brood.children):
                birth = {"generation": number, "how": child.how, "parents": [population[p] for p in child.parents]}
                trial = models.TrialModel(study_id=self.study, number=first + offset, state=TrialState.WAITING)
                session.add(trial)
                session.flush()
                session.add(
                    models.TrialUserAttributeModel(trial_id=trial.trial_id, key=BIRTH, value_json=json.dumps(birth))
                )
                for gene, value in zip(space.genes, child.genes, strict=True):
                    kind = distribution_of(gene)
                    session.add(
                        models.TrialParamModel(
                            trial_id=trial.trial_id,
                            param_name=gene.path,
                            param_value=gene.number_of(value) if gene.choices else kind.to_internal_repr(value),
                            distribution_json=distribution_to_json(kind),
                        )
                    )
                    session.flush()  # rows in the order of the genes
            row = {
                "survivors": [population[place] for place in brood.survivors],
                "children": list(range(first, first + len(brood.children))),
            }
            session.add(study_attribute(self.study, f"{GENERATION}{number}", row))
            return True

        return self._database.do(action)

    # -- one individual ----------------------------------------------------------------------------------

    def claim(self, owner: Facts) -> int | None:
        """Take the first waiting individual: its trial, now running and owned; None where none waits.

        Trials that another program put into the study, as Optuna's `enqueue_trial` does, are left to it.
        """

        def action(session: Session) -> int | None:
            for trial in trials_in(session, self.study, TrialState.RUNNING):
                if trial_value(session, trial.trial_id, OWNER, {}).get("token") == owner["token"]:
                    return int(trial.trial_id)  # claimed before the answer got lost
            birth = models.TrialUserAttributeModel
            ours = select(birth).where(birth.trial_id == models.TrialModel.trial_id, birth.key == BIRTH).exists()
            query = (
                select(models.TrialModel)
                .where(models.TrialModel.study_id == self.study, models.TrialModel.state == TrialState.WAITING, ours)
                .order_by(models.TrialModel.trial_id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            trial = session.execute(query).scalars().first()
            if trial is None:
                return None
            trial.state = TrialState.RUNNING
            trial.datetime_start = datetime.datetime.now()
            put(session, trial.trial_id, OWNER, owner)
            beat(session, trial.trial_id)
            return int(trial.trial_id)

        return self._database.do(action)

    def beat(self, trial: int, token: str) -> bool:
        """Say that the work goes on; False where the individual is no longer ours."""

        def action(session: Session) -> bool:
            if self._owned(session, trial, token) is None:
                return False
            beat(session, trial)
            return True

        return self._database.do(action)

    def heartbeats(self) -> dict[int, str]:
        """The last sign of life of each running individual, by the clock of the database: for comparing alone."""

        def action(session: Session) -> dict[int, str]:
            query = (
                select(models.TrialModel.trial_id, models.TrialHeartbeatModel.heartbeat)
                .outerjoin(models.TrialHeartbeatModel)
                .where(models.TrialModel.study_id == self.study, models.TrialModel.state == TrialState.RUNNING)
            )
            return {trial: str(stamp) for trial, stamp in session.execute(query)}

        return self._database.do(action)

    def release(self, trial: int, token: str, death_at: int | None = None) -> bool:
        """Let a running individual wait again; `death_at` notes that its worker died after that step."""

        def action(session: Session) -> bool:
            row = self._owned(session, trial, token)
            if row is None:
                return False
            row.state = TrialState.WAITING
            if death_at is not None:
                put(session, trial, DEATHS, [*trial_value(session, trial, DEATHS, []), death_at])
            return True

        return self._database.do(action, FIRST)

    def finish(self, trial: int, token: str, state: TrialState, fitness: float | None, outcome: Facts) -> bool:
        """Write what came of an individual; False where it is no longer ours."""

        def action(session: Session) -> bool:
            row = self._owned(session, trial, token)
            if row is None:
                done = session.get(models.TrialModel, trial)
                mine = trial_value(session, trial, OWNER, {}).get("token") == token
                return bool(done is not None and mine and done.state == state)  # written before the answer got lost
            row.state = state
            row.datetime_complete = datetime.datetime.now()
            if fitness is not None:
                kind = models.TrialValueModel.TrialValueType.FINITE
                session.add(models.TrialValueModel(trial_id=trial, objective=0, value=fitness, value_type=kind))
            put(session, trial, OUTCOME, outcome)
            return True

        return self._database.do(action)

    def report(self, trial: int, step: int, value: float) -> None:
        """Note an intermediate figure, once for each step."""

        def action(session: Session) -> None:
            model = models.TrialIntermediateValueModel
            if session.execute(select(model).where(model.trial_id == trial, model.step == step)).first() is None:
                kind = model.TrialIntermediateValueType.FINITE
                session.add(model(trial_id=trial, step=step, intermediate_value=value, intermediate_value_type=kind))

        self._database.do(action)

    def reports(self) -> dict[int, dict[int, float]]:
        """Intermediate figures by trial and step."""

        def action(session: Session) -> dict[int, dict[int, float]]:
            model = models.TrialIntermediateValueModel
            query = select(model.trial_id, model.step, model.intermediate_value).join(models.TrialModel)
            found: dict[int, dict[int, float]] = {}
            for trial, step, value in session.execute(query.where(models.TrialModel.study_id == self.study)):
                found.setdefault(trial, {})[step] = value
            return found

        return self._database.do(action)

    def _owned(self, session: Session, trial: int, token: str) -> Any:
        """The row of a running individual that `token` owns, held until the end of the transaction."""
        query = select(models.TrialModel).where(models.TrialModel.trial_id == trial).with_for_update()
        row = session.execute(query).scalars().first()
        if row is None or row.state != TrialState.RUNNING:
            return None
        return row if trial_value(session, trial, OWNER, {}).get("token") == token else None
