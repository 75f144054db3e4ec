"""How several processes share one run: what must be the same in all of them, and what a share must be."""

from __future__ import annotations

from dataclasses import replace

import torch

from residual.data.batches import share_of
from residual.device import alike_here, devices, fault_of, refuse_faulty
from residual.errors import DataError, EnvironmentFault, UsageError, argument, log
from residual.files import Facts, canonical, digest
from residual.models import NetworkSpec, ResidualNetwork, pack_weights
from residual.ranks import Ranks, own_gpu
from residual.runs.folder import RunFolder
from residual.training.compute import Compute, choose, refuse_without_bfloat16, set_workspace
from residual.training.fitting import Wishes
from residual.training.recipe import ComputeSettings, Recipe, differences

OWN = ("data.path", "data.threads", "data.workers")
"""Settings that may differ from machine to machine."""


def check_shares(recipe: Recipe, network: NetworkSpec, world: int, begun: bool = False) -> None:
    """Refuse a number of processes that cannot share the batches of a run.

    Args:
        begun: the run has its batches already, so that the processes must be others.

    Raises:
        UsageError: with the numbers.
    """
    if begun and recipe.batch_size % world:
        what = f"a batch of {recipe.batch_size} cannot be shared equally by {world} processes"
        fitting = [n for n in range(1, 2 * world) if recipe.batch_size % n == 0]
        raise UsageError(what, "batch_size", f"the run keeps its batches: start {' or '.join(map(str, fitting))}")
    share = share_of(recipe.batch_size, world)
    if share % 2 and (recipe.data.augment.mixup or recipe.data.augment.cutmix):
        has = f"each of {world} processes has {share} images of a batch" if world > 1 else f"a batch has {share}"
        what = f"mixup and CutMix mix pairs, and {has}"
        raise UsageError(what, "batch_size", f"choose a multiple of {2 * world}")
    if world > 1 and network.norm_group and share % network.norm_group:
        what = f"groups of {network.norm_group} images do not fill the {share} that each of {world} processes has"
        raise UsageError(what, "network.norm_group", "choose a divisor of that, or other processes")
    if network.norm_group and share > network.norm_group and share % network.norm_group:
        what = f"groups of {network.norm_group} images do not fill a batch of {share}"
        raise UsageError(what, "network.norm_group", "choose a divisor of the batch size")


def refuse_measuring(wishes: Wishes, world: int) -> None:
    """What is measured before step 0 is measured by one process, and would not hold for several.

    Raises:
        UsageError: a budget or a batch size is to be found out.
    """
    if world > 1 and (wishes.budget is not None or wishes.batch):
        what = f"{'a budget' if wishes.budget is not None else 'a batch size'} is measured by one process alone"
        raise UsageError(what, "train", f"give epochs and a batch size to {world} processes")


def check_versions_alike(mine: Facts, ranks: Ranks) -> None:
    """Refuse a machine with other versions than that of rank 0.

    Raises:
        EnvironmentFault: names the versions.
    """
    first = ranks.first(lambda: mine)
    unlike = [f"{name} {mine.get(name)} and not {version}" for name, version in first.items() if mine[name] != version]
    if unlike:
        what = f"other versions than rank 0 has: {', '.join(unlike)}"
        raise EnvironmentFault(what, "this machine", "install the same on every machine")


def check_alike(facts: Facts, split: Facts, ranks: Ranks) -> None:
    """Refuse a process that would train another run than rank 0.

    Args:
        facts: what run.json is to hold; recipe, data, network and length are compared.
        split: what split.json is to hold.

    Raises:
        UsageError, DataError: says what differs.
    """
    mine = {
        "recipe": facts["recipe"],
        "data": {name: facts["data"][name] for name in ("name", "checksums", "class_names")},
        "split": digest(canonical({name: split[name] for name in ("training", "validation")})),
        "rest": {"network": facts["network"], "steps": facts["chosen"]["steps"], "settled": facts["settled"]},
    }
    first = ranks.first(lambda: mine)
    unlike = {path: pair for path, pair in differences(first["recipe"], mine["recipe"]).items() if path not in OWN}
    if unlike:
        listed = "; ".join(f"{path} {own!r} and not {other!r}" for path, (other, own) in unlike.items())
        raise UsageError(f"another recipe than rank 0 has: {listed}"[:400], "recipe", "give all the same command")
    if first["data"] != mine["data"] or first["split"] != mine["split"]:
        sums, others = mine["data"]["checksums"], first["data"]["checksums"]
        files = sorted(name for name in {*sums, *others} if sums.get(name) != others.get(name))
        what = (
            f"another data set than rank 0 has: {', '.join(files[:3]) or 'its classes or its held-out images differ'}"
        )
        raise DataError(what, facts["data"]["origin"], "bring the same files to every machine")
    if canonical(first["rest"]) != canonical(mine["rest"]):
        raise UsageError("another network or length than rank 0 has", "recipe", "give all the same command")
    ranks.largest(0)  # nobody goes on before all have agreed


def check_replicas(network: ResidualNetwork, step: int, ranks: Ranks) -> None:
    """See that every process has the same weights and statistics, as it must where all have computed alike.

    Raises:
        EnvironmentFault: this one has others than rank 0, as when processors of two kinds round an update differently.
    """
    if ranks.world > 1:
        mine = digest(pack_weights(network))
        if ranks.first(lambda: mine) != mine:
            what = f"other weights than rank 0 after step {step}"
            raise EnvironmentFault(what, "this machine", "train on machines of one kind; the last checkpoint is whole")


def choose_together(settings: ComputeSettings, ranks: Ranks) -> tuple[Compute, dict[str, str]]:
    """What rank 0 computes with, and why; on the GPU of each process's own.

    Raises:
        UsageError: one GPU is named for all.
        EnvironmentFault: this machine has no such device.
    """
    if ranks.world == 1:
        return choose(settings)
    if ":" in settings.device:
        raise UsageError(
            f"{settings.device} is one GPU and there are {ranks.world} processes", "--device", "name cuda alone"
        )

    def chosen() -> list[Facts]:
        compute, reasons = choose(settings)
        if settings.device == "auto" and compute.device == "mps":
            compute, reasons = choose(settings.model_copy(update={"device": "cpu"}))
            reasons["device"] = "mps does not serve several processes"
        return [compute.facts(), dict(reasons)]

    facts, reasons = ranks.first(chosen)
    return on_rank(Compute(**facts), ranks), reasons


def chosen_anew(settings: ComputeSettings, ranks: Ranks) -> Compute:
    """What a run goes on with where that may be other than it was; whether it is compiled is said, not measured."""
    return replace(choose_together(settings, ranks)[0], compile=settings.compile == "default")


def found_here(compute: Compute, recipe: Recipe, folder: RunFolder, override_safe: bool, ranks: Ranks) -> Compute:
    """What a run goes on with as it did: on the first device of the same kind, where its own is not here or of no use.

    Raises:
        EnvironmentFault: there is none of the kind, or it lacks what the run needs, and no other may be taken.
    """
    if not alike_here(compute.device) and not override_safe:
        what = f"the run computes on {compute.device}, and this machine has {', '.join(devices())}"
        remedy = f"go on elsewhere, or with --resume {argument(folder.path)} --device cpu --override"
        raise EnvironmentFault(what, folder.path, remedy)
    if ranks.largest(0 if alike_here(compute.device) else 1):  # all take another where one must
        return chosen_anew(recipe.compute, ranks)
    if ranks.world > 1 and compute.torch_device.type == "cuda":  # each its own, without a look at that of rank 0
        return on_rank(compute, ranks)
    here = alike_here(compute.device)
    device = next((one for one in here if fault_of(one) is None), here[0])
    return on_rank(replace(compute, device=device), ranks)


def on_rank(compute: Compute, ranks: Ranks) -> Compute:
    """The same on the device of this process.

    Raises:
        EnvironmentFault: it has none, or one that cannot do what the others do.
    """
    kind = compute.torch_device.type
    if ranks.world == 1 or kind == "cpu":
        return _able(compute)
    count = torch.cuda.device_count() if kind == "cuda" else 0
    if count == 0:
        what = "no GPU here" if kind == "cuda" else f"{kind} does not serve several processes"
        raise EnvironmentFault(what, "--device", "use --device cpu")
    if compute.deterministic:
        set_workspace()
    if ranks.rank == 0 and not ranks.direct:
        log.warning("not every process has a GPU and nccl of its own: gradients go by way of the host, which is slower")
    return _able(replace(compute, device=f"cuda:{own_gpu(ranks.local, count)}"))


def _able(compute: Compute) -> Compute:
    """The same, where its device can do it."""
    refuse_faulty(compute.device)
    refuse_without_bfloat16(compute, "add --set compute.precision=float16, and --override where a run goes on")
    return compute
