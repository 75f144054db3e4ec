"""Protocols and ensembles on finished runs: single views, ten crops, many scales, members beside their ensemble.

Tiny ImageNet: the two runs of `make campaign tiny-imagenet` (seeds 0 and 1), on the validation images, which are the
reporting set there, since its test images have no labels; nothing was chosen by them. CIFAR-10: the three seeds of
`make campaign cifar10-fast`, on the test images. The answers are kept under runs/protocols, and read again from there
without the models.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from campaigns.running import RESULTS, ROOT, cifar_folder, spread, write_result
from campaigns.tiny_imagenet import find_archive
from residual.data.splits import stratified
from residual.device import choose_device
from residual.errors import UsageError
from residual.evaluation.answering import answer_sheet
from residual.evaluation.figures import Report
from residual.evaluation.intervals import compare
from residual.evaluation.judged import Judged, select
from residual.evaluation.protocols import Average, Protocol
from residual.evaluation.scores import rank_of_truth
from residual.evaluation.sheets import Sheet, save
from residual.evaluation.together import Together, from_files
from residual.evaluation.use import read_classifier
from residual.files import Facts

AVERAGE: Average = "probabilities"


@dataclass(frozen=True)
class Part:
    """Runs judged together under some protocols."""

    title: str
    runs: Sequence[str]
    maker: str
    protocols: Sequence[Protocol]


PARTS = {
    "tiny-imagenet": Part(
        title="Tiny ImageNet, validation images, which are its reporting set",
        runs=("tiny-imagenet", "tiny-imagenet-10-seed1"),
        maker="make campaign tiny-imagenet, and once more with ARGS='--seed 1'",
        protocols=("1-crop", "10-crop", "multi-scale"),
    ),
    "cifar-10": Part(
        title="CIFAR-10, test images",
        runs=tuple(f"cifar10-fast-resnet-20-seed{seed}" for seed in range(3)),
        maker="make campaign cifar10-fast",
        protocols=("1-crop", "10-crop"),
    ),
}


def brief(report: Report) -> Facts:
    """The figures of a report that a table has room for."""
    told = report.as_dict()
    kept = ("place", "step", "split", "protocol", "words", "average", "images", "loss", "top1", "top3", "top5")
    calibration = told["calibration"]
    return {
        **{name: told[name] for name in kept if name in told},
        "place": Path(told["place"]).name,
        "intervals": told["intervals"],
        "balanced_accuracy": told["balanced_accuracy"],
        "expected_calibration_error": calibration["expected_error"],
        "calibration_bins": calibration["bins_of_equal_width"],
    }


def _right(sheet: Sheet) -> Any:
    return rank_of_truth(sheet.logits, sheet.labels) == 0


def told(found: Together) -> Facts:
    """Members, ensemble, the members against each other and each of them against the ensemble."""
    members, ensemble = found.members, found.ensemble
    if ensemble is None:
        raise UsageError("one run is no ensemble", "protocols", "name two or more")
    whole = _right(ensemble.sheet)
    against = [compare(Path(one.place).name, _right(one.sheet), "ensemble", whole) for one in members]
    pairs = [pair.as_dict() for pair in found.pairs]
    for pair in pairs:
        pair["first"], pair["second"] = Path(pair["first"]).name, Path(pair["second"]).name
    return {
        "members": [brief(one) for one in members],
        "ensemble": brief(ensemble),
        "members_top1": spread([one.evaluation.scores["top1"] for one in members]),
        "members_expected_calibration_error": spread([one.calibration.error for one in members]),
        "paired": pairs,
        "paired_with_ensemble": [pair.as_dict() for pair in against],
    }


def judged(runs: Sequence[Path], protocol: Protocol, data: str | None, folder: Path, images: int | None) -> Together:
    """The runs and their ensemble under a protocol; each run's answers are kept in a file and read from there.

    Args:
        images: how many are looked at, the same share of each class; all unless given.
    """
    files = []
    for run in runs:
        file = folder / f"{run.name}-{protocol}-{images or 'all'}.npz"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            classifier = read_classifier(run)
            chosen = _some(select(classifier, run, path=data), images)
            device = choose_device("auto")
            save(file, [answer_sheet(classifier, chosen, run, protocol=protocol, average=AVERAGE, device=device)])
        files.append(file)
    return from_files(files, AVERAGE)


def _some(all_of_them: Judged, images: int | None) -> Judged:
    if images is None or images >= len(all_of_them.indices):
        return all_of_them
    labels = all_of_them.source.labels[all_of_them.indices]
    _, held = stratified(labels, images / len(labels), "protocols")
    return replace(all_of_them, indices=all_of_them.indices[held])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign protocols")
    parser.add_argument("--only", choices=list(PARTS), help="one of the two; the other's figures stay as they are")
    parser.add_argument("--images", type=int, help="look at so many images, the same share of each class; else at all")
    parser.add_argument("--runs", default=str(ROOT / "runs"), help="where the finished runs are")
    parser.add_argument("--data", help="where the images of --only are, if not where they were at training")
    options = parser.parse_args(argv)
    if options.data is not None and options.only is None:
        raise UsageError("--data is about one of the two", "protocols", "name it with --only")
    began, folder = time.monotonic(), Path(options.runs).expanduser()
    stored = RESULTS / "protocols.json"
    kept = json.loads(stored.read_bytes()) if options.only and stored.is_file() else None
    old = kept["parts"] if kept else {}
    names = [options.only] if options.only else list(PARTS)
    for part in (PARTS[name] for name in names):
        missing = [run for run in part.runs if not (folder / run / "result.json").is_file()]
        if missing:
            raise UsageError(f"the run {missing[0]} is not there or not finished", folder, part.maker)
    new: dict[str, Facts] = {}
    for name in names:
        part, start = PARTS[name], time.monotonic()
        data = options.data or (str(find_archive(None)) if name == "tiny-imagenet" else cifar_folder())
        runs = [folder / run for run in part.runs]
        by_protocol: dict[str, Facts] = {}
        for protocol in part.protocols:
            found = judged(runs, protocol, data, ROOT / "runs" / "protocols", options.images)
            by_protocol[protocol] = told(found)
            means, whole = by_protocol[protocol]["members_top1"]["mean"], by_protocol[protocol]["ensemble"]["top1"]
            print(f"{name}, {protocol}: members {means:.2%}, ensemble {whole:.2%}", flush=True)
        count = by_protocol[part.protocols[0]]["ensemble"]["images"]
        new[name] = {"title": part.title, "images": count, "runs": list(part.runs), "protocols": by_protocol}
        new[name]["seconds"] = round(time.monotonic() - start, 1)
    found_parts = {name: (old | new)[name] for name in PARTS if name in old | new}
    write_result("protocols", {"parts": found_parts}, began, kept)
    return 0
