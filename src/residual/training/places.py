"""Places that a run names: where no run folder can or may be made, and where its images are."""

from __future__ import annotations

import os
from pathlib import Path

from residual.errors import UsageError
from residual.training.recipe import Recipe, override


def lasting(recipe: Recipe) -> Recipe:
    """The recipe with the place of its images written so that it is the same from any folder."""
    path = recipe.data.path
    if path is None or not os.path.exists(os.path.expanduser(path)):
        return recipe  # who opens it says what is wrong
    return override(recipe, [("data.path", os.path.abspath(os.path.expanduser(path)))])


def refuse_unmakeable(path: Path) -> None:
    """Find out before the data is read that no run folder can be made there."""
    try:
        path.lstat()
        return  # RunFolder.create judges what stands there
    except OSError:
        longest = path / "checkpoints" / "step-00000000-unfinished" / "preprocessing.safetensors"
    try:
        longest.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        where = str(path) if len(str(path)) < 400 else f"{str(path)[:100]}... of {len(str(path))} characters"
        raise UsageError(f"no run folder can be made there: {reason}", where, "name another --out") from None


def refuse_inside(place: Path, data: str | None) -> None:
    """No run may be written among the images."""
    try:
        folder = Path(data).expanduser() if data is not None else None
        if folder is not None and folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            raise UsageError("the run folder would lie inside the data", place, "name another --out")
    except (OSError, RuntimeError, ValueError):
        return  # such data cannot be opened either, and the one who opens it says why
