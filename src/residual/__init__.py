"""Residual: deep residual networks for image classification.

    import residual

    run = residual.train("digits", set={"epochs": 4})
    print(residual.evaluate(run.path).as_dict()["top1"])
    print(residual.predict(run.path, "digit.png")[0].best)

Names are loaded when they are first used, so `import residual` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from residual.errors import (
    DataError,
    EnvironmentFault,
    Interrupted,
    ModelError,
    NonFiniteError,
    ResidualError,
    StorageError,
    UsageError,
)
from residual.version import VERSION as __version__

if TYPE_CHECKING:
    from residual.cli.explain import explain_images as explain
    from residual.cli.notebook import Picture, draw_batch, draw_curves, draw_report
    from residual.cli.report import make_report as report
    from residual.data.packing_images import pack_images
    from residual.evaluation.bringing import import_weights
    from residual.evaluation.classifier import Classifier
    from residual.evaluation.predicting import predict
    from residual.evaluation.together import evaluate_together
    from residual.evaluation.use import evaluate, load
    from residual.export.writing import export_model
    from residual.models.asked import build
    from residual.models.catalogue import resolve
    from residual.models.spec import NetworkSettings
    from residual.runs.folder import RunFolder, find_run, list_runs
    from residual.training.extending import extend
    from residual.training.find_rate import find_rate as find_lr
    from residual.training.progress import Silent, make_listener
    from residual.training.recipe import Recipe, override
    from residual.training.recipes import RECIPES
    from residual.training.signals import stop
    from residual.training.train import resume, train
    from residual.tuning.search import search as tune

_PLACES = {
    "Classifier": ("residual.evaluation.classifier", "Classifier"),
    "Picture": ("residual.cli.notebook", "Picture"),
    "NetworkSettings": ("residual.models.spec", "NetworkSettings"),
    "RECIPES": ("residual.training.recipes", "RECIPES"),
    "Recipe": ("residual.training.recipe", "Recipe"),
    "RunFolder": ("residual.runs.folder", "RunFolder"),
    "Silent": ("residual.training.progress", "Silent"),
    "build": ("residual.models.asked", "build"),
    "draw_batch": ("residual.cli.notebook", "draw_batch"),
    "draw_curves": ("residual.cli.notebook", "draw_curves"),
    "draw_report": ("residual.cli.notebook", "draw_report"),
    "evaluate": ("residual.evaluation.use", "evaluate"),
    "evaluate_together": ("residual.evaluation.together", "evaluate_together"),
    "explain": ("residual.cli.explain", "explain_images"),
    "export_model": ("residual.export.writing", "export_model"),
    "extend": ("residual.training.extending", "extend"),
    "find_run": ("residual.runs.folder", "find_run"),
    "find_lr": ("residual.training.find_rate", "find_rate"),
    "import_weights": ("residual.evaluation.bringing", "import_weights"),
    "list_runs": ("residual.runs.folder", "list_runs"),
    "load": ("residual.evaluation.use", "load"),
    "make_listener": ("residual.training.progress", "make_listener"),
    "override": ("residual.training.recipe", "override"),
    "pack_images": ("residual.data.packing_images", "pack_images"),
    "predict": ("residual.evaluation.predicting", "predict"),
    "report": ("residual.cli.report", "make_report"),
    "resolve": ("residual.models.catalogue", "resolve"),
    "resume": ("residual.training.train", "resume"),
    "stop": ("residual.training.signals", "stop"),
    "train": ("residual.training.train", "train"),
    "tune": ("residual.tuning.search", "search"),
}

__all__ = [
    "RECIPES",
    "Classifier",
    "DataError",
    "EnvironmentFault",
    "Interrupted",
    "ModelError",
    "NetworkSettings",
    "NonFiniteError",
    "Picture",
    "Recipe",
    "ResidualError",
    "RunFolder",
    "Silent",
    "StorageError",
    "UsageError",
    "__version__",
    "build",
    "draw_batch",
    "draw_curves",
    "draw_report",
    "evaluate",
    "evaluate_together",
    "explain",
    "export_model",
    "extend",
    "find_lr",
    "find_run",
    "import_weights",
    "list_runs",
    "load",
    "make_listener",
    "override",
    "pack_images",
    "predict",
    "report",
    "resolve",
    "resume",
    "stop",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'residual' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
