"""Recipes, schedules and the search: what the seeds say of them, asked of the program's own parts.

Sources: [1] He et al. 2015 (Deep Residual Learning), sections 3.4 and 4.2; Smith 2018 (one cycle); seed 001 (the
genetic algorithm: ranges, population, generations).
"""

from __future__ import annotations

import math
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from residual.chance import stream
from residual.data.colour import add_noise, draw_noise, principal_colours
from residual.data.preprocessing import measure
from residual.data.source import MemorySource, everything
from residual.errors import Interrupted, UsageError
from residual.files import Facts
from residual.models import NetworkSettings, build, resolve
from residual.runs.folder import RunFolder
from residual.training.progress import Silent
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.schedules import OneCycle, Plateau
from residual.training.train import resume, train
from residual.tuning.algorithms import Ga001, begin
from residual.tuning.genetic import Scored, cut_places
from residual.tuning.space import named_space

PAPER, IMAGENET = "cifar10-paper", "imagenet-paper"


def recipe() -> Facts:
    """The paper's training as the program has it: order of layers, mean, colours; both recipes' settings."""
    settings = RECIPES[PAPER]
    source = _images()
    constants = measure(source, everything(source), "per-pixel-mean")
    centred = constants.normalise(source.images).mean(0)
    axes = principal_colours(source, everything(source))
    draws = draw_noise(5, stream(0, "colour"), 0.1)
    images = constants.normalise(source.images[:5])
    moved = add_noise(images, draws, axes, constants.std) - images
    return {
        "order_conv_bn_relu": _order() == ["Conv2d", "BatchNorm2d", "ReLU"],
        "largest_mean_pixel": float(centred.abs().max()),
        "colour_noise": float((moved - (draws @ axes)[:, :, None, None]).abs().max()),
        "sgd": settings.optimiser.kind == "sgd",
        "nesterov": settings.optimiser.nesterov,
        "momentum": settings.optimiser.momentum,
        "weight_decay": settings.optimiser.weight_decay,
        "rate": settings.schedule.rate_at(0, 64_000, {}),
        "rate_after_32000": settings.schedule.rate_at(32_000, 64_000, {}),
        "dropout": resolve(settings.network, classes=10).dropout,
        "imagenet": _imagenet(),
    }


def _imagenet() -> Facts:
    """The settings of the recipe made after [1] section 3.4."""
    settings = RECIPES[IMAGENET]
    schedule, augment, spec = settings.schedule, settings.data.augment, resolve(settings.network, classes=1000)
    if not isinstance(schedule, Plateau):
        raise TypeError(f"the schedule of {IMAGENET} is {schedule.kind}")
    rates = [schedule.rate_at(5, 9, dict.fromkeys([f"plateau-{n}" for n in range(count)], 1)) for count in range(3)]
    shortest, longest = augment.short_side or (0, 0)
    return {
        "batch_size": settings.batch_size,
        "steps": settings.steps,
        "sgd": settings.optimiser.kind == "sgd",
        "nesterov": settings.optimiser.nesterov,
        "momentum": settings.optimiser.momentum,
        "weight_decay": settings.optimiser.weight_decay,
        "rate": rates[0],
        "plateau_ratio_1": rates[1] / rates[0],
        "plateau_ratio_2": rates[2] / rates[1],
        "shortest_side": shortest,
        "longest_side": longest,
        "crop": settings.data.image_size,
        "colour_noise": augment.colour_noise,
        "he": spec.initialisation.startswith("he"),
        "from_scratch": settings.start.weights is None,
        "dropout": spec.dropout,
    }


def _images() -> MemorySource:
    pixels = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=stream(0, "recipe", "images"))
    return MemorySource(pixels, torch.arange(40) % 4)


def _order() -> list[str]:
    """The kinds of the first three layers of a unit, as they compute."""
    network = build(resolve(NetworkSettings(name="resnet-8"), classes=10)).eval()
    seen: list[str] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: seen.append(type(module).__name__))
        for module in network.stages[0].get_submodule("0").children()
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return seen[:3]


def one_cycle() -> Facts:
    """Rate and momentum of fastai's one cycle over 1,000 steps."""
    cycle, total = OneCycle(peak=3e-3, momentum_low=0.85), 1_000
    rates = [cycle.rate_at(step, total, {}) for step in range(total)]
    momenta = [cycle.momentum_at(step, total, 0.95) for step in range(total)]
    top = rates.index(max(rates))
    return {
        "peak": max(rates),
        "peak_at": top / (total - 1),
        "start_over_peak": rates[0] / max(rates),
        "end_over_peak": rates[-1] / max(rates),
        "rises_then_falls": all(a < b for a, b in pairwise(rates[: top + 1]))
        and all(a > b for a, b in pairwise(rates[top:])),
        "momentum_start": momenta[0],
        "momentum_least": min(momenta),
        "momentum_end": momenta[-1],
        "momentum_falls_then_rises": momenta.index(min(momenta)) == top,
    }


def search() -> Facts:
    """The seed's ranges: what momenta do to SGD, which values this program and torch take, what the search trains."""
    found: Facts = {f"momentum_{text}": _descent(float(text)) for text in ("0.9", "1.0", "1.2", "1.5")}
    found = {name.replace(".", "_"): value for name, value in found.items()}
    seeds = override(RECIPES["seed001-onecycle"], [("optimiser.kind", "sgd"), ("optimiser.weight_decay", 5e-4)])
    space = named_space("seed001", seeds)
    high = {gene.path: gene.high for gene in space.genes}
    return {
        **found,
        "recipe_refuses_momentum_above_1": _refused(seeds, "schedule.momentum_low", high["schedule.momentum_low"]),
        "adam_refuses_momentum_above_1": _adam_refuses(),
        "highest_rate": high["schedule.peak"],
        "highest_decay": high["optimiser.weight_decay"],
        "highest_momentum": high["schedule.momentum_low"],
        **_generations(),
    }


def _descent(momentum: float) -> Facts:
    """|x| after 300 steps of SGD with rate .1 on x^2 / 2 from x = 1."""
    x = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([x], lr=0.1, momentum=momentum)
    largest = 1.0
    for _ in range(300):
        optimiser.zero_grad()
        (x.square() / 2).backward()
        optimiser.step()
        size = abs(float(x.detach()))
        largest = max(largest, size) if math.isfinite(size) else 1e300
    return {"largest": largest, "end": size if math.isfinite(size) else 1e300}


def _refused(recipe: Any, path: str, value: float) -> bool:
    try:
        override(recipe, [(path, value)])
    except UsageError:
        return True
    return False


def _adam_refuses() -> bool:
    try:
        torch.optim.Adam([torch.zeros(1, requires_grad=True)], betas=(1.2, 0.99))
    except ValueError:
        return True
    return False


def _generations() -> Facts:
    """Ten individuals bred over five generations on a fitness by formula: sizes, survivors, and trainings."""
    space = named_space("seed001", RECIPES["seed001-onecycle"])
    rules, trained = Ga001(), 0
    population: list[Scored] = []
    best: list[float] = []
    for generation in range(6):
        chance = partial(stream, 0, "search", generation)
        brood = begin(space, 10, chance) if generation == 0 else rules.breed(space, population, 10, chance)
        fresh = [Scored(child.genes, -sum(space.places(child.genes))) for child in brood.children]
        population = [*(population[place] for place in brood.survivors), *fresh]
        trained += len(fresh)
        best.append(max(one.fitness for one in population if one.fitness is not None))
    return {
        "population": len(population),
        "survivors": len(brood.survivors),
        "trainings": trained,
        "middle_cuts": len(cut_places(len(space.genes), "middle")),
        "best_never_falls": all(a <= b for a, b in pairwise(best)),
    }


_TINY: dict[str, Any] = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.limit": 120,
    "batch_size": 20,
    "steps": 6,
    "compute.threads": 1,
    "compute.precision": "float32",
    "compute.device": "cpu",
}


class _Stopping(Silent):
    """Interrupts a run as Ctrl-C does, after step 4."""

    def stepped(self, step: int, images: int) -> None:
        if step == 4:
            raise Interrupted("stopped by a check", "step 4", "", 2)


def checkpoints() -> Facts:
    """A tiny run on the embedded digits, stopped after step 4 and resumed, beside one left alone."""
    with tempfile.TemporaryDirectory(prefix="residual-check-") as folder:
        whole, cut = Path(folder, "whole"), Path(folder, "cut")
        train("digits", set=_TINY | {"checkpoint.every_steps": 3}, out=whole)
        stopped = 0
        try:
            train("digits", set=_TINY | {"checkpoint.every_steps": 3}, out=cut, listener=_Stopping())
        except Interrupted:
            stopped = RunFolder(cut).steps()[0]
        resume(cut)
        same = _weights(whole) == _weights(cut)
    return {"resumed_from": stopped, "of_steps": _TINY["steps"], "identical_bytes": same}


def _weights(run: Path) -> bytes:
    return (RunFolder(run).model_path / "model.safetensors").read_bytes()
