"""Two processes against one, without a run: the program that each process of the campaign `processes` runs.

`python -m campaigns.processes_check STEPS [COMMAND...]`, in a launch: rank 0 prints one JSON value. Every process also
computes what one process alone would, and compares. Then come commands of the program, each ended by `:::`; the codes
they end with are printed, too. Where torchrun starts the processes again, they begin with the commands.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from typing import Any

import torch
from torch import Tensor, nn

from residual.data.batches import Batches
from residual.data.datasets import divide, open_dataset
from residual.data.preprocessing import measure
from residual.data.source import everything
from residual.evaluation.evaluate import evaluate
from residual.models import ResidualNetwork, build, resolve
from residual.models.synchronised import SynchronisedBatchNorm, synchronise
from residual.ranks import ALONE, Ranks
from residual.training.compute import Compute
from residual.training.optimiser import make_optimiser, set_rate
from residual.training.processes import joined
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.step import Guard, train_step

RECIPE = override(
    RECIPES["digits"],
    {
        "network.name": "resnet-8",
        "network.widths": [4, 8, 16],
        "batch_size": 48,
        "data.augment.shift": 2,
        "optimiser.clip": 1.0,
        "optimiser.weight_decay": 5e-4,
    }.items(),
)
ODD = (359, 301, 1)
"""Numbers of test images to evaluate, none of which two processes share equally; in batches of 100."""


class Parts:
    """Data, batches and a network, the same in every process."""

    def __init__(self) -> None:
        self.dataset = open_dataset(RECIPE.data)
        self.division = divide(self.dataset, RECIPE.data)
        self.constants = measure(self.dataset.train, self.division.training, RECIPE.data.normalisation)
        data = (self.dataset.train, self.division.training, self.constants, RECIPE.data.augment)
        self.batches = Batches(*data, RECIPE.batch_size, RECIPE.seed)

    def network(self) -> ResidualNetwork:
        classes, channels = len(self.dataset.class_names), self.dataset.channels
        return build(resolve(RECIPE.network, classes, channels, self.dataset.image_size), RECIPE.seed).train()


def trained(parts: Parts, steps: int, dtype: torch.dtype, ranks: Ranks) -> dict[str, Tensor]:
    """Weights and statistics after some steps of the recipe, in float32 or float64."""
    network = parts.network().to(dtype)
    network.register_forward_pre_hook(lambda _, given: (given[0].to(dtype),))
    synchronise(network, ranks)
    optimiser = make_optimiser(network, RECIPE.optimiser)
    compute = Compute("cpu", "float32", "channels-last", 1, False)
    guard = Guard.on(torch.device("cpu"))
    guard.ranks = ranks
    for step in range(steps):
        set_rate(optimiser, 0.05, 0.9)
        batch = parts.batches.batch_at(step, ranks.rank, ranks.world)
        train_step(network, optimiser, batch, compute, 0.1, step, RECIPE.optimiser, guard)
    return {name: t.clone() for name, t in network.state_dict().items() if t.is_floating_point()}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest value of each tensor."""
    return max(float((one[n] - other[n]).abs().max() / one[n].abs().max().clamp_min(1e-12)) for n in one)


def layer_apart(ranks: Ranks) -> float:
    """The synchronised layer against torch's own over the whole batch, in float64: output, gradients, statistics."""
    source = torch.Generator().manual_seed(5)
    maps = torch.randn(6, 3, 4, 5, generator=source, dtype=torch.float64) * 3 + 7
    weights = torch.randn(6, 3, 4, 5, generator=source, dtype=torch.float64)
    plain = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
    shared = SynchronisedBatchNorm.of(copy.deepcopy(plain), ranks)
    share = len(maps) // ranks.world
    own = slice(ranks.rank * share, (ranks.rank + 1) * share)
    whole, part = maps.clone().requires_grad_(), maps[own].clone().requires_grad_()
    (plain(whole).square() * weights).sum().backward()
    (shared(part).square() * weights[own]).sum().backward()
    found: list[tuple[Tensor, Tensor]] = [(whole.grad[own], part.grad)]  # type: ignore[index, list-item]
    for mine, theirs in zip(shared.parameters(), plain.parameters(), strict=True):
        total = mine.grad.clone()  # type: ignore[union-attr]
        ranks.add(total)
        found.append((theirs.grad, total))  # type: ignore[arg-type]
    found += list(zip(plain.buffers(), shared.buffers(), strict=True))
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in found)


def check(ranks: Ranks, steps: int) -> dict[str, Any]:
    parts = Parts()
    network = parts.network()
    test, device = parts.dataset.test, torch.device("cpu")
    unequal = []
    for count in ODD:
        images = everything(test)[:count]
        together, alone = (
            evaluate(network, test, images, parts.constants, device, 100, ranks=who) for who in (ranks, ALONE)
        )
        assert together is not None
        assert alone is not None
        same = together.scores == alone.scores and torch.equal(together.confusion, alone.confusion)
        if not same or int(together.confusion.sum()) != count or together.images != count:
            unequal.append(count)
    double, single = torch.float64, torch.float32
    return {
        "world": ranks.world,
        "evaluations": list(ODD),
        "evaluations_unequal": unequal,
        "layer_apart_float64": layer_apart(ranks),
        "steps": steps,
        "steps_apart_float64": apart(trained(parts, steps, double, ALONE), trained(parts, steps, double, ranks)),
        "one_step_apart_float32": apart(trained(parts, 1, single, ALONE), trained(parts, 1, single, ranks)),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        with joined(60) as ranks:
            found = check(ranks, int(sys.argv[1]))
            if ranks.rank == 0:
                print(json.dumps(found), flush=True)
    if len(sys.argv) > 2:
        from campaigns.processes_program import main

        words = sys.argv[2:]
        while words:
            end = words.index(":::")
            code = main(words[:end])
            if code == 6:
                sys.exit(code)  # another process is gone, and will not come to the next command
            # In one piece and on a line of its own, since another process may be writing there as well.
            sys.stdout.write(f"\ncode {code}\n")
            sys.stdout.flush()
            words = words[end + 1 :]
