"""The result of a finished run: one JSON value with all that a quoted figure must stand beside."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from residual.environment import machine
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.runs.records import Record, figures_of, last_of
from residual.sealed import FORMAT
from residual.training.compute import Compute
from residual.training.recipe import EvaluationSettings
from residual.training.schedules import STOPPED


def protocol(recipe: Facts, data: Facts, best: Facts | None = None) -> Facts:
    """How the figures came about: which images were trained on, what was read when, what chose what."""
    settings = EvaluationSettings.model_validate(recipe["evaluation"])
    _, watched = settings.metrics
    choices = [] if watched is None else [f"patience of {settings.patience} validations ({watched})"]
    own = data.get("own_validation", "val" in data.get("layout", ""))  # earlier releases tell it by the layout alone
    every = not own and not data.get("validation", recipe["data"]["validation"])
    kept = "last step"
    if recipe["optimiser"].get("average"):
        kept += f", running average of decay {recipe['optimiser']['average']:g}"
    if precise := recipe["evaluation"].get("precise_statistics"):
        kept += f", statistics measured anew over {precise:,} training images"
    if best is not None:
        choices.append(f"best on validation ({best['metric']})")
        kept = f"step {best['step']}, {choices[-1]}; final: {kept}"
    return {
        "training": "final (all training images)" if every else "tune (validation held out)",
        "view": "single",
        "weights": kept,
        "selection": ", ".join(choices) or "none",
        "watched_test": recipe["evaluation"]["watch_test"],
        **({} if recipe["evaluation"].get("test", True) else {"test": "not read"}),
    }


def best_of(records: Sequence[Record]) -> Facts | None:
    """Where the kept weights are from, and their figures by split; None where those of the last step are kept."""
    found = [record for record in records if record["kind"] == "kept"]
    if not found:
        return None
    place = {"metric": found[-1]["metric"], "step": found[-1]["of_step"], "epoch": found[-1]["of_epoch"]}
    return place | {record["split"]: figures_of(record) for record in found}


def make_result(folder: RunFolder, seconds: float, compute: Compute) -> Facts:
    """The figures of the run in `folder`; see `docs/run-folder.md` for every field."""
    facts, records = folder.facts(), folder.records()
    begun = [entry for entry in folder.sessions() if entry["event"] == "began"]
    final: dict[str, Any] = {}
    for split in ("validation", "test"):
        record = last_of(records, "evaluation", split)
        if record is not None:
            final[split] = figures_of(record)
    by_epoch = [
        {name: r[name] for name in ("step", "epoch", "loss", "top1")} | {"split": r.get("split", "training (running)")}
        for r in records
        if r["kind"] in ("train", "evaluation")
    ]
    best = best_of(records)
    events = [{name: r[name] for name in ("name", "step", "value")} for r in records if r["kind"] == "event"]
    batch, steps = facts["chosen"]["batch_size"], facts["chosen"]["steps"]
    steps = next((event["step"] for event in events if event["name"] == STOPPED), steps)
    gpu = machine(compute.device).get("gpu")
    more = {name: value for name, value in (("best", best), ("events", events)) if value}
    if "parent" in facts:
        more["parent"] = {name: value for name, value in facts["parent"].items() if name != "path"}
    return {
        "format": FORMAT,
        "kind": "training",
        "command": facts["command"],
        "recipe": facts["recipe"]["name"],
        "changed": facts["changed"],
        "network": facts["network"],
        **({"start": facts["start"]} if facts.get("start") else {}),
        "data": facts["data"],
        "protocol": protocol(facts["recipe"], facts["data"], best),
        "seed": facts["recipe"]["seed"],
        "versions": facts["versions"],
        "machine": facts["machine"],
        "device": {**compute.facts(), **({"name": gpu} if gpu else {})},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "sessions": len(begun),
        "processes": [entry.get("processes", 1) for entry in begun],
        "steps": steps,
        "images_seen": steps * batch,
        "final": final,
        "by_epoch": by_epoch,
        **more,
    }
