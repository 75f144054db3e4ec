"""Places that a run names: where no run folder can or may be made, and where its images are."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from residual.data.source import Dataset
from residual.errors import StorageError, UsageError
from residual.files import TEMPORARY, Facts
from residual.runs.folder import RunFolder, create_numbered, find_run, runs_root
from residual.runs.places import refuse_occupied
from residual.sealed import mind_sealed
from residual.training.recipe import Override, Recipe, override

_MOST = 259
"""Characters of the whole name of a file on Windows, where nothing else is set."""
_TEMPORARY = f"{TEMPORARY}{TEMPORARY}step-00000000-1234567-01234567"
"""The longest name of a folder that a run makes: a checkpoint on its way in, where an earlier one stands."""


def lasting(recipe: Recipe) -> Recipe:
    """The recipe with the places of its images and of its first weights written so that any folder will do."""
    changes: list[Override] = lasting_weights([("start.weights", recipe.start.weights)])
    if recipe.data.path is not None and os.path.exists(there := os.path.expanduser(recipe.data.path)):
        changes.append(("data.path", os.path.abspath(there)))
    return override(recipe, [(path, place) for path, place in changes if place is not None])


def lasting_weights(changes: Iterable[Override], begun: str | None = None) -> list[Override]:
    """The changes with the place of the first weights as it is now: `last` is another run tomorrow.

    Args:
        begun: the weights with which what is asked for began, if it did; they are what `last` meant.
    """
    return [(path, _weights(value, begun) if path == "start.weights" else value) for path, value in changes]


def _weights(named: object, begun: str | None) -> object:
    """Of what is not there, who opens it says what is wrong."""
    if not isinstance(named, str):
        return named
    if named == "last" and begun is not None:
        return begun
    there = os.path.expanduser(named)
    if ":" not in there and not os.path.exists(there):
        with suppress(UsageError):
            there = str(find_run(there).path)
    return os.path.abspath(there) if os.path.exists(there) else named


def refuse_unmakeable(path: Path) -> None:
    """Find out before the data is read that no run folder can be made there."""
    try:
        path.lstat()
        refuse_occupied(path)
        return
    except OSError:
        longest = path / "checkpoints" / _TEMPORARY / "preprocessing.safetensors"
    if (length := len(os.path.abspath(longest))) > _MOST and not _takes_long_names():
        what = f"a run there has names of {length} characters, and Windows takes {_MOST}"
        raise UsageError(what, path, "name a shorter --out, or enable long paths (LongPathsEnabled) in Windows")
    try:
        longest.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        where = str(path) if len(str(path)) < 400 else f"{str(path)[:100]}... of {len(str(path))} characters"
        raise UsageError(f"no run folder can be made there: {reason}", where, "name another --out") from None


def _takes_long_names() -> bool:
    """Whether this system takes names of any length; Windows does where its registry says so."""
    if sys.platform != "win32":
        return True
    import winreg

    with suppress(OSError):
        place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0] == 1)
    return False


def refuse_inside(place: Path, data: str | None) -> None:
    """No run may be written among the images, nor into a folder that is sealed."""
    mind_sealed(place, "--out")
    try:
        folder = Path(data).expanduser() if data is not None else None
        if folder is not None and folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            raise UsageError("the run folder would lie inside the data", place, "name another --out")
    except (OSError, RuntimeError, ValueError):
        return  # such data cannot be opened either, and the one who opens it says why


def create_run(
    path: Path | None,
    recipe: Recipe,
    dataset: Dataset,
    facts: Facts,
    toml: str,
    split: Facts,
    start: Mapping[str, bytes] | None,
) -> RunFolder:
    """The new run folder; where no name was given, the next number that no other process takes first."""
    for _ in range(100):
        place = path or create_numbered(recipe.name)
        refuse_inside(place, dataset.origin)
        try:
            return RunFolder.create(place, facts, toml, split, start)
        except (UsageError, StorageError):
            if path is not None or not os.path.lexists(place):
                raise
    raise UsageError("no free name was found for the run", runs_root(), "name one with --out")
