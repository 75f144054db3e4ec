"""Learning rate and momentum of every step of a run, from what its folder says; figures are drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pydantic import TypeAdapter, ValidationError

from residual.files import Facts
from residual.training.schedules import AnySchedule, Schedule

_SCHEDULE: Final[TypeAdapter[AnySchedule]] = TypeAdapter(Schedule)


def rates_of(facts: Facts, records: Sequence[Facts]) -> Callable[[int], tuple[float, float]] | None:
    """Rate and momentum by step, counted from 0; None where the recipe says them in a way unknown here.

    Args:
        facts: those of `run.json`.
        records: of the run, whose events move some schedules.
    """
    try:
        schedule = _SCHEDULE.validate_python(facts["recipe"]["schedule"])
        base, total = float(facts["recipe"]["optimiser"]["momentum"]), int(facts["chosen"]["steps"])
    except (KeyError, TypeError, ValueError, ValidationError):
        return None
    happened = {record["name"]: record["step"] for record in records if record.get("kind") == "event"}

    def at(step: int) -> tuple[float, float]:
        return schedule.rate_at(step, total, happened), schedule.momentum_at(step, total, base)

    return at
