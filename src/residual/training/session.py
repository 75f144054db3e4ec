"""One sitting of a run: the parts at work, and the few things the loop does with them.

Of several processes each has a session; rank 0 alone writes to the run folder, and only it has `records`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor

from residual.chance import derive, seed_device
from residual.data.batches import Batches
from residual.data.datasets import Division
from residual.data.source import Dataset, everything
from residual.errors import NonFiniteError, lacks_memory, log
from residual.evaluation.scores import Tally, balanced
from residual.files import Appender, Facts
from residual.models.synchronised import apart
from residual.ranks import ALONE, Ranks
from residual.runs.folder import RunFolder
from residual.runs.records import evaluation_record, event_record, figures_of, kept_record, train_record
from residual.training.averaging import Averaging
from residual.training.compiling import at_rest
from residual.training.compute import Compute
from residual.training.freezing import Freezing
from residual.training.journal import Events, Journal
from residual.training.optimiser import set_rate
from residual.training.progress import Listener
from residual.training.recipe import Recipe
from residual.training.room import Room, evaluate_in_room
from residual.training.schedules import BELOW, STOPPED
from residual.training.selection import Best, Patience
from residual.training.sharing import check_replicas
from residual.training.signals import Signals
from residual.training.state import TrainState
from residual.training.statistics import measure_statistics, parts_of
from residual.training.step import Guard, train_step, vouch

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
    records: Appender | None
    listener: Listener
    signals: Signals
    guard: Guard
    averaging: Averaging | None = None
    ranks: Ranks = ALONE
    best: Best | None = None
    patience: Patience | None = None
    freezing: Freezing | None = None
    saved_at: float = field(default_factory=time.monotonic)
    began: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0
    save_soon: bool = False
    replaces: bool = False
    first: int = 0
    room: Room = field(init=False)

    def __post_init__(self) -> None:
        network, size, parts = self.state.classifier.network, self.batches.batch_size, self.recipe.optimiser.accumulate
        halved = WeakMethod(self._halved)  # a cycle would keep the images of a finished run until one is collected

        def told(name: str, parts: int) -> None:
            if (heard := halved()) is not None:
                heard(name, parts)

        self.room = Room(network, self.events.happened, size, parts, told, self.ranks.world == 1)

    @property
    def seconds(self) -> float:
        """Seconds of this run over all its sessions."""
        return self.seconds_before + time.monotonic() - self.began

    def heard(self) -> int:
        """The signal that any process has heard, the same number on all of them; 0 where there was none."""
        return self.ranks.largest(self.signals.number or 0)

    @property
    def end(self) -> int:
        """The step after which the run is over: its length, unless patience ended before."""
        return self.events.happened.get(STOPPED, self.total)

    # -- steps -----------------------------------------------------------------------------------------

    def rate(self, step: int) -> tuple[float, float]:
        """Learning rate and momentum of a step."""
        schedule, base = self.recipe.schedule, self.recipe.optimiser.momentum
        return schedule.rate_at(step, self.total, self.events.happened), schedule.momentum_at(step, self.total, base)

    def take_step(self) -> None:
        """Draw the batch of this step and move the weights once."""
        step = self.state.step
        self._seed()
        self.room.enter(step)
        set_rate(self.optimiser, *self.rate(step))
        rank, world = self.ranks.rank, self.ranks.world
        batch = self.batches.batch_at(step, rank, world)
        for following in range(step + 1, min(step + 1 + AHEAD, self.total)):
            self.batches.expect(following, rank, world)
        network = self.state.classifier.network
        if self.freezing is not None:
            self.freezing.apply(step)
        smoothing, settings = self.recipe.loss.label_smoothing, self.recipe.optimiser
        result = train_step(
            network, self.optimiser, batch, self.compute, smoothing, step, settings, self.guard, self.room
        )
        if self.averaging is not None:
            self.averaging.stepped()
        counted = Tally.of(result.logits, result.labels, result.loss_sum)
        self.ranks.add(counted.loss, counted.hits)
        counted.images *= world
        self.journal.tally.join(counted)
        self.state.step = step + 1
        self.ranks.moved(step + 1)
        error = self.events.watch(self.state.step, counted)
        if error is not None:
            self._record(event_record(BELOW, self.state.step, error))
        self.listener.stepped(self.state.step, self.batches.batch_size)

    def _seed(self) -> None:
        """Dropout draws from torch's own generators: give them a state that follows from the step alone."""
        seed = derive(self.recipe.seed, "step", self.state.step, self.ranks.rank)
        seed_device(seed, self.compute.torch_device)

    def _halved(self, name: str, parts: int) -> None:
        """The memory did not hold the batch of this step: say so, and have the step's end saved."""
        self._seed()
        self._record(event_record(name, self.state.step, parts))
        self.save_soon = True

    def due(self, step: int) -> bool:
        """Whether `step` ends a stretch between evaluations, or the run."""
        if step in (0, self.end):
            return step == self.end
        every = self.recipe.evaluation.every_epochs
        return self.batches.stretches(step, every) > self.batches.stretches(step - 1, every)

    # -- records ---------------------------------------------------------------------------------------

    def _record(self, record: Facts) -> None:
        if self.records is not None:
            self.records.append(record)
        self.listener.recorded(record)

    def report(self) -> None:
        """Write the running figures of training since the last such line."""
        step, tally = self.state.step, self.journal.tally
        if self.journal.reported == step or not self.due(step):
            return
        self.guard.read()  # on a GPU the last steps may not have been judged, and their sums are written now
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
        """Validate where that is due; the test set is read at the last step, if at all, or under `watch_test`."""
        step = self.state.step
        if self.journal.evaluated != step and self.due(step):
            check_replicas(self.state.classifier.network, step, self.ranks)
        while self.journal.evaluated != step and self.due(step):
            final = step == self.end
            again = self.events.happened.get(STOPPED) == step  # validated before, as one evaluation among others
            with at_rest(self.compute):
                found = self._evaluations(final)
            if found is None:
                return  # a signal came; all of it is done anew on resume
            for record in found:
                self._record(record)
                if record["kind"] == "evaluation" and not again:
                    self._judge(record["split"], 1 - record["top1"])
            if self.patience is not None and not final and self.patience.judge(found[0]):
                self.events.happened[STOPPED] = step  # so that this step is the last, and is evaluated as such
                self._record(event_record(STOPPED, step, self.patience.best or 0.0))
            if final or step < self.end:
                self.journal.evaluated = step
                self.replaces = final

    def _evaluations(self, final: bool) -> list[Facts] | None:
        """The records of all that is due now, validation first; None where a signal came."""
        test = ("test", self.dataset.test, everything(self.dataset.test))
        jobs: list[tuple[Any, Any, Tensor]] = []
        if len(self.division.validation):
            jobs.append(("validation", self.dataset.held, self.division.validation))
        settings = self.recipe.evaluation
        if settings.test and len(self.dataset.test) and (final or settings.watch_test):
            jobs.append(test)
        with self.judged_weights():
            if final and not self._measure_statistics():
                return None
            found = [record for job in jobs if (record := self._judged(*job, final)) is not None]
            if len(found) < len(jobs):
                return None
            if self.best is None:
                return found
            self.best.judge(self.state.step, self.batches.epoch(self.state.step), figures_of(found[0]))
        if not final:
            return found
        kept = [kept_record("validation", self.state.step, self.best.metric, self.best.facts(), self.best.scores)]
        if settings.test and len(self.dataset.test):
            judged: Facts | None = found[-1]
            if self.best.step != self.state.step:
                with self.kept_weights():
                    judged = self._judged(*test, final)
            if judged is None:
                return None
            figures = figures_of(judged)
            kept.append(kept_record("test", self.state.step, self.best.metric, self.best.facts(), figures))
        return found + kept

    def _judged(self, split: Any, source: Any, indices: Tensor, final: bool) -> Facts | None:
        """The record of one evaluation; None where a signal came."""
        start, step, classifier = time.monotonic(), self.state.step, self.state.classifier
        evaluation = evaluate_in_room(
            classifier.network,
            source,
            indices,
            classifier.preprocessing,
            self.compute.torch_device,
            self.recipe.evaluation.batch_size,
            lambda: bool(self.signals),
            self.ranks,
        )
        if evaluation is None:
            return None
        if not math.isfinite(evaluation.scores["loss"]):
            what = f"the loss of the {split} images is not finite at step {step}"
            raise NonFiniteError(what, self.folder.path, "lower the learning rate; the last checkpoint is whole")
        clock, scores = {"seconds": round(time.monotonic() - start, 3)}, evaluation.scores
        if "balanced" in self.recipe.evaluation.metrics:
            scores = scores | {"balanced": balanced(evaluation.confusion)}
        return evaluation_record(split, step, self.batches.epoch(step), evaluation.images, scores, final, clock)

    def judged_weights(self) -> AbstractContextManager[None]:
        """The network with the weights that are judged: the averaged ones, where the recipe wants them."""
        return self.averaging.in_place() if self.averaging is not None else nullcontext()

    def kept_weights(self) -> AbstractContextManager[None]:
        """The network with the weights that become the model: those judged last, or the best where the recipe asks."""
        return self.best.in_place() if self.best is not None else self.judged_weights()

    @property
    def kept_step(self) -> int:
        """The step of these weights."""
        return self.state.step if self.best is None or self.best.step is None else self.best.step

    def _measure_statistics(self) -> bool:
        """At the end, the statistics of batch normalisation as true averages, where the recipe wants them."""
        count = min(self.recipe.evaluation.precise_statistics, len(self.batches))
        if count == 0:
            return True
        classifier = self.state.classifier
        chosen = self.batches.sequence(0)[:count]
        batch_size, shares = self.recipe.batch_size, self.room.parts // self.recipe.optimiser.accumulate

        def images() -> Iterator[Tensor]:
            for part in chosen.tensor_split(parts_of(count, batch_size, shares)):
                pixels = self.dataset.train.read(part).to(self.compute.torch_device)
                self.ranks.moved()
                yield self.batches.preprocessing.normalise(pixels).contiguous(memory_format=self.compute.memory_format)

        fixed = self.freezing.fixed(self.state.step) if self.freezing is not None else ()
        # Every process measures the same.
        alone = self.ranks.world == 1
        with apart(classifier.network):
            while True:
                try:
                    whole = measure_statistics(classifier.network, images(), self._alone_and_stopped, fixed)
                    break
                except (RuntimeError, MemoryError) as error:
                    if not alone or not lacks_memory(error) or batch_size // shares <= 2:
                        raise
                shares *= 2
                log.warning("out of memory: %d images are measured at a time", max(2, batch_size // shares))
        if whole and self.averaging is not None:
            self.averaging.adopt_statistics()
        return whole

    def _alone_and_stopped(self) -> bool:
        """Whether a signal came; none of several processes stops without the others."""
        return self.ranks.world == 1 and bool(self.signals)

    # -- checkpoints -----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint of this step, on rank 0; the others hear of what goes wrong there."""
        if self.records is None:
            return
        self.guard.read()
        vouch(self.state.classifier.network, self.state.step)
        self.records.sync()
        self.state.seconds = self.seconds
        book = {"length": self.records.length, "sha256": self.records.sha256}
        self.state.classifier.provenance["step"] = self.state.step
        facts = {"step": self.state.step, "identity": self.identity}
        contents = self.state.pack(self.identity, book)
        self.folder.save_checkpoint(self.state.step, contents, facts, self.recipe.checkpoint.keep, self.replaces)
        self.replaces = False
        self.saved_at, self.save_soon = time.monotonic(), False
        self.listener.saved(self.state.step)

    def save_if_due(self) -> None:
        step, settings = self.state.step, self.recipe.checkpoint
        by_step = settings.every_steps is not None and step % settings.every_steps == 0
        by_time = settings.every_seconds is not None and time.monotonic() - self.saved_at >= settings.every_seconds
        if step in (self.first, self.end) or by_step or by_time or self.save_soon:
            self.save()
