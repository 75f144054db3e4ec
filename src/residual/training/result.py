"""The result of a finished run: one JSON value with all that a quoted figure must stand beside."""

from __future__ import annotations

import datetime
from typing import Any

from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.runs.records import last_of
from residual.sealed import FORMAT
from residual.training.compute import Compute

_FIGURES = ("loss", "top1", "top3", "top5", "images")


def protocol(recipe: Facts, data: Facts) -> Facts:
    """How the figures came about: which images were trained on, what was read when, what chose what."""
    every = recipe["data"]["validation"] == 0 and "val" not in data.get("layout", "")
    kept = "last step"
    if recipe["optimiser"].get("average"):
        kept += f", running average of decay {recipe['optimiser']['average']:g}"
    if precise := recipe["evaluation"].get("precise_statistics"):
        kept += f", statistics measured anew over {precise:,} training images"
    return {
        "training": "final (all training images)" if every else "tune (validation held out)",
        "view": "single",
        "weights": kept,
        "selection": "none",
        "watched_test": recipe["evaluation"]["watch_test"],
    }


def make_result(folder: RunFolder, seconds: float, compute: Compute) -> Facts:
    """The figures of the run in `folder`; see `docs/run-folder.md` for every field."""
    facts, records = folder.facts(), folder.records()
    final: dict[str, Any] = {}
    for split in ("validation", "test"):
        record = last_of(records, "evaluation", split)
        if record is not None:
            final[split] = {name: record[name] for name in _FIGURES}
    by_epoch = [
        {name: r[name] for name in ("step", "epoch", "loss", "top1")} | {"split": r.get("split", "training (running)")}
        for r in records
        if r["kind"] in ("train", "evaluation")
    ]
    events = [{name: r[name] for name in ("name", "step", "value")} for r in records if r["kind"] == "event"]
    batch, steps = facts["chosen"]["batch_size"], facts["chosen"]["steps"]
    return {
        "format": FORMAT,
        "kind": "training",
        "command": facts["command"],
        "recipe": facts["recipe"]["name"],
        "changed": facts["changed"],
        "network": facts["network"],
        "data": facts["data"],
        "protocol": protocol(facts["recipe"], facts["data"]),
        "seed": facts["recipe"]["seed"],
        "versions": facts["versions"],
        "machine": facts["machine"],
        "device": compute.facts(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "sessions": sum(entry["event"] == "began" for entry in folder.sessions()),
        "steps": steps,
        "images_seen": steps * batch,
        "final": final,
        "by_epoch": by_epoch,
    } | ({"events": events} if events else {})
