"""One flipped bit or a cut anywhere in a checkpoint is found before a tensor is used; the previous one serves.

Every bit of every file of a small checkpoint is flipped in turn, and a ResNet-20's at random places;
every file is cut at every KiB and by one byte. For a sample, the whole way is walked: `--resume` of the
damaged run ends bit for bit as the undamaged one, and no byte of the damaged file is ever decoded.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import tempfile
import time
from pathlib import Path

import safetensors.torch
from torch import Tensor

from campaigns.every_step import TINY
from campaigns.running import fingerprint, require, unlike, write_result
from residual.files import Damaged, Facts
from residual.runs.folder import MODEL, RESULT, RunFolder
from residual.sealed import read_folder
from residual.training.train import resume, train

SMALL = {**TINY, "network.widths": [2, 2, 2], "steps": 6, "checkpoint.keep": 3, "checkpoint.every_steps": 2}
LARGE = {"steps": 2, "checkpoint.every_steps": 1, "compute.threads": 1, "compute.precision": "float32"}


def found_at(folder: Path, file: Path, damaged: bytes) -> bool:
    """Whether reading the checkpoint refuses it while `file` holds other bytes."""
    whole = file.read_bytes()
    file.write_bytes(damaged)
    try:
        read_folder(folder, "checkpoint")
        return False
    except Damaged:
        return True
    finally:
        file.write_bytes(whole)


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(folder: Path, sample: int | None, seed: int = 0) -> Facts:
    """Flip every bit of every file of a checkpoint (or `sample` bits of each); count those that are found."""
    draws = random.Random(seed)
    tried = found = 0
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        size = 8 * len(data)
        bits = range(size) if sample is None or sample >= size else draws.sample(range(size), sample)
        for bit in bits:
            tried += 1
            found += found_at(folder, file, flip(data, bit))
    return {"bits": tried, "found": found, "bytes": sum(f.stat().st_size for f in folder.iterdir())}


def cuts(folder: Path, every: int = 1024) -> Facts:
    """Cut every file at every KiB, or `every` so many bytes, at 0 and by one byte; count the cuts that are found."""
    tried = found = 0
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        for length in sorted({*range(0, len(data), every), len(data) - 1}):
            tried += 1
            found += found_at(folder, file, data[:length])
    return {"cuts": tried, "found": found}


def served(whole: RunFolder, damages: int, place: Path, seed: int = 0) -> Facts:
    """Damage the newest checkpoint in `damages` ways; resume; the end must be the same, the damage never decoded."""
    reference = fingerprint(whole.path)
    draws = random.Random(seed)
    same = decoded = 0
    real_load = safetensors.torch.load
    for number in range(damages):
        copy = place / f"damaged-{number}"
        shutil.copytree(whole.path, copy, ignore=shutil.ignore_patterns(MODEL, RESULT, "lock*"))
        folder = RunFolder(copy)
        file = draws.choice(sorted(folder.checkpoint_path(folder.steps()[0]).iterdir()))
        data = file.read_bytes()
        damaged = flip(data, draws.randrange(8 * len(data))) if number % 2 else data[: draws.randrange(len(data))]
        file.write_bytes(damaged)
        seen: list[bytes] = []

        def load(given: bytes, seen: list[bytes] = seen) -> dict[str, Tensor]:
            seen.append(given)
            return real_load(given)

        vars(safetensors.torch)["load"] = load
        try:
            resume(copy)
        finally:
            vars(safetensors.torch)["load"] = real_load
        same += not unlike(reference, copy)
        decoded += damaged in seen
        shutil.rmtree(copy)
    return {"damages": damages, "same_end": same, "damaged_bytes_decoded": decoded}


def examine(bits: int | None, damages: int, every: int = 1024) -> Facts:
    """The whole proof; `bits` bounds the flips of each file of the small checkpoint (None: all of them), `every` is the
    distance of the cuts of the large one in bytes.
    """
    logging.getLogger("residual").setLevel(logging.ERROR)
    place = Path(tempfile.mkdtemp(prefix="residual-damage-"))
    try:
        small = train("digits", set=SMALL, out=place / "small")
        large = train("digits", set=LARGE, out=place / "large")
        newest = {run: run.checkpoint_path(run.steps()[0]) for run in (small, large)}
        return {
            "small_checkpoint": flips(newest[small], bits),
            "resnet_20": flips(newest[large], min(200, bits or 200)),
            "truncation_small": cuts(newest[small]),
            "truncation_resnet_20": cuts(newest[large], every),
            "previous_serves": served(small, damages, place),
        }
    finally:
        shutil.rmtree(place, ignore_errors=True)
        logging.getLogger("residual").setLevel(logging.NOTSET)


def judge(found: Facts) -> int:
    """Say what was found of what was done; 0 where that is all."""
    code = 0
    for name in ("small_checkpoint", "resnet_20"):
        code |= require(found[name]["found"], found[name]["bits"], f"{name}: flipped bits found")
    for name in ("truncation_small", "truncation_resnet_20"):
        code |= require(found[name]["found"], found[name]["cuts"], f"{name}: found")
    rest = found["previous_serves"]
    code |= require(rest["same_end"], rest["damages"], "resumed from the checkpoint before, to the same end")
    return code | int(rest["damaged_bytes_decoded"] != 0)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign damage", description=__doc__)
    parser.add_argument("--bits", type=int, default=None, help="flips of each file of the small checkpoint; all")
    parser.add_argument("--damages", type=int, default=60)
    options = parser.parse_args(argv)
    began = time.monotonic()
    found = examine(options.bits, options.damages)
    write_result("damage", found, began)
    return judge(found)
