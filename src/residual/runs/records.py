"""The lines of `records.jsonl`: what happened at which step.

`step` counts finished steps, `epoch` the passes over the training images, `loss` is mean
cross-entropy in nats, `top1`, `top3`, `top5` are shares in [0, 1]. Whatever depends on the clock
stands under `time`, so that two runs can be compared without it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Record = dict[str, Any]
FIGURES = ("loss", "top1", "top3", "top5", "balanced", "images")
_PART = 1 << 13
_LONGEST = 1 << 20


def train_record(
    step: int, epoch: float, images: int, scores: dict[str, float], rate: float, momentum: float, time: Record
) -> Record:
    """The running figures of training since the last such line: on augmented images, weights moving."""
    return {
        "kind": "train",
        "measure": "running",
        "step": step,
        "epoch": epoch,
        "images": images,
        **scores,
        "rate": rate,
        "momentum": momentum,
        "time": time,
    }


def evaluation_record(
    split: Literal["validation", "test", "training"],
    step: int,
    epoch: float,
    images: int,
    scores: dict[str, float],
    final: bool,
    time: Record,
) -> Record:
    """Figures of unchanging weights on plain images, single view."""
    return {
        "kind": "evaluation",
        "measure": "evaluated",
        "split": split,
        "step": step,
        "epoch": epoch,
        "images": images,
        **scores,
        "final": final,
        "time": time,
    }


def kept_record(
    split: Literal["validation", "test"], step: int, metric: str, of: Mapping[str, Any], figures: Mapping[str, Any]
) -> Record:
    """Figures of the weights that were best on the validation images, told at the last step.

    `of_step` and `of_epoch` are where these weights are from.
    """
    place = {"of_step": of["step"], "of_epoch": of["epoch"], "metric": metric}
    return {"kind": "kept", "measure": "evaluated", "split": split, "step": step, **place, **figures}


def figures_of(record: Record) -> dict[str, Any]:
    """What an evaluation found: number of images, loss and shares."""
    return {name: record[name] for name in FIGURES if name in record}


def event_record(name: str, step: int, value: float) -> Record:
    """Something that the steps after it depend on has happened; `value` is the figure that made it so."""
    return {"kind": "event", "name": name, "step": step, "value": value}


def timeless(records: Sequence[Record]) -> list[Record]:
    """The records without what depends on the clock."""
    return [{k: v for k, v in record.items() if k != "time"} for record in records]


def last_of(records: Sequence[Record], kind: str, split: str | None = None) -> Record | None:
    """The last record of a kind (and split), or None."""
    for record in reversed(records):
        if record["kind"] == kind and (split is None or record.get("split") == split):
            return record
    return None


def lines_backwards(path: Path) -> Iterator[bytes]:
    """The whole lines of a regular file, the last one first, read from its end as far as they are asked for.

    What stands after the last line feed was cut by a crash and is left out. Raises ValueError for what is no
    regular file, and for a line of more than 1 MiB.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    with path.open("rb", buffering=0) as file:
        place, part, rest, cut = file.seek(0, os.SEEK_END), _PART, b"", True
        while place:
            size = min(part, place)
            place, part = place - size, 2 * part  # doubled, so that a long line costs no more than its length
            file.seek(place)
            if len(rest) > _LONGEST:
                raise ValueError("a line is too long")
            rest, *lines = (file.read(size) + rest).split(b"\n")
            if lines and cut:
                lines.pop()
                cut = False
            yield from reversed(lines)
        if not cut:
            yield rest


def last_figures(path: Path, splits: Sequence[str]) -> tuple[Record | None, dict[str, Record]]:
    """The last record, and the last evaluation of each split that has one.

    Reads from the end and stops where all are found; raises ValueError where a line it looks at is no record.
    """
    last: Record | None = None
    missing, found = set(splits), dict[str, Record]()
    for line in lines_backwards(path):
        if last is not None and not missing:
            break
        named = any(f'"{split}"'.encode() in line for split in missing)
        if not line.strip() or (last is not None and not named):
            continue
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        last = record if last is None else last
        if record["kind"] == "evaluation" and record["split"] in missing:
            missing.remove(record["split"])
            found[record["split"]] = record
    return last, found
