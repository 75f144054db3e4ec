"""Networks on their way out: ONNX Runtime answers as the network does, and what comes back is the same to the last bit.

A ResNet-20 is trained for two epochs of CIFAR-10 and exported to ONNX, as logits and prepared (pixels in, probabilities
out). Each file, as it lies on the disk, answers the first 1,000 test images in ONNX Runtime, beside the network. Then
weights go out by the names of this program, torchvision and timm, come in again, and answer images. Networks that go to
torchvision and timm have their initial weights, with the statistics of a few batches. Writes `results/onnx.json`.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from campaigns.running import ROOT, cifar_folder, require, trained, write_result
from residual.cli.main import run as command
from residual.evaluation.classifier import Classifier
from residual.evaluation.judged import select
from residual.evaluation.use import read_classifier
from residual.export.onnx_file import OPSET, TOLERANCE
from residual.files import Facts
from residual.models import NetworkSettings, build, resolve
from residual.sealed import write_folder

EPOCHS, IMAGES, BATCH = 2, 1000, 100


class Trip(NamedTuple):
    """Weights that go out by a library's names and come back; without parts it is the trained network itself."""

    target: str
    suffix: str = ".safetensors"
    network: str = ""
    parts: Mapping[str, Any] | None = None


_LARGE: Final = {"stem": "7x7"}
TRIPS: Final = (
    Trip("safetensors"),
    Trip("torchvision", ".safetensors", "resnet-18", {**_LARGE, "shortcut": "B"}),
    Trip("torchvision", ".pth", "resnet-18", {**_LARGE, "shortcut": "B"}),
    Trip("torchvision", ".safetensors", "resnet-50-v1.5", _LARGE),
    Trip("timm", ".safetensors", "resnet-50-v1.5", _LARGE),
    Trip("timm", ".pth", "fastbook-resnet50", {}),
    Trip("timm", ".pth", "preact-50", {**_LARGE, "stride": "3x3", "first_activation": "unit"}),
    Trip("safetensors", ".safetensors", "preact-50-keras", _LARGE),
)


def graphs(run: Path, images: Tensor, place: Path, kinds: Sequence[bool] = (False, True)) -> list[Facts]:
    """How well ONNX Runtime agrees with the network of a run on uint8 images, for each kind of graph.

    The two answer in batches of different sizes, so that a number of images built into the graph would show.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    classifier, found = read_classifier(run), []
    for prepared in kinds:
        path = place / f"prepared-{prepared}.onnx"
        options = ["--prepared"] if prepared else []
        _succeed("export", run, "--to", "onnx", "--out", path, "--check", len(images), *options)
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        same, largest = 0, 0.0
        for part in images.split(BATCH):
            seen = classifier.preprocessing.normalise(part)
            given = part if prepared else seen
            answers = [session.run(None, {"images": few.numpy()})[0] for few in given.split(BATCH - 37)]
            theirs = torch.cat([torch.from_numpy(answer) for answer in answers])
            with torch.inference_mode():
                logits = classifier.network(seen)
            ours = logits.softmax(1) if prepared else logits
            same += int((theirs.argmax(1) == ours.argmax(1)).sum())
            largest = max(largest, float((theirs - ours).abs().max()))
        answer = "pixels in, probabilities out" if prepared else "normalised in, logits out"
        found.append(
            {
                "graph": answer,
                "opset": OPSET,
                "bytes": path.stat().st_size,
                "images": len(images),
                "same_top1": same,
                "largest_difference": largest,
                "tolerance": TOLERANCE,
            }
        )
        print(f"{answer}: {same} of {len(images)} alike, largest difference {largest:.2g}", flush=True)
    return found


def round_trip(trip: Trip, run: Path, images: Tensor, place: Path) -> Facts:
    """A network out and in again: of how many images the logits are the same to the last bit."""
    old = read_classifier(run)
    source = run
    if trip.parts is not None:
        old = _settled(old, trip, images)
        source = place / "made"
        write_folder(source, old.pack(), "model", {"step": 0})
    path = place / f"weights{trip.suffix}"
    _succeed("export", source, "--to", trip.target, "--out", path)
    _succeed("import", path, "--from", "auto" if trip.target == "safetensors" else trip.target, "--to", place / "back")
    new = read_classifier(place / "back")
    same = 0
    with torch.inference_mode():
        for part in images.split(BATCH):
            seen = old.preprocessing.normalise(part)
            same += int((old.network(seen) == new.network(seen)).all(1).sum())
    print(f"{old.spec.name} to {trip.target} ({trip.suffix}) and back: {same} of {len(images)} identical", flush=True)
    return {
        "network": old.spec.name,
        "target": trip.target,
        "file": trip.suffix,
        "weights": "trained" if trip.parts is None else "initial, statistics of three batches",
        "images": len(images),
        "identical": same,
    }


def _settled(trained_one: Classifier, trip: Trip, images: Tensor) -> Classifier:
    """A classifier for the same images with another network, whose statistics are those of a few batches."""
    settings = NetworkSettings.model_validate({"name": trip.network, **(trip.parts or {})})
    network = build(resolve(settings, len(trained_one.class_names), trained_one.preprocessing.channels), 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(module.num_features))
    with torch.no_grad():
        for part in images[:60].split(20):
            network(trained_one.preprocessing.normalise(part))
    return Classifier(network.eval(), trained_one.preprocessing, trained_one.class_names, trained_one.provenance)


def _succeed(*arguments: object) -> None:
    code = command([str(argument) for argument in arguments])
    if code != 0:
        raise SystemExit(code)  # it has said why


def examine(
    run: Path, count: int, few: int, trips: Sequence[Trip] = TRIPS, kinds: Sequence[bool] = (False, True)
) -> Facts:
    """The figures of a run: graphs on its first `count` test images, round trips on the first `few`."""
    classifier = read_classifier(run)
    judged = select(classifier, run)
    images = judged.source.read(judged.indices[:count])
    with tempfile.TemporaryDirectory() as place:
        compared = graphs(run, images, Path(place), kinds)
    back = []
    for trip in trips:
        with tempfile.TemporaryDirectory() as place:
            back.append(round_trip(trip, run, images[:few], Path(place)))
    return {"data": f"test images of {judged.dataset}, the first", "graphs": compared, "round_trips": back}


def judge(found: Facts) -> int:
    """Exit code 0 where every graph and every round trip is as promised."""
    code = 0
    for graph in found["graphs"]:
        code |= require(graph["same_top1"], graph["images"], f"{graph['graph']}: same best class")
        code |= 0 if graph["largest_difference"] <= TOLERANCE else 1
    identical = [trip["identical"] == trip["images"] for trip in found["round_trips"]]
    return code | require(sum(identical), len(identical), "round trips that are bit-identical")


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="make campaign onnx", description=__doc__).parse_args(argv)
    began = time.monotonic()
    name = f"onnx-resnet-20-{EPOCHS}-epochs"
    choices = ["cifar10-fast", "--set", f"epochs={EPOCHS}", "--set", "compute.threads=1", "--log", "plain"]
    result = trained(ROOT / "runs" / name, choices, cifar_folder())
    found = examine(ROOT / "runs" / name, IMAGES, BATCH)
    versions = {library: metadata.version(library) for library in ("onnx", "onnxruntime", "onnxscript")}
    facts = {
        "trained": {
            "command": "residual train " + " ".join(choices),
            "network": result["network"]["name"],
            "epochs": EPOCHS,
            "seed": result["seed"],
            "steps": result["steps"],
            "test_top1": result["final"]["test"]["top1"],
            "device": result["device"],
        },
        "libraries": versions,
        **found,
    }
    write_result("onnx", facts, began)
    return judge(found)
