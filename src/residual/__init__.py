"""Residual: deep residual networks for image classification.

    import residual

    run = residual.train("digits", set={"epochs": 4})
    print(residual.evaluate(run.path).as_dict()["top1"])
    print(residual.predict(run.path, ["digit.png"])[0].best)

Names are loaded when they are first used, so `import residual` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from residual.errors import ResidualError
from residual.version import VERSION as __version__

if TYPE_CHECKING:
    from residual.cli.report import make_report as report
    from residual.evaluation.classifier import Classifier
    from residual.evaluation.use import evaluate_run as evaluate
    from residual.evaluation.use import load, predict
    from residual.runs.folder import RunFolder, list_runs
    from residual.training.extending import extend
    from residual.training.recipe import Recipe
    from residual.training.recipes import RECIPES
    from residual.training.train import resume, train

_PLACES = {
    "Classifier": ("residual.evaluation.classifier", "Classifier"),
    "RECIPES": ("residual.training.recipes", "RECIPES"),
    "Recipe": ("residual.training.recipe", "Recipe"),
    "RunFolder": ("residual.runs.folder", "RunFolder"),
    "extend": ("residual.training.extending", "extend"),
    "evaluate": ("residual.evaluation.use", "evaluate_run"),
    "list_runs": ("residual.runs.folder", "list_runs"),
    "load": ("residual.evaluation.use", "load"),
    "predict": ("residual.evaluation.use", "predict"),
    "report": ("residual.cli.report", "make_report"),
    "resume": ("residual.training.train", "resume"),
    "train": ("residual.training.train", "train"),
}

__all__ = [
    "RECIPES",
    "Classifier",
    "Recipe",
    "ResidualError",
    "RunFolder",
    "__version__",
    "evaluate",
    "extend",
    "list_runs",
    "load",
    "predict",
    "report",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'residual' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
