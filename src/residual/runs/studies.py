"""The studies in a folder: their kind, how many of their runs are finished, the command that shows them or goes on.

Each is a folder that is no run and holds runs: seeds (`seed-N`), arms (`ARM/seed-N`), a search of `residual tune`
(`study.json`), a comparison of searches (`comparison.json`). Little is read of each: its facts, or those of one run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from residual.errors import ResidualError, argument, quoted
from residual.files import TEMPORARY, Facts, read_regular
from residual.runs.folder import RESULT, RUN, RunFolder, runs_root

STUDY, COMPARISON, DATABASE = "study.json", "comparison.json", "study.sqlite3"
_SEED = re.compile(r"seed-\d+")
_LIMIT = 1 << 24


def runs_of(names: Iterable[str]) -> list[str]:
    """The runs meant: of a name that is a study, or an arm of one, all its runs that are finished."""
    found: list[str] = []
    for name in names:
        place = os.path.expanduser(name)
        folder = Path(place if os.path.isdir(place) else runs_root() / name)
        inner = [] if os.path.isfile(folder / RUN) else [_runs(folder), *map(_runs, _folders(folder))]
        finished = [str(run) for some in inner for run in some if (run / RESULT).is_file()]
        found += finished or [name]
    return found


def list_studies(root: Path) -> list[Facts]:
    """The studies in a folder by name, each as `study`, `kind`, `path`, `recipe`, `runs`, `finished`, `command`.

    One that cannot be read is named with the reason as `damaged`, and hides no other.
    """
    found = []
    for folder in sorted(_folders(root)):
        if not (folder / RUN).is_file():
            try:
                found += _study(folder, root)
            except ResidualError as error:
                found.append({"study": folder.name, "damaged": error.what})
            except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
                found.append({"study": folder.name, "damaged": f"its files are not as written: {error!r:.80}"})
    return found


def _study(folder: Path, root: Path) -> list[Facts]:
    """The study a folder holds, or none."""
    for name, kind, show in ((COMPARISON, "comparison", "study compare --study"), (STUDY, "search", "study show")):
        if not (folder / name).is_file():
            continue
        facts = json.loads(read_regular(folder / name, _LIMIT))
        if facts.get("kind") == "seeds":
            break
        where = "" if _same(root, runs_root()) else f"RESIDUAL_RUNS={argument(root)} "
        own = kind == "comparison" or (folder / DATABASE).exists()
        command = f"{where}residual {show} {argument(facts['name'])}{'' if own else ' --storage ADDRESS'}"
        return [_row(facts["name"], kind, folder, facts["recipe"]["name"], _runs(folder), command)]
    runs = _runs(folder)
    if seeds := [run for run in runs if _SEED.fullmatch(run.name)]:
        recipe, command = _begun(seeds[0], folder)
        if command.startswith("residual train "):
            return []  # runs that are only named so
        return [_row(folder.name, "seeds", folder, recipe, seeds, command)]
    arms = [] if runs else [run for arm in _folders(folder) for run in _runs(arm) if _SEED.fullmatch(run.name)]
    if arms:
        recipe, command = _begun(arms[0], folder)
        if not command.startswith(("residual study seeds", "residual train ")):  # else a folder of such folders
            return [_row(folder.name, "arms", folder, recipe, arms, command)]
    return []


def _row(name: str, kind: str, folder: Path, recipe: str, runs: list[Path], command: str) -> Facts:
    finished = sum((run / RESULT).is_file() for run in runs)
    facts = {"path": str(folder), "recipe": recipe, "runs": len(runs), "finished": finished, "command": command}
    return {"study": name, "kind": kind, **facts}


def _begun(run: Path, folder: Path) -> tuple[str, str]:
    """Recipe and command of a study whose facts are those of its first run."""
    facts = RunFolder(run).facts()
    recipe = facts["recipe"]["name"]
    again = f"residual study seeds {argument(recipe)} --out {argument(folder)}"
    return recipe, _command(facts.get("command")) or again


def _command(stored: str | None) -> str:
    """A stored command line as it is typed: `python -m residual study ...` becomes `residual study ...`."""
    try:
        words = shlex.split(stored or "")
    except ValueError:
        return stored or ""
    for place, word in enumerate(words[:-1]):
        if PurePath(word).stem == "residual" and words[place + 1] in ("study", "train"):
            return " ".join(quoted(one) for one in ["residual", *words[place + 1 :]])
    return stored or ""


def _runs(folder: Path) -> list[Path]:
    return sorted(entry for entry in _folders(folder) if (entry / RUN).is_file())


def _folders(folder: Path) -> Iterator[Path]:
    """The folders in a folder; none where one may not look."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(one.path) for one in entries if one.is_dir() and not one.name.startswith(TEMPORARY)]
    except (OSError, ValueError):  # a null character in the name
        return
    yield from found


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
