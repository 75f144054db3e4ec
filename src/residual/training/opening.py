"""From a run folder to a session at work: its data, its network, its newest checkpoint.

A run that starts and a run that goes on are opened by the same code: starting writes the folder, and both then
read it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from residual.data.batches import Batches
from residual.data.changes import changed
from residual.data.datasets import DataSettings, Division, divide, open_dataset
from residual.data.preprocessing import Preprocessing, measure
from residual.data.source import Dataset, FileSource, everything, names
from residual.data.splits import FIRST, TOGETHER
from residual.errors import DataError, ModelError, UsageError, log
from residual.evaluation.classifier import WEIGHTS, Classifier, stored_preprocessing
from residual.files import Appender, Facts, canonical, digest
from residual.models import NetworkSpec, build, overwrite_activations, put
from residual.models.synchronised import synchronise
from residual.ranks import ALONE, Ranks
from residual.runs.folder import RunFolder
from residual.training import compiling
from residual.training.averaging import Averaging
from residual.training.compute import Compute, warn_of_precision
from residual.training.freezing import make_freezing
from residual.training.journal import Events, Journal
from residual.training.optimiser import OptimiserPart, alike, make_optimiser
from residual.training.origin import utf8
from residual.training.progress import Listener
from residual.training.recipe import Recipe, to_recipe
from residual.training.scaling import Scaling
from residual.training.schedules import STOPPED
from residual.training.selection import Best, Patience
from residual.training.session import Session
from residual.training.settling import check_device
from residual.training.signals import Signals
from residual.training.start import read_start
from residual.training.state import STATE, Part, TrainState
from residual.training.step import Guard
from residual.training.weighing import class_weights


def run_identity(facts: Facts) -> str:
    """What makes a run this run: a checkpoint of another recipe, network or data set is refused.

    Device, threads and how often checkpoints are written are left out: they may be changed.
    """
    recipe = {k: v for k, v in facts["recipe"].items() if k not in ("compute", "checkpoint")}
    data = {"name": facts["data"]["name"], "checksums": facts["data"]["checksums"]}
    recipe["data"] = {k: v for k, v in recipe["data"].items() if k not in ("path", "threads", "workers")}
    if "processes" in recipe:
        recipe["processes"] = {k: v for k, v in recipe["processes"].items() if k != "timeout"}
    whole = {"recipe": recipe, "network": facts["network"], "data": data, "steps": facts["chosen"]["steps"]}
    if facts.get("settled"):  # runs of older releases have none, and keep their identity
        whole["settled"] = facts["settled"]
    if facts.get("parent"):
        whole["parent"] = {name: facts["parent"][name] for name in ("identity", "step", "weights", "state")}
    if facts.get("start"):
        whole["start"] = facts["start"]["ready_sha256"]
    return digest(canonical(whole))


def check_data(folder: RunFolder, facts: Facts, dataset: Dataset, division: Division, ranks: Ranks = ALONE) -> None:
    """Refuse to go on with other images than the run began with."""
    stored = ranks.first(folder.split)
    if facts["data"]["checksums"] != dataset.checksums:
        limited = any(facts["recipe"]["data"].get(name) is not None for name in ("limit", "per_class", "classes"))
        what = f"the data set is not the one the run began with{changed(stored, dataset, limited)}"
        raise DataError(what, dataset.origin, "give back the former files")
    if any(stored.get(name) != numbers for name, numbers in _numbers(division).items()):
        raise DataError("the held-out images are not those of split.json", folder.path, "restore split.json")


def _numbers(division: Division) -> Facts:
    return {"training": division.training.tolist(), "validation": division.validation.tolist()}


def split_facts(division: Division, dataset: Dataset) -> Facts:
    """What split.json holds: numbers, and of a folder the files in the same order, and those that were left out."""
    if not isinstance(dataset.train, FileSource):
        return _numbers(division)
    files = {
        "training": names(dataset.train, division.training),
        "validation": names(dataset.held, division.validation),
        "test": names(dataset.test, everything(dataset.test)),
    }
    return {**_numbers(division), "files": files, "left_out": dict(dataset.left_out)}


def data_facts(dataset: Dataset, division: Division) -> Facts:
    """What a run remembers of its data; `test` is 0 where there is no test set."""
    return {
        "name": dataset.name,
        "origin": utf8(dataset.origin),
        "checksums": dataset.checksums,
        "class_names": list(dataset.class_names),
        "training": len(division.training),
        "validation": len(division.validation),
        "test": len(dataset.test),
        **({} if dataset.validation is None else {"own_validation": True}),
        **_group_facts(dataset, division),
        **dataset.facts,
    }


def _group_facts(dataset: Dataset, division: Division) -> Facts:
    """How many groups are on which side, where images have any."""
    if dataset.groups is None or dataset.validation is not None:
        return {}
    sides = {"training": division.training, "validation": division.validation}
    return {"groups": {side: len(dataset.groups[numbers].unique()) for side, numbers in sides.items()}}


def of_training(stored: Preprocessing, dataset: Dataset, division: Division) -> Preprocessing:
    """What images are trained with, from what a checkpoint judges with, whose images may have another size."""
    if dataset.test_size is None or dataset.test_size == dataset.image_size:
        return stored
    if stored.normalisation == "per-pixel-mean":  # a mean image that was resized is not resized back; sums are exact
        return measure(dataset.train, division.training, stored.normalisation)
    return replace(stored, image_size=dataset.image_size, train_size=None)


def open_session(
    folder: RunFolder,
    recipe: Recipe,
    compute: Compute,
    listener: Listener,
    signals: Signals,
    data: tuple[Dataset, Division] | None = None,
    ranks: Ranks = ALONE,
    constants: Preprocessing | None = None,
) -> Session:
    """The run in `folder`, brought to its newest sound checkpoint, or to step 0 where there is none.

    `constants` are those of the training images, where they were measured before. Of several processes rank 0 alone
    reads the folder, and tells the others.
    """
    facts = ranks.first(folder.facts)
    compute.prepare()
    dataset, division = data or run_data(recipe, facts, signals, ranks)
    check_data(folder, facts, dataset, division, ranks)
    spec = NetworkSpec.model_validate(facts["network"])
    check_device(recipe, spec, dataset, compute)
    newest = _newest(folder, ranks)
    start = read_start(folder, facts, ranks)
    if start is not None:
        network, preprocessing = start.network, start.preprocessing
    else:
        network = build(spec, recipe.seed)
        if newest is None:
            preprocessing = constants or measure(dataset.train, division.training, recipe.data.normalisation)
        else:
            preprocessing = of_training(stored_preprocessing(newest[1], folder.path), dataset, division)
        if newest is None and ranks.rank == 0 and (flat := preprocessing.flat()):
            what = "channel %s of the training images has the same value everywhere and tells nothing (%s)"
            log.warning(what, " and ".join(str(number + 1) for number in flat), dataset.origin)
    device = compute.torch_device
    put(network, device, compute.memory_format).train()
    overwrite_activations(network)
    network.recompute = recipe.compute.recompute
    if recipe.processes.batch_norm == "synchronised":
        synchronise(network, ranks)
    compiling.prepare(network, compute)
    freezing = make_freezing(network, recipe.start, facts["chosen"]["steps"])
    optimiser = make_optimiser(network, recipe.optimiser, freezing.group if freezing is not None else alike)
    journal, events = Journal(device), Events(recipe.schedule, device)
    provenance = {
        "run": folder.name,
        "recipe": recipe.name,
        "seed": recipe.seed,
        **_selection(recipe),
        "mirror": recipe.data.augment.mirror or recipe.data.augment.dihedral,
        "data": facts["data"],
        "versions": facts["versions"],
        **({"start": facts["start"]} if facts.get("start") else {}),
    }
    sight = preprocessing.of(dataset.geometry, dataset.test_size)
    classifier = Classifier(network, sight, dataset.class_names, provenance)
    parts: dict[str, Part] = {"optimiser": OptimiserPart(network, optimiser), "journal": journal, "events": events}
    averaging = Averaging(network, recipe.optimiser.average) if recipe.optimiser.average else None
    if averaging is not None:
        parts["average"] = averaging
    best_by, watched = recipe.evaluation.metrics
    best = Best(network, best_by) if best_by is not None else None
    if best is not None:
        parts["best"] = best
    patience = Patience(watched, recipe.evaluation.patience) if watched is not None else None
    if patience is not None:
        parts["patience"] = patience
    scaling = Scaling(optimiser) if compute.precision == "float16" else None
    if scaling is not None:
        parts["scaling"] = scaling
    state = TrainState(classifier, parts)
    identity = run_identity(facts)
    records = _restore(folder, state, identity, ranks, newest)
    parent = facts.get("parent")
    if parent is not None and state.step == 0:
        _take_over(parent, state, journal, events, patience, ranks)
    batches = Batches(
        dataset.train,
        division.training,
        preprocessing,
        recipe.data.augment,
        recipe.batch_size,
        recipe.seed,
        device,
        facts["chosen"]["steps"],
        recipe.data.sampling,
        class_weights(recipe.loss, dataset, division),
    )
    return Session(
        folder=folder,
        recipe=recipe,
        compute=compute,
        dataset=dataset,
        division=division,
        batches=batches,
        state=state,
        optimiser=optimiser,
        journal=journal,
        events=events,
        identity=identity,
        total=facts["chosen"]["steps"],
        records=records,
        listener=listener,
        signals=signals,
        guard=Guard(
            torch.zeros((), device=device),
            lambda samples: ", ".join(names(dataset.train, samples)),
            ranks,
            lambda step, rank: batches.samples(step, rank, ranks.world),
            scaling,
        ),
        averaging=averaging,
        ranks=ranks,
        best=best,
        patience=patience,
        freezing=freezing,
        seconds_before=state.seconds,
        first=parent["step"] if parent is not None else 0,
    )


def _selection(recipe: Recipe) -> Facts:
    """What the validation images decide of a model."""
    best, watched = recipe.evaluation.metrics
    words = ["the weights that are kept"] * bool(best) + ["when the run ended"] * bool(watched)
    return {"selection": " and ".join(words)} if words else {}


def run_data(recipe: Recipe, facts: Facts, signals: Signals, ranks: Ranks = ALONE) -> tuple[Dataset, Division]:
    """The data set from where the recipe says, else from where it was found when the run began."""
    settings, origin = recipe.data, Path(facts["data"]["origin"])
    named = settings.path is not None and os.path.exists(os.path.expanduser(settings.path))
    if not named and origin.is_absolute() and origin.exists():  # what is embedded has no such place
        settings = settings.model_copy(update={"path": str(origin)})
    dataset = opened(settings, signals, ranks, facts["data"].get("division", FIRST))
    return dataset, divide(dataset, settings)


def opened(settings: DataSettings, signals: Signals, ranks: Ranks, division: int = TOGETHER) -> Dataset:
    """The data set, verified by every process; the first of a machine goes before, and leaves the others its copies."""

    def heed() -> None:
        signals.heed()
        ranks.moved()

    with ranks.in_turn():
        return open_dataset(settings, heed, division=division)


def _newest(folder: RunFolder, ranks: Ranks) -> tuple[int, Mapping[str, bytes]] | None:
    """Step and files of the newest sound checkpoint, as rank 0 reads them; None where there is none."""
    found = folder.newest_checkpoint() if ranks.rank == 0 else None
    step = ranks.first(lambda: found[0]["step"] if found is not None else None)
    if step is None:
        return None
    return step, ranks.first_files(lambda: found[1] if found is not None else {})


def _restore(
    folder: RunFolder, state: TrainState, identity: str, ranks: Ranks, newest: tuple[int, Mapping[str, bytes]] | None
) -> Appender | None:
    """Bring the state to the newest checkpoint and, on rank 0, the record file to its length then."""
    if newest is None:
        return Appender(folder.records_path) if ranks.rank == 0 else None
    step, contents = newest
    book = state.restore(contents, identity, folder.checkpoint_path(step))
    if ranks.rank:
        return None
    folder.discard_after(state.step)
    return Appender(folder.records_path, book["length"], book["sha256"])


def parent_state(path: Path, step: int) -> dict[str, bytes]:
    """The files of the last checkpoint of a finished run, from which another goes on.

    Raises:
        UsageError: there is no such run.
        ModelError: its last checkpoint cannot be used.
    """
    found = RunFolder.open(path).newest_checkpoint()
    if found is None or found[0]["step"] != step:
        raise ModelError(
            f"the checkpoint of its last step, {step:,}, is gone or damaged", path, "restore it from a copy"
        )
    return found[1]


def _take_over(
    parent: Facts, state: TrainState, journal: Journal, events: Events, patience: Patience | None, ranks: Ranks
) -> None:
    """Begin where another run has ended; what ended it is forgotten, what has happened to it is not."""
    path = Path(parent["path"])
    contents = ranks.first_files(lambda: parent_state(path, parent["step"]))
    if (digest(contents[WEIGHTS]), digest(contents[STATE])) != (parent["weights"], parent["state"]):
        raise ModelError("the run that this one goes on from is not what it was", path, "extend it anew")
    state.restore(contents, parent["identity"], path)
    state.seconds = 0.0
    events.happened.pop(STOPPED, None)
    if patience is not None:
        patience.waited = 0
    journal.evaluated = state.step
    if journal.reported != state.step:
        journal.restart(state.step)


def stored_recipe(folder: RunFolder, facts: Facts) -> Recipe:
    """The recipe of a run; refuses a `recipe.toml` that was edited after the start."""
    recipe = to_recipe(facts["recipe"], folder.path)
    try:
        written = tomllib.loads(folder.recipe_toml())
    except (ValueError, RecursionError):
        written = {}
    try:  # by value and not by letter: this release may know settings that the one which began the run did not
        same = to_recipe(written, folder.path) == recipe
    except UsageError:
        same = False
    if not same:
        raise UsageError(
            "recipe.toml was changed after the run began", folder.path, "undo it, or start a new run with it"
        )
    return recipe


def stored_compute(folder: RunFolder, facts: Facts) -> Compute:
    try:
        chosen = facts["chosen"]
        known = {name: chosen[name] for name in Compute.__dataclass_fields__ if name in chosen or name != "compile"}
        return Compute(**known)  # runs of older releases were not compiled
    except (KeyError, TypeError):
        raise ModelError("run.json is damaged", folder.path, "restore it from a copy") from None


def warn_of_differences(facts: Facts, compute: Compute, now: Facts, machine: Facts, world: int = 1) -> None:
    """Say why the rest may not be that of an uninterrupted run to the last bit, where it may not."""
    unlike = [f"{k} {facts['versions'].get(k)} -> {v}" for k, v in now.items() if facts["versions"].get(k) != v]
    noted = facts["machine"]  # an older release did not note the GPU
    unlike += [f"{k} {noted[k]} -> {v}" for k, v in machine.items() if noted.get(k, v) != v]
    chosen = {"compile": False, **facts["chosen"]}
    unlike += [f"{k} {chosen.get(k)} -> {v}" for k, v in compute.facts().items() if chosen.get(k) != v]
    before = facts["chosen"].get("processes", 1)
    if before != world:
        unlike.append(f"processes {before} -> {world}, the order of the images stays")
    if before != world and facts["recipe"].get("processes", {}).get("batch_norm") == "per-process":
        seen = " -> ".join(str(facts["chosen"]["batch_size"] // processes) for processes in (before, world))
        log.warning("batch normalisation will see other numbers of images at a time: %s", seen)
    if compute.torch_device.type != "cpu" and not compute.deterministic:
        unlike.append(f"{compute.device} without --deterministic")
    if facts["machine"] != machine:
        warn_of_precision(compute)
    if unlike:
        log.warning("the rest may differ in its last bits from an uninterrupted run: %s", "; ".join(unlike))
