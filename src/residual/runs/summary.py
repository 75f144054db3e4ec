"""A run in one row, and what sets several runs apart. Reads the folder, computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from residual.errors import ModelError, ResidualError
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.runs.records import last_of


def summarise(run: RunFolder) -> Facts:
    """The row of one run; a damaged one is named with the reason, and hides no other."""
    try:
        facts, result, records = run.facts(), run.result(), run.records()
        recipe = facts["recipe"]
        steps = facts["chosen"]["steps"]
        step = steps if result is not None else max([*run.steps()[:1], *(r["step"] for r in records[-1:])], default=0)
        row: Facts = {
            "run": run.name,
            "recipe": recipe["name"],
            "network": f"{facts['network']['name']} {facts['network']['shortcut']}",
            "data": facts["data"]["name"],
            "seed": recipe["seed"],
            "step": step,
            "steps": steps,
            "status": "finished" if result is not None else "not finished",
            "seconds": result["seconds"] if result is not None else None,
            "created": facts["created"],
        }
        for split in ("validation", "test"):
            last = last_of(records, "evaluation", split)
            row[f"{split}_top1"] = last["top1"] if last is not None else None
        return row
    except ResidualError as error:
        return {"run": run.name, "damaged": error.what}
    except (KeyError, TypeError, AttributeError) as error:
        return {"run": run.name, "damaged": f"its files are not as written: {error!r:.80}"}


def _flat(table: Facts, prefix: str = "") -> Facts:
    found: Facts = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _settings(run: RunFolder) -> Facts:
    facts = run.facts()
    try:
        return _flat({part: facts[part] for part in ("recipe", "chosen", "versions")})
    except KeyError as error:
        raise ModelError(f"run.json lacks {error}", run.path, "restore it from a copy") from None


def compare(runs: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """The settings whose values are not the same in all runs, each with its value in every run."""
    tables = [_settings(run) for run in runs]
    paths = dict.fromkeys(path for table in tables for path in table)
    rows = {path: [table.get(path) for table in tables] for path in paths}
    return {path: values for path, values in rows.items() if any(value != values[0] for value in values)}
