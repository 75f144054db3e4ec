"""The lines of `records.jsonl`: what happened at which step.

`step` counts finished steps, `epoch` the passes over the training images, `loss` is mean
cross-entropy in nats, `top1`, `top3`, `top5` are shares in [0, 1]. Whatever depends on the clock
stands under `time`, so that two runs can be compared without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Record = dict[str, Any]


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


def event_record(name: str, step: int, value: float) -> Record:
    """Something a schedule waits for has happened."""
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
