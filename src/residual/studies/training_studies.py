"""The studies that train arms beside each other: each runs its arms, measures, and gives evidence.

Every function takes the same `Wish`: recipe, seeds, steps, changes, folder. See `arm_table` for what is trained and
`table` for what is measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any, Final

import torch

from residual.analysis.construction import deepened
from residual.analysis.propagation import main_path, signals
from residual.chance import stream
from residual.data.official import IMAGENET, TINY_IMAGENET
from residual.errors import UsageError, log
from residual.evaluation.judged import select
from residual.evaluation.use import read_classifier
from residual.files import Facts
from residual.models import NetworkSettings, build, resolve
from residual.models.initialisation import deviation
from residual.studies import arm_table
from residual.studies.arm_table import GENTLE, MIDDLE, ORIGINAL, Arms, Changes, chosen, fitted
from residual.studies.arms import FULL, Compared, compare, evidence_of, own_caveats, paper_caveats, shortened, spread
from residual.studies.departures import FULL_LENGTH
from residual.studies.evidence import Evidence
from residual.studies.student import paired
from residual.studies.table import DEFINITIONS
from residual.training.opening import stored_recipe
from residual.training.progress import Listener, Silent
from residual.training.recipe import Override, Recipe, as_overrides
from residual.training.recipes import find_recipe
from residual.training.settling import settled

_COMPARED_IMAGES = 256


@dataclass(frozen=True)
class Wish:
    """What a study is asked for. `steps` None keeps the recipe's length; `set` is changed in all arms."""

    recipe: str
    seeds: Sequence[int]
    steps: int | None = None
    set: Sequence[Override] = ()
    out: Path | None = None
    command: str = ""
    listener: Callable[[str, int], Listener] = field(default=lambda arm, seed: Silent())

    def __post_init__(self) -> None:
        object.__setattr__(self, "set", tuple(as_overrides(self.set)))


@dataclass(frozen=True)
class Studied:
    """The runs of a study and the evidence they give."""

    compared: Compared
    evidence: Evidence


def _run(
    study: str,
    arms: Arms,
    wish: Wish,
    common: Sequence[Override] = (),
    may_fail: Callable[[str], bool] = lambda arm: True,
) -> Compared:
    """The finished runs. `may_fail` says of which arms it is a result that they do not train.

    Raises:
        NonFiniteError: an arm that is needed did not train, or none did.
    """
    recipe = find_recipe(wish.recipe, started="start.weights" in dict(wish.set))
    asked = [*common, *shortened(recipe, wish.steps), *wish.set]
    fitting = {arm: _fitting(recipe, changes, wish.steps) for arm, changes in arms.items()}
    compared = compare(study, recipe, fitting, wish.seeds, set=asked, out=wish.out, listener=wish.listener)
    for arm, errors in compared.lost.items():
        if not compared.runs or (arm not in compared.runs and not may_fail(arm)):
            raise next(iter(errors.values()))
    return compared


def _fitting(recipe: Recipe, changes: Changes, steps: int | None) -> Changes:
    """The changes of an arm, without parts that the recipe's kind of schedule has not: one cycle rises by itself.

    A warm-up that would take all of a short study is shortened.
    """
    lacking = [f"schedule.{part}" for part in ("warmup", "hold") if not hasattr(recipe.schedule, part)]
    left = {path: value for path, value in changes.items() if path not in lacking}
    if len(left) < len(changes):
        log.info("the papers' warm-up is left out: the schedule %s has none", recipe.schedule.kind)
    warmup = left.get("schedule.warmup")
    if warmup is not None and steps is not None:
        left["schedule.warmup"] = short = fitted(warmup, steps)
        if short != warmup:
            log.info("the papers' warm-up of %d steps is shortened to %d", warmup["steps"], short["steps"])
    return left


def _studied(study: str, compared: Compared, wish: Wish, measured: Mapping[str, Any], **more: Any) -> Studied:
    caveats = [*paper_caveats(compared), *more.pop("caveats", ())]
    found = evidence_of(DEFINITIONS[study], compared, measured, command=wish.command, caveats=caveats, **more)
    return Studied(compared, found)


def _measured(compared: Compared) -> Facts:
    """The figures of every arm; those of runs of the paper's length also under `at_64000`."""
    figures = compared.figures()
    full = {arm: one for arm, one in figures.items() if one["steps"] == FULL}
    return {**figures, **({FULL_LENGTH: full} if full else {})}


def degradation(wish: Wish, depths: Sequence[int], kinds: Sequence[str] = ("plain", "resnet")) -> Studied:
    """Plain against residual networks by depth, and the plain one that is a shallower one with identity layers.

    On photographs of ImageNet, by their layout or the names of their folders, it is the study `tiny-imagenet`.
    """
    compared = _run("degradation", arm_table.degradation(depths, kinds), wish)
    measured = _measured(compared) | constructed(compared, depths)
    settings = {"depths": list(depths), "kinds": list(kinds)}
    run = next(iter(compared.runs.values()))[0]
    facts = run.facts()
    data, names = facts["data"], facts["data"]["class_names"]
    if not _of_imagenet(data):
        return _studied("degradation", compared, wish, measured, settings=settings)
    side, filters = settled(stored_recipe(run, facts), facts, run.path).data.image_size, facts["network"]["widths"]
    caveats = (
        f"{side} pixels a side and {filters[0]} to {filters[-1]} filters, where the paper has 224 and 64 to 512",
        f"{len(names)} classes and {data['training']:,} images, where the paper has 1,000 and 1.28 million",
        f"the recipe {compared.recipe}, {steps_of_first(compared):,} steps, where the paper has 600,000 of its own",
    )
    definition = DEFINITIONS["tiny-imagenet"]
    found = evidence_of(definition, compared, measured, command=wish.command, caveats=caveats, settings=settings)
    return Studied(compared, found)


def _of_imagenet(data: Facts) -> bool:
    """Whether photographs are ImageNet's: by the names of their classes, or by a layout that has words for these."""
    numbered = all(re.fullmatch(r"n\d{8}", name) for name in data["class_names"])
    return bool(data["name"] == "folder" and (numbered or data.get("layout") in (TINY_IMAGENET, IMAGENET)))


def steps_of_first(compared: Compared) -> int:
    """The length of the study's runs."""
    return int(next(iter(compared.runs.values()))[0].facts()["chosen"]["steps"])


def constructed(compared: Compared, depths: Sequence[int]) -> Facts:
    """The shallowest trained plain network deepened by identity layers: how far its answers are from its own."""
    shallow, *deeper = sorted(depths)
    runs = compared.runs.get(f"plain-{shallow}")
    if runs is None or not deeper or (deeper[0] - shallow) % 6:
        return {}
    classifier = read_classifier(runs[0].path)
    network = classifier.network
    spec = network.spec
    if (spec.unit, spec.order, len(spec.depths)) != ("basic", "original", 3):
        return {}
    judged = select(classifier, runs[0].path)
    images = classifier.preprocessing.normalise(judged.source.read(judged.indices[:_COMPARED_IMAGES]))
    deep = deepened(network, (deeper[0] - shallow) // 6).eval()
    with torch.inference_mode():
        answers = network.eval()(images)
        gap = (deep(images) - answers).abs().max() / answers.abs().max()
    same = {"of": shallow, "layers": deep.spec.weighted_layers, "relative_difference": float(gap)}
    return {"constructed": same | {"images": len(images)}}


def units(wish: Wish, depth: int, networks: Sequence[str] = (), arms: Sequence[str] = ()) -> Studied:
    """The five orders of a unit ([2] table 2) or some `arms` of these, or named networks beside each other.

    Raises:
        UsageError: an arm that is none, or arms of named networks.
    """
    if networks and arms:
        raise UsageError("named networks have no arms of the study", "--arms", "leave --arms or --networks out")
    trained = chosen(arm_table.units(depth, networks), arms)
    compared = _run("units", trained, wish, may_fail=lambda arm: arm != ORIGINAL)
    study = "cifar-100" if wish.recipe == DEFINITIONS["cifar-100"].recipe else "units"
    if networks:
        return _studied(study, compared, wish, _measured(compared), settings={"networks": list(networks)})
    measured = _measured(compared)
    if ORIGINAL in compared.runs:
        gaps = {arm: _gap(compared, measured, ORIGINAL, arm) for arm in compared.runs if arm != ORIGINAL}
        measured["against_original"] = {arm: found for arm, found in gaps.items() if found}
    caveats = _depth_caveat(depth, 110)
    return _studied(study, compared, wish, measured, settings={"depth": depth}, caveats=caveats)


def gap(one: Facts, other: Facts) -> Facts:
    """The other arm's test error less the one's, paired by seed: mean, and 95 % interval, which one seed has not."""
    pairs = zip(one["test_error"]["values"], other["test_error"]["values"], strict=True)
    return paired([b - a for a, b in pairs])


def _gap(compared: Compared, figures: Facts, one: str, other: str) -> Facts:
    """`gap` of two arms over the seeds that both have left; of images without a test the validation error's."""
    name = next((name for name in ("test_error", "validation_error") if name in figures[one]), "")
    pairs = _shared(compared, figures, one, other, name)
    return paired([b - a for a, b in pairs]) if pairs else {}


def _shared(compared: Compared, figures: Facts, one: str, other: str, name: str) -> list[tuple[float, float]]:
    """The values of two arms, by the seeds that both have left."""
    a, b = (
        dict(zip(compared.left(arm), figures[arm].get(name, {}).get("values", ()), strict=False))
        for arm in (one, other)
    )
    return [(a[seed], b[seed]) for seed in a if seed in b]


def shortcuts(wish: Wish, depth: int, arms: Sequence[str] = ()) -> Studied:
    """The shortcuts of [2] table 1, or some `arms` of these."""
    compared = _run("shortcuts", chosen(arm_table.shortcuts(depth), arms), wish)
    caveats = _depth_caveat(depth, 110)
    return _studied("shortcuts", compared, wish, _measured(compared), settings={"depth": depth}, caveats=caveats)


def _depth_caveat(depth: int, papers: int) -> list[str]:
    return [f"{depth} layers, where the paper has {papers}"] if depth != papers else []


def momentum(wish: Wish, depth: int) -> Studied:
    """Momenta at a fixed rate of .02: how rough the loss of the held-out images is."""
    arms = arm_table.at_depth(arm_table.MOMENTUM, "resnet", depth)
    compared = _run("momentum", arms, wish, [("schedule.rate", MIDDLE)])
    series = {"curves": compared.series()}
    curves = next(iter(series["curves"].values()))
    times = next((len(curves[name]["step"]) for name in ("validation error", "test error") if name in curves), 0)
    caveats = [f"rises between {times} evaluations of a run; what lies between them is not seen"]
    settings = {"depth": depth}
    return _studied("momentum", compared, wish, _measured(compared), settings=settings, caveats=caveats, series=series)


def batchnorm(wish: Wish, depth: int) -> Studied:
    """Plain networks with and without normalisation, from two initialisations, at a rate that both stand."""
    arms = arm_table.at_depth(arm_table.BATCHNORM, "plain", depth)
    compared = _run("batchnorm", arms, wish, [("schedule.rate", GENTLE)], may_fail=lambda arm: False)
    measured = _measured(compared)
    sensitivity: Facts = {}
    for side in ("with", "without"):
        pairs = _shared(compared, measured, f"{side}-he", f"{side}-half", "training_error")
        sensitivity |= {side: spread([abs(a - b) for a, b in pairs])} if pairs else {}
    return _studied("batchnorm", compared, wish, measured | {"sensitivity": sensitivity}, settings={"depth": depth})


def seed001(wish: Wish, arms: Sequence[str] = ()) -> Studied:
    """The network of seed 001 as described, and with one thing changed at a time; `arms` names some of these."""
    trained = chosen(arm_table.SEED001, arms)
    usual = find_recipe(wish.recipe).epochs
    if wish.steps is not None and usual is not None:  # longer by as much, in the unit that was asked for
        trained = {
            arm: {"steps": round(wish.steps * changes["epochs"] / usual)} if "epochs" in changes else changes
            for arm, changes in trained.items()
        }
    compared = _run("seed001", trained, wish)
    measured, caveats = _measured(compared), own_caveats(compared)
    found = evidence_of(DEFINITIONS["seed001"], compared, measured, command=wish.command, caveats=caveats)
    return Studied(compared, found)


def dropout(wish: Wish, depth: int) -> Studied:
    """A plain network with dropout before its classifier, and without."""
    compared = _run("dropout", arm_table.at_depth(arm_table.DROPOUT, "plain", depth), wish)
    return _studied("dropout", compared, wish, _measured(compared), settings={"depth": depth})


RECORDS: Final = 20
"""Records of the training loss in a run of `initialisation`."""


def initialisation(wish: Wish) -> Studied:
    """[3]'s convergence experiment, and variances and gradients by depth at the start."""
    recipe = find_recipe(wish.recipe)
    steps = wish.steps or recipe.steps or 500
    images = dict(wish.set).get("data.limit")
    every = steps * _batch(wish, recipe.batch_size) / (images or 50_000) / RECORDS
    common: list[Override] = [("schedule.rate", GENTLE), ("evaluation.every_epochs", every)]
    compared = _run("initialisation", arm_table.INITIALISATION, wish, common)
    facts = next(iter(compared.runs.values()))[0].facts()
    chance = float(torch.tensor(float(len(facts["data"]["class_names"]))).log())
    measured = _measured(compared) | {"chance": chance}
    series = {"curves": compared.series(), "signals": start_signals()}
    length = f"{steps:,} steps on networks of 16 to 64 filters, where [3] trains wider ones on ImageNet"
    caveats = (length, *own_caveats(compared))
    found = evidence_of(
        DEFINITIONS["initialisation"],
        compared,
        measured,
        command=wish.command,
        series=series,
        caveats=caveats,
        least_steps=300,
    )
    return Studied(compared, found)


def _batch(wish: Wish, default: int) -> int:
    return int(dict(wish.set).get("batch_size", default))


def start_signals(depth: int = 32, images: int = 32) -> Facts:
    """By initialisation, with and without normalisation: variances and gradients at every convolution of a plain
    network, on images N(0, 1); and what the formula gives for the variances, from the first on."""
    shape = (images, 3, 32, 32)
    noise = torch.randn(shape, generator=stream(0, "start", "images"))
    labels = torch.randint(10, (images,), generator=stream(0, "start", "labels"))
    found: Facts = {}
    for kind in ("he-fan-in", "lecun", "xavier"):
        for norm in ("none", "batch"):
            settings = {**arm_table.network_of("plain", depth), "network.initialisation": kind, "network.norm": norm}
            parts = {path.removeprefix("network."): value for path, value in settings.items()}
            spec = resolve(NetworkSettings.model_validate(parts), classes=10)
            network = build(spec, seed=0)
            one = signals(network, noise, labels)
            # What the formula gives: the product of n_l Var[w_l] / 2, in which xavier counts what goes out as well.
            weights = [conv.weight for conv in main_path(network).values()]
            ratios = [deviation(weight, spec.initialisation) ** 2 * weight[0].numel() / 2 for weight in weights]
            found[f"{kind}, {'normalised' if norm == 'batch' else 'bare'}"] = {
                "variance": list(one.variances),
                "gradient": list(one.gradients),
                "weight_gradient": list(one.weight_gradients),
                **({"formula": [*accumulate(ratios[1:], mul, initial=1.0)]} if norm == "none" else {}),
            }
    return found
