"""What an evaluation can be asked for: names that are wrong are refused before anything is loaded."""

from __future__ import annotations

from typing import get_args

from residual.errors import Fault, check, nearest
from residual.evaluation.judged import Split
from residual.evaluation.protocols import Average, Protocol


def check_choices(protocol: str | None = None, average: str | None = None, split: str | None = None) -> None:
    """Refuse a protocol, an average or a split that there is not; None was not asked for.

    Raises:
        UsageError: names every one, with the nearest right one.
    """
    asked = (("protocol", protocol, Protocol), ("average", average, Average), ("split", split, Split))
    faults = [
        Fault(name, value, f"there is no such {name}", nearest(str(value), get_args(known)))
        for name, value, known in asked
        if value is not None and value not in get_args(known)
    ]
    check("this cannot be evaluated", faults, "evaluate")
