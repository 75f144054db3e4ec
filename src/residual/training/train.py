"""`train`: a recipe becomes a run folder, now or from where it was left.

Everything chosen is written before step 0. A run that goes on reads its folder and nothing else.
"""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from residual.borrowed import borrowed_alone
from residual.data.batches import check_batch_size
from residual.data.concerns import concerns
from residual.data.datasets import divide
from residual.data.preprocessing import Preprocessing
from residual.device import choose_device, mind_fork
from residual.environment import check_versions, commit, machine, versions
from residual.errors import DataError, Interrupted, ModelError, StorageError, UsageError, log
from residual.files import Facts
from residual.launch import launched
from residual.models import NetworkSpec, count, resolve
from residual.ranks import Ranks
from residual.runs import disk
from residual.runs.folder import RUN, RunFolder, find_run, runs_root
from residual.training import opening
from residual.training.agreement import agree
from residual.training.compiling import choose_compile
from residual.training.compute import Compute
from residual.training.fitting import Wishes, fit
from residual.training.holding import LEASE, held
from residual.training.loop import run_loop
from residual.training.origin import called, command_of, now
from residual.training.places import create_run, lasting, refuse_inside, refuse_unmakeable
from residual.training.processes import TIMEOUT, joined
from residual.training.progress import Listener, sound
from residual.training.recipe import Changes, Override, Recipe, as_overrides, override, to_recipe
from residual.training.recipes import network_is_given, recipe_of
from residual.training.result import make_result
from residual.training.schedules import check_length
from residual.training.selection import refuse_without_validation
from residual.training.settling import check_device, check_sizes, doubts, settle, settled, tell_once
from residual.training.sharing import (
    check_alike,
    check_shares,
    check_versions_alike,
    choose_together,
    chosen_anew,
    found_here,
    refuse_measuring,
)
from residual.training.signals import Signals
from residual.training.start import made_ready, prepare
from residual.training.trial import untouched
from residual.training.weighing import class_weights, weight_facts


def train(
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    set: Changes = (),
    data: str | os.PathLike[str] | None = None,
    epochs: float | None = None,
    network: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    start_from: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    listener: Listener | None = None,
    command: str | None = None,
    budget: str | None = None,
    batch_size: int | Literal["auto"] | None = None,
    or_resume: bool = False,
    since: float | None = None,
) -> RunFolder:
    """Train a recipe in a new run folder, to its end.

    Args:
        recipe: a recipe, the name of one, or the path of a .toml file; the embedded digits unless given.
        set: values to change, by path: {"optimiser.weight_decay": 5e-4, "data.augment.mirror": True}.
        data, epochs, network, seed, device: as on the command line, for what `set` names as well.
        start_from: trained weights to begin from: a run, a model folder, a file of weights, `torchvision:resnet50`.
        out: the run folder; must not exist. Without it, `runs/<recipe>-<number>`.
        listener: who is told what happens; no one by default.
        command: what is stored as the command to repeat the run.
        budget: the time the run may take, as 15m or 1h30m; its length is then chosen from a measured rate.
        batch_size: images per step; auto chooses it from real steps.
        or_resume: where a run of these very settings stands at `out`, go on with it; a finished one comes back.
        since: when the budget began, by time.monotonic(); now unless given.

    Raises:
        UsageError, DataError, EnvironmentFault: before anything is written.
        Interrupted: SIGINT, SIGTERM or SIGHUP; the state is saved.
        NonFiniteError, StorageError: the last checkpoint is whole.
    """
    check_versions()
    mind_fork()
    flags = {"data.path": data, "epochs": epochs, "network.name": network, "seed": seed, "compute.device": device}
    flags["start.weights"] = None if start_from is None else os.fspath(start_from)
    changes, heard = as_overrides({path: value for path, value in flags.items() if value is not None}), sound(listener)
    changes += as_overrides(set)
    if batch_size not in (None, "auto"):
        changes += as_overrides({"batch_size": batch_size})
    wishes = Wishes.of(budget, batch_size == "auto", changes, since)
    told = command_of(command, called("train", recipe, changes, out=out, budget=budget, batch_size=batch_size))
    place = Path(out).expanduser() if out is not None else None
    with borrowed_alone("residual.train"), joined(_patience(changes)) as ranks:
        if or_resume or launched() is not None:
            if place is None:
                again = "this call may go on with a run" if or_resume else "a launcher may start a run again"
                what = f"{again}, which must then be found"
                raise UsageError(what, "--out", "name the run, as in --out runs/NAME")
            if ranks.first((place / RUN).is_file):  # begun by an earlier start of the same
                meant = recipe_of(recipe, started="start.weights" in dict(changes)) if recipe is None else recipe
                return _go_on(RunFolder(place), meant, changes, False, heard, ranks, wishes, LEASE)
        base = recipe_of(recipe, started="start.weights" in dict(changes))
        return _begin(base, changes, place, heard, told, ranks, wishes)


def _begin(
    base: Recipe,
    changes: list[Override],
    place: Path | None,
    listener: Listener,
    command: str,
    ranks: Ranks,
    wishes: Wishes,
) -> RunFolder:
    chosen_recipe, paths = lasting(override(base, changes)), [path for path, _ in changes]
    refuse_measuring(wishes, ranks.world)
    ranks.be_patient(chosen_recipe.processes.timeout)
    check_versions_alike(versions(), ranks)
    if place is not None and ranks.rank == 0:
        refuse_unmakeable(place)
    signals = Signals()
    with signals:
        if chosen_recipe.data.dataset == "folder":  # found out before the images are read
            refuse_inside(place or runs_root(), chosen_recipe.data.path)

        def heed() -> None:
            signals.heed("while the weights were downloaded", chosen_recipe.start.weights, "give the command again")
            ranks.moved()

        with ranks.in_turn():  # the first of a machine downloads them for all
            start = prepare(chosen_recipe, paths, network_is_given(base), heed)
        chosen_recipe, taken = (start.recipe, start.settled) if start is not None else (chosen_recipe, {})
        dataset = opening.opened(override(chosen_recipe, taken.items()).data, signals, ranks)
        division = divide(dataset, chosen_recipe.data)
        chosen, whys = settle(chosen_recipe, dataset, len(division.training), paths)
        chosen, whys = chosen | taken, whys | dict.fromkeys(taken, "as the weights have it")
        recipe = override(chosen_recipe, chosen.items())
        spec = resolve(chosen_recipe.network, len(dataset.class_names), dataset.channels, dataset.image_size)
        check_sizes(spec, dataset)
        if getattr(recipe.schedule, "watch", None) == "validation" and not len(division.validation):
            raise UsageError(
                "a plateau of the validation error is waited for, and no images are held out",
                "schedule.watch",
                "set schedule.watch to training, or use --protocol tune",
            )
        refuse_without_validation(*recipe.evaluation.metrics, len(division.validation))
        if first := getattr(recipe.schedule, "first", 0):
            what = f"the schedule begins at step {first:,}, where another run has ended"
            raise UsageError(what, "schedule.first", "extend that run with --extend-to, or set it to 0")
        compute, reasons = choose_together(chosen_recipe.compute, ranks)
        check_device(recipe, spec, dataset, compute)
        fitted = fit(
            wishes,
            recipe,
            lambda recipe: _steps(recipe, len(division.training)),
            (dataset, division),
            spec,
            compute,
            place or runs_root(),
            signals.heed,
            paths,
            chosen_recipe.batch_size,
            start,
        )
        changes += fitted.changes
        chosen = {path: value for path, value in chosen.items() if path not in dict(fitted.changes)}
        chosen_recipe, recipe = (override(one, fitted.changes) for one in (chosen_recipe, recipe))
        check_shares(recipe, spec, ranks.world)
        steps = _steps(recipe, len(division.training))
        compute, whether = choose_compile(recipe, spec, dataset.image_size, compute, steps, ranks)
        for concern in (
            *check_length(recipe.schedule, steps),
            *concerns(dataset, division.training, division.validation, chosen_recipe.data.validation),
        ):
            log.warning(concern)
        for doubt in doubts(recipe, paths):
            tell_once(doubt)
        facts = {
            "residual": versions()["residual"],
            "created": now(),
            "command": command,
            "recipe": chosen_recipe.model_dump(mode="json"),
            "changed": {path: value for path, value in changes},
            "chosen": {
                **compute.facts(),
                "steps": steps,
                "batch_size": recipe.batch_size,
                "processes": ranks.world,
                **fitted.measured,
            },
            "settled": chosen,
            "reasons": reasons | whys | fitted.reasons | whether,
            "network": spec.model_dump(mode="json"),
            "counted": count(spec, dataset.image_size).summary(),
            "data": opening.data_facts(dataset, division),
            **weight_facts(class_weights(recipe.loss, dataset, division), dataset),
            "versions": versions(),
            "commit": commit(),
            "machine": machine(compute.device),
        }
        ready = made_ready(start, dataset, division, facts, steps) if start is not None else None
        split = opening.split_facts(division, dataset)
        check_alike(facts, split, ranks)
        path = ranks.first(
            lambda: str(create_run(place, chosen_recipe, dataset, facts, chosen_recipe.to_toml(), split, ready).path)
        )
        return _sit(
            RunFolder(Path(path)),
            recipe,
            compute,
            listener,
            signals,
            ranks,
            (dataset, division),
            constants=fitted.constants,
        )


def resume(
    run: str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    set: Changes = (),
    override_safe: bool = False,
    listener: Listener | None = None,
) -> RunFolder:
    """Go on with a run from its newest sound checkpoint, to its end; a finished run comes back as it is.

    Args:
        run: the run folder, its name under `runs/`, or None for the run last touched.
        recipe, set: what the caller believes the run to be; any difference is listed and refused.
        override_safe: allow differences in compute and checkpoint settings, for this session.

    Raises:
        UsageError: no such run, or it differs from what was said.
        ModelError: no checkpoint can be used.  StorageError: another process holds the run.
    """
    check_versions()
    mind_fork()
    changes, heard = as_overrides(set), sound(listener)
    with borrowed_alone("residual.resume"), joined(_patience(changes)) as ranks:
        name = os.fspath(run) if run is not None else None
        folder = RunFolder(Path(ranks.first(lambda: str(find_run(name).path))))
        return _go_on(folder, recipe, changes, override_safe, heard, ranks)


def _go_on(
    folder: RunFolder,
    recipe: Recipe | str | os.PathLike[str] | None,
    changes: list[Override],
    override_safe: bool,
    listener: Listener,
    ranks: Ranks,
    wishes: Wishes | None = None,
    patience: float = 0.0,
) -> RunFolder:
    """Go on with a run; `patience` are the seconds to wait for another process that holds it."""
    check_versions_alike(versions(), ranks)
    facts = ranks.first(folder.facts)
    if not all(isinstance(facts.get(part), dict) for part in ("recipe", "network", "data", "versions", "machine")):
        raise ModelError("run.json is damaged", folder.path, "restore it from a copy")
    stored = opening.stored_recipe(folder, facts) if ranks.rank == 0 else to_recipe(facts["recipe"], folder.path)
    compute = opening.stored_compute(folder, facts)
    found = wishes.found(facts, folder.path) if wishes is not None else []
    changes = [change for change in changes if change[0] not in dict(found)] + found
    agreed = agree(folder, facts, stored, recipe, changes, override_safe, ranks)
    recipe = agreed.recipe
    if ranks.first(lambda: folder.result() is not None):
        elsewhere = agreed.changes("data.path") and recipe.data.path is not None
        if ranks.largest(int(elsewhere)):  # on one machine, maybe: what follows, all processes do together
            _refuse_others(folder, settled(recipe, facts, folder.path), facts, ranks)
        return folder
    if agreed.device is not None:
        compute = replace(compute, device=choose_device(agreed.device))
    anew = agreed.changes("compute.")
    compute = chosen_anew(recipe.compute, ranks) if anew else found_here(compute, recipe, folder, override_safe, ranks)
    opening.warn_of_differences(facts, compute, versions(), machine(compute.device), ranks.world)
    whole = settled(recipe, facts, folder.path)
    ranks.be_patient(whole.processes.timeout)
    check_shares(whole, NetworkSpec.model_validate(facts["network"]), ranks.world, begun=True)
    signals = Signals()
    with signals:
        return _sit(folder, whole, compute, listener, signals, ranks, patience=patience)


def _refuse_others(folder: RunFolder, recipe: Recipe, facts: Facts, ranks: Ranks) -> None:
    """Where other images are named for a finished run, see that they are those it was trained on."""
    signals = Signals()
    with signals:
        try:
            dataset, division = opening.run_data(recipe, facts, signals, ranks)
            opening.check_data(folder, facts, dataset, division, ranks)
        except DataError as error:
            what = f"this finished run was trained on other images than {recipe.data.path} has"
            raise UsageError(what, folder.path, f"name another --out ({error.what})") from None


def _patience(changes: list[Override]) -> float:
    """The seconds that the processes wait for one another before they know their recipe."""
    wished = dict(changes).get("processes.timeout", TIMEOUT)
    return float(wished) if isinstance(wished, int | float) and 1 <= wished <= 1e6 else TIMEOUT


def _steps(recipe: Recipe, images: int) -> int:
    """The run's length in steps; refuses a batch larger than the training images."""
    check_batch_size(images, recipe.batch_size)
    return recipe.steps_on(images)


def _sit(
    folder: RunFolder,
    recipe: Recipe,
    compute: Compute,
    listener: Listener,
    signals: Signals,
    ranks: Ranks,
    data: Any = None,
    patience: float = 0.0,
    constants: Preprocessing | None = None,
) -> RunFolder:
    """Train to the end; of several processes rank 0 alone touches the folder."""
    writes = ranks.rank == 0
    patience = LEASE if launched() is not None else patience  # begun again, maybe by a machine that is gone

    def heed() -> None:
        signals.heed(f"while another process held the run {folder.name}", folder.path)
        ranks.moved()

    with held(folder, patience, heed) if writes else nullcontext(), untouched(compute.torch_device):
        if ranks.first(lambda: folder.result() is not None):
            return folder
        if writes:
            disk.warn(folder.path)
        session = opening.open_session(folder, recipe, compute, listener, signals, data, ranks, constants)
        if writes:
            began = {"event": "began", "step": session.state.step, "at": now(), "processes": ranks.world}
            here = {"versions": versions(), "commit": commit(), "machine": machine(compute.device)}
            folder.note_session({**began, **here, **compute.facts()})
        listener.began(
            {
                "run": str(folder.path),
                "step": session.state.step,
                "steps": session.total,
                "epochs": session.batches.epoch(session.total),
                "batch_size": recipe.batch_size,
            }
        )
        how = "failed"
        try:
            run_loop(session)
            provenance = {"step": session.kept_step, "identity": session.identity}
            session.state.classifier.provenance["step"] = session.kept_step
            if writes:
                with session.kept_weights():
                    folder.save_model(session.state.classifier.pack(), provenance)
                folder.save_result(make_result(folder, session.state.seconds, compute))
            how = "finished"
        except Interrupted:
            how = "interrupted"
            raise
        finally:
            listener.ended()
            if session.records is not None:
                session.records.close()
            if writes:
                with suppress(StorageError):  # what ended the sitting matters more than the note of it
                    folder.note_session({"event": how, "step": session.state.step, "at": now()})
    return folder
