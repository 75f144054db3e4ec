"""Studies of trained networks: responses, lesions, probes. Runs of one network over several seeds make one spread.

Nothing is trained. Errors and accuracies are in percent. Every figure is of so many test images as `settings` says,
evenly spread over all of them: those of a folder stand class by class.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from residual.analysis.probing import features, likeness, probes
from residual.analysis.propagation import signals
from residual.analysis.responses import responses
from residual.analysis.surgery import lesions
from residual.analysis.unrolling import sum_violation
from residual.data.source import Source
from residual.device import choose_device
from residual.errors import UsageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.judged import Judged, select
from residual.evaluation.use import read_classifier
from residual.files import Facts
from residual.models import build, put
from residual.models.units import Unit
from residual.runs.folder import RunFolder, find_run, runs_root
from residual.runs.summary import flat
from residual.studies.arms import FULL, PRIVATE, WHOLE, add_points, public, spread
from residual.studies.evidence import Budget, Evidence, RecipeFacts, made, recipe_facts
from residual.studies.table import DEFINITIONS
from residual.training.recipes import RECIPES
from residual.training.statistics import measure_statistics

BATCH = 250
ADDED, SHARED = 32, 500
"""Images of which the additive form and the shares of branches are taken; gradients are those of one batch."""
SILENT = 0.01
"""A branch is silent whose deviation is below this share of what its shortcut carries."""
Tell = Callable[[str, int, int], None]
_FREE = (*PRIVATE, "evaluation.", "epochs", "steps", "name", "source", "departures", "processes.")


@dataclass(frozen=True)
class Trained:
    """A run with its network and its data: `test` is what is judged, `train` what it was trained on."""

    run: RunFolder
    classifier: Classifier
    test: Judged
    train: Judged
    device: torch.device

    @property
    def name(self) -> str:
        """The network, with its depth where that is not the name's own."""
        spec = self.classifier.spec
        own = spec.name.rpartition("-")[2]
        return spec.name if own == str(spec.weighted_layers) else f"{spec.name}-as-{spec.weighted_layers}"


@dataclass(frozen=True)
class Asked:
    """What is measured: runs, how many images of the test and of the training, where the data are now."""

    runs: Sequence[str]
    images: int = 2000
    training_images: int = 5000
    data: str | None = None
    device: str = "auto"
    command: str = ""
    tell: Tell = lambda run, done, whole: None


def opened(asked: Asked) -> list[Trained]:
    """The runs, finished and with their data.

    Raises:
        UsageError: no run, one named twice, or one that is not finished.
    """
    if not asked.runs:
        raise UsageError("no run was named", "runs", "name one or more runs, such as those of a study")
    found = []
    for name in asked.runs:
        run = find_run(name)
        if run.result() is None:
            raise UsageError("this run is not finished", run.path, "go on with it: residual train --resume")
        classifier = read_classifier(run.path)
        test = select(classifier, run.path, path=asked.data)
        train = select(classifier, run.path, "training", asked.data)
        found.append(Trained(run, classifier, test, train, torch.device(choose_device(asked.device))))
    places = [os.path.realpath(one.run.path) for one in found]
    if len({*places}) < len(places):
        raise UsageError("a run is named twice", "runs", "name each once")
    first: dict[str, Trained] = {}
    for one in found:
        other = first.setdefault(one.name, one)
        if unlike := _differences(other.run.facts(), one.run.facts()):
            what = f"{other.run.path} and {one.run.path} are both {one.name}, and no seeds of one training: {unlike}"
            raise UsageError(what, "runs", "measure them in one call each")
    return found


def _differences(one: Facts, other: Facts) -> str:
    """In what two runs of one network differ beside the seed, where they ran, and what was judged when."""
    tables = [
        {
            **{path: value for path, value in flat(facts["recipe"]).items() if not path.startswith(_FREE)},
            "steps": facts["chosen"]["steps"],
            "the images": facts["data"]["checksums"],
        }
        for facts in (one, other)
    ]
    names = [name for name in {**tables[0], **tables[1]} if tables[0].get(name) != tables[1].get(name)]
    return ", ".join(names[:4]) + (" and others" if len(names) > 4 else "")


def _some(judged: Judged, count: int) -> Tensor:
    """So many of the images, evenly spread."""
    return judged.indices[_evenly(len(judged.indices), count)]


def _evenly(whole: int, count: int) -> Tensor:
    count = min(count, whole)
    return torch.arange(count) * whole // count


def _batches(one: Trained, source: Source, indices: Tensor) -> Iterator[Tensor]:
    for part in indices.split(BATCH):
        yield one.classifier.preprocessing.normalise(source.read(part).to(one.device))


def _by_network(found: Sequence[tuple[str, Facts]]) -> Facts:
    """Of every network the spread of each figure over its runs."""
    table: dict[str, list[Facts]] = {}
    for name, figures in found:
        table.setdefault(name, []).append(figures)
    return {
        name: {key: spread([one[key] for one in rows]) for key in rows[0] if all(key in one for one in rows)}
        for name, rows in table.items()
    }


def study_responses(asked: Asked) -> Evidence:
    """Figure 7 of He et al. 2015 on runs: responses of every 3x3 layer; gradients by layer; the additive form."""
    began, trained = time.monotonic(), opened(asked)
    rows: list[tuple[str, Facts]] = []
    series: Facts = {}
    for number, one in enumerate(trained):
        asked.tell(one.run.name, number, len(trained))
        network = put(one.classifier.network, one.device)
        indices = _some(one.test, asked.images)
        found = responses(network, _batches(one, one.test.source, indices))
        some = _some(one.test, min(BATCH, asked.images))
        labels = one.test.source.labels.index_select(0, some).to(one.device)
        images = next(_batches(one, one.test.source, some))
        passed = signals(network, images, labels)
        additive = _additive(one, images[_evenly(len(images), ADDED)])
        rows.append((one.name, {"response": found.mean, "gradient_ratio": passed.ratio, **additive}))
        points = {"layer": list(found.layers), "response": list(found.layers.values()), "gradient": passed.gradients}
        add_points(series, one.name, points)
    sizes = {"gradient_images": BATCH, "additive_images": ADDED}
    return _evidence("responses", asked, trained, _by_network(rows), {"responses": series}, began, sizes)


@torch.no_grad()
def _additive(one: Trained, images: Tensor) -> Facts:
    """How far x_L is from x_l + sum of F in the last stage, from its second unit on; nothing for plain networks."""
    network = one.classifier.network.eval()
    stage = [unit for unit in network.stages[-1].children() if isinstance(unit, Unit)]
    if any(unit.shortcut is None or unit.addition is not None for unit in stage) or len(stage) < 2:
        return {}
    maps: Tensor = network.stem(images)
    for units in list(network.stages)[:-1]:
        maps = units(maps)
    return {"additive_violation": sum_violation(stage[1:], stage[0](maps))}


def study_lesion(asked: Asked) -> Evidence:
    """Every unit deleted by itself, neighbours swapped: what it does to the error, and whether a branch is silent."""
    began, trained = time.monotonic(), opened(asked)
    rows: list[tuple[str, Facts]] = []
    series: Facts = {}
    whole: list[str] = []  # what is never deleted
    for one in trained:
        network = put(one.classifier.network, one.device)
        indices = _some(one.test, asked.images)
        constants = one.classifier.preprocessing

        def tell(done: int, whole: int, name: str = one.run.name) -> None:
            asked.tell(name, done, whole)

        found = lesions(network, one.test.source, indices, constants, one.device, tell)
        shares = responses(network, _batches(one, one.test.source, indices[_evenly(len(indices), SHARED)])).shares
        rises, swaps = ([error - found.whole for error in errors] for errors in (found.deleted, found.swapped))
        figures: Facts = {"error": found.whole}
        if rises:
            of_units = {"mean_rise": statistics.fmean(rises), "largest_rise": max(rises)}
            figures |= of_units | {"harmful_units": sum(rise < 0 for rise in rises)}
        if swaps:
            figures["mean_rise_of_swaps"] = statistics.fmean(swaps)
        if shares:
            silent = sum(share < SILENT for share in shares.values())
            figures |= {"silent_blocks": silent, "least_share": min(shares.values())}
        rows.append((one.name, figures))
        units = [
            (stage, place) for stage, some in enumerate(network.stages) for place in range(len([*some.children()]))
        ]
        numbers = {place: number for number, place in enumerate(units, 1)}
        if len(found.units) < len(units):
            left = len(units) - len(found.units)
            whole.append(f"{left} of the {len(units)} units of {one.name} change the maps' form and are not deleted")
        points = {
            "whole": found.whole,
            "unit": [numbers[place] for place in found.units],
            "deleted": list(found.deleted),
            "swap": [numbers[place] + 0.5 for place in found.pairs],
            "swapped": list(found.swapped),
        }
        add_points(series, one.name, points)
    measured = _by_network(rows)
    for figures in measured.values():  # counted, not averaged: a unit is silent in some run, or in none
        if "silent_blocks" in figures:
            figures["silent_blocks"] = figures["silent_blocks"]["most"]
    sizes = {"images_for_shares": SHARED}
    made = _evidence("lesion", asked, trained, measured, {"lesions": series}, began, sizes)
    return replace(made, caveats=(*made.caveats, *dict.fromkeys(whole)))


def study_probes(asked: Asked) -> Evidence:
    """Linear probes on every unit, and how alike neighbouring units are: now, and as the weights were drawn."""
    began, trained = time.monotonic(), opened(asked)
    rows: list[tuple[str, Facts]] = []
    series: Facts = {}
    for number, one in enumerate(trained):
        asked.tell(one.run.name, number, len(trained))
        network = put(one.classifier.network, one.device)
        sides = [(one.train, _some(one.train, asked.training_images)), (one.test, _some(one.test, asked.images))]
        (fitted, labels), (judged, truth) = (
            (features(network, _batches(one, side.source, some)), side.source.labels.index_select(0, some))
            for side, some in sides
        )
        found = probes(fitted, labels, judged, truth, one.classifier.spec.classes)
        within = [value for value, inside in zip(found.similarity, found.within, strict=True) if inside]
        rises = [after > before for before, after in pairwise(found.accuracy)]
        drawn = _untrained(one, *(some for _, some in sides))
        rows.append(
            (
                one.name,
                {
                    "probe_first": found.accuracy[0],
                    "probe_last": found.accuracy[-1],
                    "probe_rises": statistics.fmean(rises),
                    **({"similarity_within": statistics.fmean(within)} if within else {}),
                    **({"similarity_at_start": statistics.fmean(drawn)} if drawn else {}),
                },
            )
        )
        depth = [place / (len(found.names) - 1) for place in range(len(found.names))]
        points = {"depth": depth, "accuracy": list(found.accuracy), "similarity": list(found.similarity)}
        add_points(series, one.name, points)
    return _evidence("probes", asked, trained, _by_network(rows), {"probes": series}, began)


def _untrained(one: Trained, fitted: Tensor, judged: Tensor) -> list[float]:
    """How alike units of one stage are with the weights as drawn, statistics measured on the probes' training images.

    Nothing where the run began with trained weights.
    """
    facts = one.run.facts()
    if facts.get("start"):
        return []
    network = put(build(one.classifier.spec, int(facts["recipe"]["seed"])), one.device)
    measure_statistics(network, _batches(one, one.train.source, fitted))
    similarity, within = likeness(features(network, _batches(one, one.test.source, judged)))
    return [value for value, inside in zip(similarity, within, strict=True) if inside]


def _evidence(
    study: str,
    asked: Asked,
    trained: Sequence[Trained],
    measured: Mapping[str, Any],
    series: Mapping[str, Any],
    began: float,
    sizes: Mapping[str, int] | None = None,
) -> Evidence:
    """The evidence of a study of runs; their recipes are told as they were trained."""
    facts = [one.run.facts() for one in trained]
    steps = {int(one["chosen"]["steps"]) for one in facts}
    devices = {one["chosen"]["device"] for one in facts}
    budget: Budget = "smoke" if min(steps) < 1000 else "cpu" if devices == {"cpu"} else "gpu"
    least = min(steps)
    data = facts[0]["data"]
    seeds, uneven = _seeds(trained, facts)
    caveats = []
    if uneven:
        told = {name: ", ".join(map(str, some)) for name, some in uneven["seeds"].items()}
        caveats.append(f"the networks have other seeds ({_told(told)})")
    if len(steps) > 1:
        lengths = {one.name: int(found["chosen"]["steps"]) for one, found in zip(trained, facts, strict=True)}
        uneven["lengths"] = lengths
        caveats.append(f"the networks were trained for other lengths ({_told(lengths)} iterations)")
    elif least < FULL:
        caveats.append(f"networks of {least:,} iterations, where [1] trains for {FULL:,}")
    judged = min(len(one.test.indices) for one in trained)
    if judged < asked.images:
        caveats.append(f"judged on {judged:,} {trained[0].test.split} images, all there are")
    if data["name"].startswith("cifar") and data["training"] < WHOLE:
        caveats.append(f"networks trained on {data['training']:,} images")
    return made(
        DEFINITIONS[study],
        budget,
        asked.command,
        measured,
        settings={"images": min(judged, asked.images), "steps": least, **(sizes or {}), **uneven},
        series=series,
        recipes={one.name: _recipe(found) for one, found in zip(trained, facts, strict=True)},
        seeds=seeds,
        data={name: data[name] for name in ("name", "checksums", "training", "validation", "test")},
        device={
            "device": str(trained[0].device),
            "trained in": ", ".join(dict.fromkeys(one["chosen"]["precision"] for one in facts)),
        },
        caveats=tuple(caveats),
        seconds=round(time.monotonic() - began, 1),
    )


def _told(table: Mapping[str, Any]) -> str:
    """`plain-56: 8,000; resnet-56: 64,000`."""
    return "; ".join(f"{name}: {value if isinstance(value, str) else f'{value:,}'}" for name, value in table.items())


def _seeds(trained: Sequence[Trained], facts: Sequence[Facts]) -> tuple[tuple[int, ...], Facts]:
    """The seeds of every network; where these differ the fewest, so that nobody takes two networks for two seeds, and
    all of them as a setting."""
    table: dict[str, list[int]] = {}
    for one, found in zip(trained, facts, strict=True):
        table.setdefault(one.name, []).append(int(found["recipe"]["seed"]))
    fewest = min(table.values(), key=len)
    if all(sorted(seeds) == sorted(fewest) for seeds in table.values()):
        return tuple(sorted(fewest)), {}
    return tuple(sorted(fewest)), {"seeds": {name: sorted(seeds) for name, seeds in table.items()}}


def _recipe(facts: Facts) -> RecipeFacts:
    changed = public(facts["changed"])
    name = facts["recipe"]["name"]
    return recipe_facts(name, changed) if name in RECIPES else RecipeFacts(name, changed, "")


def folder_of(runs: Sequence[str]) -> Path:
    """Where the result file of a study of runs is written: beside the run, or above several.

    Raises:
        UsageError: the runs lie in no folder of runs together.
    """
    places = [find_run(name).path.resolve() for name in runs]
    if len(places) == 1:
        return places[0]
    try:
        common = Path(os.path.commonpath([str(place) for place in places]))
    except ValueError:  # on two drives
        common = None
    near = common is not None and all(len(place.parts) - len(common.parts) <= 2 for place in places)
    if common is None or not (near or common.is_relative_to(runs_root().resolve())):
        raise UsageError(
            "these runs lie in no folder together", "runs", "say where the result is written: --out FOLDER"
        )
    return common
