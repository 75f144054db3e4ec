"""A run in one row, and what sets several runs apart. Reads the folder, computes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from residual.errors import ModelError, ResidualError
from residual.files import Facts
from residual.runs.folder import RunFolder

SPLITS = ("validation", "test")
FIELDS = (
    *("run", "recipe", "network", "data", "seed", "step", "steps", "status", "seconds", "created"),
    *("validation_top1", "test_top1"),
)
"""The columns of a row, in their order."""
WORDS = ("run", "recipe", "network", "data", "status", "created")


def summarise(run: RunFolder, settings: Sequence[str] = ()) -> Facts:
    """The row of one run; a damaged one is named with the reason, and hides no other.

    Of the records only the end is read, as far as the row needs it.

    Args:
        settings: paths in the recipe, such as `optimiser.weight_decay`, whose values the row shall hold too;
            one that the recipe does not have is left out.
    """
    try:
        facts, result = run.facts(), run.result()
        recipe = facts["recipe"]
        steps = facts["chosen"]["steps"]
        last, figures = run.last_figures(_splits(facts, result is not None))
        step = 0 if last is None else max(0, last["step"])
        if step == steps and result is None:  # cut between its last lines and its result
            _, figures = run.last_figures(SPLITS)
        row: Facts = {
            "run": run.name,
            "recipe": recipe["name"],
            "network": f"{facts['network']['name']} {facts['network']['shortcut']}",
            "data": data_name(facts["data"]),
            "seed": recipe["seed"],
            "step": steps if result is not None else max([step, *run.steps()[:1]]),
            "steps": steps,
            "status": "finished" if result is not None else "training" if run.at_work() else "not finished",
            "seconds": result["seconds"] if result is not None else None,
            "created": facts["created"],
        }
        if result is not None:
            row["step"] = row["steps"] = result.get("steps", steps)
            figures = model_figures(result) if "best" in result else figures
        for split in SPLITS:
            row[f"{split}_top1"] = figures[split]["top1"] if split in figures else None
        for name, value in row.items():
            if value is not None and not isinstance(value, str if name in WORDS else int | float):
                raise TypeError(f"{name} is {value!r:.40}")
        table = flat(recipe) if settings else {}
        return row | {path: table[path] for path in settings if path in table}
    except ResidualError as error:
        return {"run": run.name, "damaged": error.what}
    except (KeyError, TypeError, AttributeError) as error:
        return {"run": run.name, "damaged": f"its files are not as written: {error!r:.80}"}


def model_figures(result: Facts) -> Facts:
    """By split, the figures of the model of a finished run: of the last step, or of the weights the recipe kept."""
    best = result.get("best")
    return {split: best[split] for split in SPLITS if split in best} if best else dict(result["final"])


def data_name(data: Facts) -> Any:
    """The name of a data set; of photographs that of their folder, since all of them are called `folder`."""
    if data["name"] != "folder":
        return data["name"]
    return re.split(r"[/\\]", str(data.get("origin", "")).rstrip("/\\"))[-1] or "folder"


def _splits(facts: Facts, finished: bool) -> list[str]:
    """The splits the records can hold by now; for one they do not hold, all of them would have to be read."""
    data, evaluation = facts["data"], facts["recipe"].get("evaluation", {})
    watched = finished or evaluation.get("watch_test", True)
    read = evaluation.get("test", True) and watched
    there = {"validation": data.get("validation", 1), "test": data.get("test", 1) and read}
    return [split for split in SPLITS if there[split]]


def flat(table: Facts, prefix: str = "") -> Facts:
    """The values of nested tables by their paths: {"a": {"b": 1}} gives {"a.b": 1}."""
    found: Facts = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _settings(run: RunFolder) -> Facts:
    facts = run.facts()
    try:
        return flat(facts["recipe"]) | flat({part: facts[part] for part in ("chosen", "versions")})
    except KeyError as error:
        raise ModelError(f"run.json lacks {error}", run.path, "restore it from a copy") from None


def compare(runs: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """What is not the same in all runs, each with its value in every run; settings by the paths that `--set` takes."""
    tables = [_settings(run) for run in runs]
    paths = dict.fromkeys(path for table in tables for path in table)
    rows = {path: [table.get(path) for table in tables] for path in paths}
    return {path: values for path, values in rows.items() if any(value != values[0] for value in values)}


def shortest_ends(places: Sequence[str]) -> list[str]:
    """What each place is called: the shortest end of its path that no other has."""
    parts = {place: Path(place).parts for place in places}
    longest = max(map(len, parts.values()), default=1)

    def called(place: str) -> str:
        for count in range(1, longest + 1):
            tail = parts[place][-count:]
            if sum(other[-count:] == tail for other in parts.values()) == 1:
                return str(Path(*tail)) if tail else place
        return place

    return [called(place) for place in places]


def names_of(runs: Sequence[RunFolder]) -> list[str]:
    """The shortest ends of the runs' paths that no other has; numbered where one is named twice."""
    names = shortest_ends([str(run.path.absolute()) for run in runs])
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def spelt(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(spelt(one) for one in value)}]"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
