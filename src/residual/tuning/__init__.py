"""Tuning: a search over the settings of a recipe, on a ledger that many workers share."""

from __future__ import annotations

import importlib.util
import sys

from residual.errors import EnvironmentFault


def need_optuna() -> None:
    """Refuse to go on where the extra that this room stands on is not installed.

    Raises:
        EnvironmentFault: says how to install it.
    """
    for name in ("optuna", "sqlalchemy"):
        if importlib.util.find_spec(name) is None:
            raise EnvironmentFault(
                f"{name} is not installed", sys.executable, "pip install 'optuna>=5,<6' sqlalchemy cmaes"
            )
