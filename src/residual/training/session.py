"""One sitting of a run: everything the loop needs, made from the run folder alone.

A run that starts and a run that goes on are made by the same code: starting writes the folder, and
both then read it.
"""

from __future__ import annotations

import math
import os
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from residual.data.batches import Batches
from residual.data.datasets import Division, divide, open_dataset
from residual.data.preprocessing import measure
from residual.data.source import Dataset, FileSource, everything, names
from residual.errors import DataError, ModelError, NonFiniteError, UsageError, log
from residual.evaluation.classifier import Classifier
from residual.evaluation.evaluate import evaluate
from residual.files import Appender, Facts, canonical, digest
from residual.models import NetworkSpec, build
from residual.runs.folder import RunFolder
from residual.runs.records import evaluation_record, event_record, train_record
from residual.training.compute import Compute
from residual.training.journal import Events, Journal
from residual.training.optimiser import OptimiserPart, make_optimiser, set_rate
from residual.training.progress import Listener
from residual.training.recipe import Recipe, to_recipe
from residual.training.schedules import BELOW
from residual.training.signals import Signals
from residual.training.state import Part, TrainState
from residual.training.step import train_step

AHEAD = 2  # batches that files are decoded for while the network computes


@dataclass
class Session:
    """The parts of a run at work, and the few things the loop does with them."""

    folder: RunFolder
    recipe: Recipe
    compute: Compute
    dataset: Dataset
    division: Division
    batches: Batches
    state: TrainState
    optimiser: torch.optim.Optimizer
    journal: Journal
    events: Events
    identity: str
    total: int
    records: Appender
    listener: Listener
    signals: Signals
    saved_at: float = field(default_factory=time.monotonic)
    began: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of this run over all its sessions."""
        return self.seconds_before + time.monotonic() - self.began

    # -- steps -----------------------------------------------------------------------------------------

    def rate(self, step: int) -> tuple[float, float]:
        """Learning rate and momentum of a step."""
        schedule, base = self.recipe.schedule, self.recipe.optimiser.momentum
        return schedule.rate_at(step, self.total, self.events.happened), schedule.momentum_at(step, self.total, base)

    def take_step(self) -> None:
        """Draw the batch of this step and move the weights once."""
        step = self.state.step
        set_rate(self.optimiser, *self.rate(step))
        batch = self.batches.batch_at(step)
        for following in range(step + 1, min(step + 1 + AHEAD, self.total)):
            self.batches.expect(following)
        network = self.state.classifier.network
        try:
            result = train_step(network, self.optimiser, batch, self.compute, self.recipe.loss.label_smoothing, step)
        except NonFiniteError as fault:
            first = ", ".join(names(self.dataset.train, batch.samples[:5]))
            raise NonFiniteError(fault.what, f"training images {first}, ...", fault.remedy) from None
        self.journal.tally.add(result.logits, result.labels, result.loss_sum)
        self.state.step = step + 1
        error = self.events.watch(self.state.step, result.logits, result.labels)
        if error is not None:
            self._record(event_record(BELOW, self.state.step, error))
        self.listener.stepped(self.state.step, self.batches.batch_size)

    def due(self, step: int) -> bool:
        """Whether `step` ends a stretch between evaluations, or the run."""
        if step in (0, self.total):
            return step == self.total
        every = self.recipe.evaluation.every_epochs
        return int(self.batches.epoch(step) / every) > int(self.batches.epoch(step - 1) / every)

    # -- records ---------------------------------------------------------------------------------------

    def _record(self, record: Facts) -> None:
        self.records.append(record)
        self.listener.recorded(record)

    def report(self) -> None:
        """Write the running figures of training since the last such line."""
        step, tally = self.state.step, self.journal.tally
        if self.journal.reported == step or not self.due(step):
            return
        seconds = self.seconds
        rate, momentum = self.rate(step - 1)
        clock = {"seconds": round(seconds, 3)}
        epoch = self.batches.epoch(step)
        self._record(train_record(step, epoch, tally.images, tally.scores(), rate, momentum, clock))
        self._judge("training", 1 - tally.scores()["top1"])
        self.journal.restart(step)

    def _judge(self, split: str, error: float) -> None:
        """Tell a schedule that waits for a plateau; the test set it does not hear of."""
        event = self.events.judge(self.state.step, split, error)
        if event is not None:
            self._record(event_record(event, self.state.step, error))

    def evaluate(self) -> None:
        """Validate where that is due; the test set is read at the last step, or under `watch_test`."""
        step = self.state.step
        if self.journal.evaluated == step or not self.due(step):
            return
        final = step == self.total
        jobs: list[tuple[Any, Any, Tensor]] = []
        if len(self.division.validation):
            jobs.append(("validation", self.dataset.held, self.division.validation))
        if len(self.dataset.test) and (final or self.recipe.evaluation.watch_test):
            jobs.append(("test", self.dataset.test, everything(self.dataset.test)))
        classifier, found = self.state.classifier, []
        for split, source, indices in jobs:
            start = time.monotonic()
            evaluation = evaluate(
                classifier.network,
                source,
                indices,
                classifier.preprocessing,
                self.compute.torch_device,
                self.recipe.evaluation.batch_size,
                halt=lambda: bool(self.signals),
            )
            if evaluation is None:
                return  # a signal came; the evaluation is done anew on resume
            if not math.isfinite(evaluation.scores["loss"]):
                what = f"the loss of the {split} images is not finite at step {step}"
                raise NonFiniteError(what, self.folder.path, "lower the learning rate; the last checkpoint is whole")
            clock = {"seconds": round(time.monotonic() - start, 3)}
            epoch = self.batches.epoch(step)
            found.append(evaluation_record(split, step, epoch, evaluation.images, evaluation.scores, final, clock))
        for record in found:
            self._record(record)
            self._judge(record["split"], 1 - record["top1"])
        self.journal.evaluated = step

    # -- checkpoints -----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint of this step."""
        self.records.sync()
        self.state.seconds = self.seconds
        book = {"length": self.records.length, "sha256": self.records.sha256}
        self.state.classifier.provenance["step"] = self.state.step
        facts = {"step": self.state.step, "identity": self.identity}
        contents = self.state.pack(self.identity, book)
        self.folder.save_checkpoint(self.state.step, contents, facts, self.recipe.checkpoint.keep)
        self.saved_at = time.monotonic()
        self.listener.saved(self.state.step)

    def save_if_due(self) -> None:
        step, settings = self.state.step, self.recipe.checkpoint
        by_step = settings.every_steps is not None and step % settings.every_steps == 0
        by_time = settings.every_seconds is not None and time.monotonic() - self.saved_at >= settings.every_seconds
        if step in (0, self.total) or by_step or by_time:
            self.save()


def run_identity(facts: Facts) -> str:
    """What makes a run this run: a checkpoint of another recipe, network or data set is refused.

    Device, threads and how often checkpoints are written are left out: they may be changed.
    """
    recipe = {k: v for k, v in facts["recipe"].items() if k not in ("compute", "checkpoint")}
    data = {"name": facts["data"]["name"], "checksums": facts["data"]["checksums"]}
    recipe["data"] = {k: v for k, v in recipe["data"].items() if k not in ("path", "threads")}
    whole = {"recipe": recipe, "network": facts["network"], "data": data, "steps": facts["chosen"]["steps"]}
    if facts.get("settled"):  # runs of older releases have none, and keep their identity
        whole["settled"] = facts["settled"]
    return digest(canonical(whole))


def check_data(folder: RunFolder, facts: Facts, dataset: Dataset, division: Division) -> None:
    """Refuse to go on with other images than the run began with."""
    if facts["data"]["checksums"] != dataset.checksums:
        raise DataError("the data set is not the one the run began with", dataset.origin, "give back the former files")
    stored = folder.split()
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


def open_session(
    folder: RunFolder,
    recipe: Recipe,
    compute: Compute,
    listener: Listener,
    signals: Signals,
    data: tuple[Dataset, Division] | None = None,
) -> Session:
    """The run in `folder`, brought to its newest sound checkpoint, or to step 0 where there is none."""
    facts = folder.facts()
    compute.prepare()
    dataset, division = data or _data(recipe, facts, signals)
    check_data(folder, facts, dataset, division)
    preprocessing = measure(dataset.train, division.training, recipe.data.normalisation)
    device = compute.torch_device
    network = build(NetworkSpec.model_validate(facts["network"]), recipe.seed)
    # The stubs of torch do not know `memory_format` here.
    network.to(device, memory_format=compute.memory_format).train()  # type: ignore[call-overload]
    optimiser = make_optimiser(network, recipe.optimiser)
    journal, events = Journal(device), Events(recipe.schedule, device)
    provenance = {
        "run": folder.name,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": facts["data"],
        "versions": facts["versions"],
    }
    classifier = Classifier(network, preprocessing, dataset.class_names, provenance)
    parts: dict[str, Part] = {"optimiser": OptimiserPart(network, optimiser), "journal": journal, "events": events}
    state = TrainState(classifier, parts)
    identity = run_identity(facts)
    records = _restore(folder, state, identity)
    batches = Batches(
        dataset.train,
        division.training,
        preprocessing,
        recipe.data.augment,
        recipe.batch_size,
        recipe.seed,
        device,
        facts["chosen"]["steps"],
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
        seconds_before=state.seconds,
    )


def _data(recipe: Recipe, facts: Facts, signals: Signals) -> tuple[Dataset, Division]:
    """The data set from where the recipe says, else from where it was found when the run began."""
    settings, origin = recipe.data, Path(facts["data"]["origin"])
    named = settings.path is not None and os.path.exists(os.path.expanduser(settings.path))
    if not named and origin.is_absolute() and origin.exists():  # what is embedded has no such place
        settings = settings.model_copy(update={"path": str(origin)})
    dataset = open_dataset(settings, signals.heed)
    return dataset, divide(dataset, settings)


def _restore(folder: RunFolder, state: TrainState, identity: str) -> Appender:
    """Bring the state to the newest checkpoint and the record file to its length then."""
    found = folder.newest_checkpoint()
    if found is None:
        return Appender(folder.records_path)
    where = folder.checkpoint_path(found[0]["step"])
    book = state.restore(found[1], identity, where)
    folder.discard_after(state.step)
    return Appender(folder.records_path, book["length"], book["sha256"])


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
        return Compute(**{name: chosen[name] for name in Compute.__dataclass_fields__})
    except (KeyError, TypeError):
        raise ModelError("run.json is damaged", folder.path, "restore it from a copy") from None


def warn_of_differences(facts: Facts, compute: Compute, now: Facts, machine: Facts) -> None:
    """Say why the rest may not be that of an uninterrupted run to the last bit, where it may not."""
    unlike = [f"{k} {facts['versions'].get(k)} -> {v}" for k, v in now.items() if facts["versions"].get(k) != v]
    unlike += [f"{k} {facts['machine'].get(k)} -> {v}" for k, v in machine.items() if facts["machine"].get(k) != v]
    unlike += [
        f"{name} {facts['chosen'].get(name)} -> {value}"
        for name, value in compute.facts().items()
        if facts["chosen"].get(name) != value
    ]
    if compute.torch_device.type != "cpu" and not compute.deterministic:
        unlike.append(f"{compute.device} without --deterministic")
    if unlike:
        log.warning("the rest may differ in its last bits from an uninterrupted run: %s", "; ".join(unlike))
