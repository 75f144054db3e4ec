"""A run that begins from trained weights: which they are, how they are made to fit the images, what is taken over.

Taken over are the network, the geometry of the images and the constants they are normalised with: what the weights
were trained on is what they understand. What the data cannot give, or was asked for otherwise, is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from residual.data.datasets import DataSettings, Division
from residual.data.preprocessing import Preprocessing
from residual.data.source import Dataset, everything
from residual.errors import ModelError, UsageError, log, rule_of
from residual.evaluation.bringing import Origin, bring
from residual.evaluation.classifier import WEIGHTS, Classifier
from residual.evaluation.judged import base_of, seen_in_training, trained_by
from residual.files import Damaged, Facts, digest
from residual.models import NetworkSpec, resolve
from residual.models.catalogue import departures, settings_of
from residual.models.interchange.adapting import adapt, refit
from residual.models.interchange.published import TORCHVISION
from residual.ranks import ALONE, Ranks
from residual.runs.folder import RunFolder
from residual.sealed import read_folder
from residual.training.freezing import frozen_parts, make_freezing
from residual.training.recipe import Recipe

_APART = "keep images to judge on in test/ and val/ of their own, or begin from other weights"
_DRAWS = ("classifier_initialisation", "initialisation", "zero_last_scale")
FREE = ("dropout", "shortcut_dropout", "stochastic_depth", "norm_momentum", "norm_group", *_DRAWS)
"""Parts of a network that may be asked for with any weights: they change no tensor of them."""


@dataclass
class Start:
    """Trained weights on their way into a run; `said` tells what was done to them, line by line."""

    recipe: Recipe
    origin: Origin
    spec: NetworkSpec
    settled: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def fit(self, dataset: Dataset, provenance: Facts) -> Classifier:
        """The classifier as it is before the first step: its head, its channels and its constants for these images."""
        network, sight = self.origin.classifier.network, self.origin.classifier.preprocessing
        if dataset.channels != sight.channels:
            network, words = adapt(network, dataset.channels)
            sight = sight.with_channels(dataset.channels)
            self.said.append(words)
        sight = self._geometry(sight, dataset)
        old, new = self.origin.classifier.class_names, dataset.class_names
        same = len(set(old)) == len(old) and set(old) == set(new)
        rows = [old.index(name) for name in new] if same else None
        self.said.append(
            f"head: kept, its {len(new)} classes are the same"
            if same
            else f"head: drawn anew for {len(new)} classes, the weights have {len(old)} others"
        )
        spec = self.spec.model_copy(update={"classes": len(new), "channels": dataset.channels})
        return Classifier(refit(network, spec, self.recipe.seed, rows), sight, new, provenance)

    def _geometry(self, sight: Preprocessing, dataset: Dataset) -> Preprocessing:
        (height, width), (old_height, old_width) = dataset.image_size, _trained_on(sight)
        if (height, width) != (old_height, old_width):
            self.said.append(f"images: {height} x {width} pixels; the weights know {old_height} x {old_width}")
        self.said.append(f"constants: {sight.normalisation} of the weights, nothing measured")
        # Images in memory are as large as they are: nothing of theirs is cut off.
        return replace(sight.with_size(dataset.image_size), train_size=None).of(dataset.geometry)

    def facts(self, ready: Classifier, steps: int) -> Facts:
        """What run.json remembers: where the weights are from, what they are before the first step, what learns."""
        freezing = make_freezing(ready.network, self.recipe.start, steps)
        return {
            **self.origin.facts,
            "ready_sha256": digest(ready.pack()[WEIGHTS]),
            "said": [*self.origin.said, *self.said],
            "learns": freezing.words() if freezing is not None else ["all of it learns alike"],
        }


def prepare(
    recipe: Recipe, asked: Collection[str], given: bool, heed: Callable[[], None] = lambda: None
) -> Start | None:
    """The weights a recipe begins from, read and found to be those of its network; None where it names none.

    Args:
        asked: the settings given by hand.
        given: whether the recipe's network is asked for too; that of the program's own gives way to the weights'.
        heed: called several times a second while weights are downloaded; what it raises ends that.

    Raises:
        UsageError: there are none, they are of another network, or something is asked of weights that are not named.
        ModelError: the weights cannot be used.
    """
    settings = recipe.start
    if settings.weights is None:
        if settings.freeze != "none" or settings.statistics == "kept":
            what = "there are no trained weights to keep as they are"
            raise UsageError(what, "start", "name a run or a file of weights with --from, or set start.freeze to none")
        return None
    try:
        origin = bring(settings.weights, lambda _: heed())
    except UsageError as error:
        bare = settings.weights.lower().replace("-", "")
        if bare not in TORCHVISION:
            raise
        remedy = f"published weights are named with their library, --from torchvision:{bare}"
        raise UsageError(error.what, error.where, remedy) from None
    spec = _agreed(recipe, origin, asked, given)
    frozen_parts(settings, len(spec.depths))
    sight = origin.classifier.preprocessing
    settled = _settled(recipe.data, sight, asked)
    start = settings.model_copy(update={"weights": origin.facts["weights"]})
    recipe = recipe.model_copy(update={"network": settings_of(spec), "start": start})
    return Start(recipe, origin, spec, settled)


def made_ready(start: Start, dataset: Dataset, division: Division, facts: Facts, steps: int) -> dict[str, bytes]:
    """The files of the weights as they are before the first step, and in `facts` what run.json remembers of them."""
    classifier = start.fit(dataset, {"run": "", "step": 0, "data": facts["data"]})
    facts["start"] = start.facts(classifier, steps) | _seen(start, dataset, division)
    return classifier.pack()


def _seen(start: Start, dataset: Dataset, division: Division) -> Facts:
    """How many of the images that are judged have trained the weights: a folder that has grown is divided anew."""
    known, trained = start.origin.classifier.data, trained_by(str(start.origin.facts["weights"]))
    if known.get("name") != "folder" or "origin" not in known or dataset.name != "folder" or trained is None:
        return {}
    origin, here = (base_of(Path(place).expanduser()) for place in (known["origin"], dataset.origin))
    parts = {"validation": (dataset.held, division.validation), "test": (dataset.test, everything(dataset.test))}
    counts = {}
    for part, (source, indices) in parts.items():
        counts[part], _ = seen_in_training(origin, trained, here, source, indices)
        if counts[part]:
            few = f"{counts[part]:,} of the {len(indices):,} {part} images"
            what = "%s have trained the weights that the run begins from, and the %s figure will flatter (%s): %s"
            log.warning(what, few, part, dataset.origin, _APART)
    return {"seen": counts} if any(counts.values()) else {}


def _settled(data: DataSettings, sight: Preprocessing, asked: Collection[str]) -> dict[str, Any]:
    """What of the images' geometry and constants follows from the weights, by the path of the setting."""
    if data.normalisation != sight.normalisation and "data.normalisation" in asked:
        what = f"the weights come with their own constants, {sight.normalisation}"
        raise UsageError(what, "data.normalisation", "leave it out")
    wanted: dict[str, Any] = {"normalisation": sight.normalisation}
    if data.dataset == "folder":
        side, judged = _trained_on(sight)[0], sight.image_size[0]
        wanted |= {"image_size": data.image_size or side, "channels": data.channels or sight.channels}
        if data.image_size is None and judged != side:
            wanted["test_size"] = judged
        wanted |= {"resize": sight.resize, "interpolation": sight.interpolation, "crop": sight.crop}
    unlike = {f"data.{name}": value for name, value in wanted.items() if getattr(data, name) != value}
    return {path: value for path, value in unlike.items() if path not in asked}


def _trained_on(sight: Preprocessing) -> tuple[int, int]:
    """The (H, W) of the images that the weights were trained on."""
    return sight.train_size or sight.image_size


def _agreed(recipe: Recipe, origin: Origin, asked: Collection[str], given: bool) -> NetworkSpec:
    """The network of the weights, with what may differ as the recipe asks for it."""
    own, size = origin.classifier.spec, origin.classifier.preprocessing.image_size
    wanted = resolve(recipe.network, own.classes, own.channels, size)
    parts = [path.removeprefix("network.") for path in asked if path.startswith("network.")]
    if given or "name" in parts:
        parts = [*NetworkSpec.model_fields]
    free = {part: getattr(wanted, part) for part in FREE if part in parts and getattr(recipe.network, part) is not None}
    unlike = {part: pair for part, pair in departures(wanted, own).items() if part in parts and part not in FREE}
    if unlike:
        listed = ", ".join(f"{part} {theirs} there, {ours} here" for part, (theirs, ours) in [*unlike.items()][:3])
        what = f"the weights are of {own.name}, and another network is asked for: {listed}"
        raise UsageError(what, origin.facts["weights"], f"leave --network out, or name weights of {wanted.name}")
    try:
        return NetworkSpec.model_validate({**own.model_dump(), **free})
    except ValidationError as error:
        reason = rule_of(error.errors()[0]["type"], error.errors()[0]["msg"])
        raise UsageError("this network cannot be built", origin.facts["weights"], reason) from None


def read_start(folder: RunFolder, facts: Facts, ranks: Ranks = ALONE) -> Classifier | None:
    """The weights a run began from, as they were before its first step; None for a run that drew its network.

    Raises:
        ModelError: they are gone or damaged, or not those of run.json.
    """
    if not facts.get("start"):
        return None
    contents = dict(ranks.first_files(lambda: start_files(folder)))
    if digest(contents[WEIGHTS]) != facts["start"].get("ready_sha256"):
        raise ModelError("these are not the weights the run began from", folder.start_path, "restore it from a copy")
    return Classifier.unpack(contents, folder.start_path)


def start_files(folder: RunFolder) -> dict[str, bytes]:
    """The files of the weights a run began from.

    Raises:
        ModelError: they are gone or damaged.
    """
    try:
        return read_folder(folder.start_path, "model")[1]
    except Damaged as error:
        raise ModelError(error.what, error.where, error.remedy) from None
