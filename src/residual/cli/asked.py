"""What the commands that train were asked for: their flags and `--set`, as changes of a recipe by path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from residual.analysis.origins import FLAGS

HELD_OUT = {"tune": 0.1, "final": 0.0}
"""What `--protocol` says: the share of the training images that is held out."""
_PATHS = {flag: path for path, flag in FLAGS.items()}


def asked(texts: Iterable[str] | None, **flags: Any) -> list[tuple[str, Any]]:
    """The changes in the order of the flags, then those of `--set`; a flag that is None or False was not given."""
    from residual.training.recipe import parse_override

    changes = [
        (_PATHS[f"--{name.replace('_', '-')}"], HELD_OUT[value] if name == "protocol" else value)
        for name, value in flags.items()
        if value is not None and value is not False
    ]
    return changes + [parse_override(text) for text in texts or []]


def ending(recipe: str | None, protocol: str | None, changes: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The final protocol ends with the test images, also where a recipe file, as one of a search, leaves them alone.

    Raises:
        UsageError: the file is no recipe.
    """
    from residual.training.recipes import find_recipe

    if protocol != "final" or recipe is None or any(path == "evaluation.test" for path, _ in changes):
        return []
    from_file = recipe.endswith(".toml")
    return [("evaluation.test", True)] if from_file and not find_recipe(recipe).evaluation.test else []
