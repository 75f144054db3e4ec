"""The libraries' own networks beside ours: same weights in, same logits out, on twenty random images.

torchvision, timm, Transformers and Keras are no tools of this project and must be installed beside it for this. Every
network of theirs gets random scales, shifts and statistics, is written to a file by its own library, imported, and
answers the same images: in evaluation, and in training, where the statistics must move alike (Keras, on its torch
backend: evaluation, through each of its three kinds of file). Of Transformers what was imported is exported again and
answers there. torchvision's wheels do not load beside a CPU build of torch
unless their `_meta_registrations.py`, which no network needs, is emptied. Writes `results/peers.json`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from campaigns.running import require, write_result
from residual.errors import EnvironmentFault
from residual.evaluation.bringing import import_weights
from residual.export.writing import export_model
from residual.files import Facts
from residual.models.interchange.beside import network_beside
from residual.models.interchange.families import Library, bring_in
from residual.models.interchange.foreign import read_foreign

IMAGES, SIDE, TOLERANCE = 20, 64, 1e-5
OF_TORCH: Final[dict[Library, tuple[str, ...]]] = {
    "torchvision": ("resnet18", "resnet50", "resnet101", "vgg16_bn"),
    "timm": ("resnet18", "resnet50", "resnet50d", "resnetv2_18", "resnetv2_50", "resnetv2_50d"),
    "transformers": ("resnet-18", "resnet-50", "resnet-50, stride in the 1x1"),
}
LIBRARIES: Final = (*OF_TORCH, "keras")
OF_KERAS: Final = ("ResNet50", "ResNet101", "ResNet50V2", "ResNet152V2")


def drawn(module: nn.Module) -> nn.Module:
    """The network with scales (some negative), shifts and statistics that tell one layer from another."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.normal_(part.weight, 1, 0.5, generator=generator)
            for shift in (part.bias, part.running_mean):
                nn.init.normal_(shift, 0, 0.2, generator=generator)
            nn.init.uniform_(part.running_var, 0.5, 1.5, generator=generator)
    return module


def beside_torch(library: Library, name: str, theirs: nn.Module, place: Path) -> Facts:
    """How far ours is from a network of theirs: logits in both modes, and the statistics after training."""
    if library == "transformers":
        drawn(theirs).save_pretrained(place / name)  # type: ignore[operator]  # as all of its models have it
        path = place / name / "model.safetensors"
    else:
        path = place / f"{name}.pth"
        torch.save(drawn(theirs).state_dict(), path)
    ours = bring_in(read_foreign(path), library, path, beside=lambda: network_beside(path)).network
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    found: Facts = {"library": library, "network": name, "ours": ours.spec.name, "file": path.suffix}
    with torch.no_grad():
        found["evaluation"] = _apart(ours.eval()(images), _logits(theirs.eval()(images)))
        if not any(isinstance(part, nn.Dropout) and part.p > 0 for part in theirs.modules()):
            found["training"] = _apart(ours.train()(images), _logits(theirs.train()(images)))
            pairs = zip(_statistics(ours), _statistics(theirs), strict=True)
            found["statistics"] = max(_apart(one, other) for one, other in pairs)
    return found


def _logits(answer: Any) -> Tensor:
    """Of Transformers' answers the logits."""
    found: Tensor = getattr(answer, "logits", answer)
    return found


def of_transformers(transformers: Any, name: str) -> nn.Module:
    """A ResNet of Transformers with random weights, as its configuration makes it."""
    parts: Facts = {"downsample_in_bottleneck": name.endswith("1x1")}
    if name == "resnet-18":
        parts |= {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
    made: nn.Module = transformers.ResNetForImageClassification(transformers.ResNetConfig(**parts, num_labels=1000))
    return made


def out_to_transformers(transformers: Any, name: str, place: Path) -> Facts:
    """How far what `residual export` makes of such a network is from it, where Transformers has read it."""
    ours = import_weights(place / name / "model.safetensors")
    made = export_model(ours, place / f"{name}, out", to="transformers")
    theirs = transformers.AutoModelForImageClassification.from_pretrained(made.path).eval()
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        apart = _apart(ours.network(images), _logits(theirs(images)))
    return {"library": "transformers", "network": name, "ours": ours.spec.name, "file": "out", "evaluation": apart}


def _statistics(network: nn.Module) -> Iterator[Tensor]:
    """Running means and variances in an order that both sides have: that of their size and content."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    tensors = [t for norm in norms for t in (norm.running_mean, norm.running_var) if t is not None]
    yield from sorted(tensors, key=lambda tensor: (len(tensor), float(tensor.double().sum())))


def beside_keras(keras: Any, name: str, place: Path) -> list[Facts]:
    """How far ours is from a network of Keras, through each kind of file that Keras writes."""
    model = getattr(keras.applications, name)(
        weights=None, classifier_activation=None, input_shape=(SIDE, SIDE, 3), classes=100
    )
    chance = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            values = [chance.normal(*spread, size) for spread in ((1, 0.5), (0, 0.2), (0, 0.2))]
            layer.set_weights([*values, chance.uniform(0.5, 1.5, size)])
        elif isinstance(layer, keras.layers.Conv2D) and layer.use_bias:
            layer.bias.assign(chance.normal(0, 0.1, layer.bias.shape[0]))
    pixels = chance.integers(0, 256, (IMAGES, SIDE, SIDE, 3)).astype("float32")
    kind = keras.applications.resnet_v2 if name.endswith("V2") else keras.applications.resnet
    with torch.no_grad():
        theirs = torch.as_tensor(np.asarray(model(kind.preprocess_input(pixels.copy()), training=False).cpu()))
    found = []
    for suffix in (".h5", ".weights.h5", ".keras"):
        path = place / f"{name}{suffix}"
        (model.save_weights if suffix == ".weights.h5" else model.save)(path)
        brought = bring_in(read_foreign(path), "keras", path)
        assert brought.sight is not None
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (brought.sight.mean, brought.sight.std))
        with torch.no_grad():
            ours = brought.network((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
        row = {"library": "keras", "network": name, "ours": brought.network.spec.name, "file": suffix}
        found.append({**row, "evaluation": _apart(ours, theirs)})
    return found


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of their largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def installed() -> dict[str, Any]:
    """torchvision, timm, Transformers and Keras by their names.

    Raises:
        EnvironmentFault: one of them is not installed.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    try:
        return {name: importlib.import_module(name) for name in LIBRARIES}
    except (ImportError, RuntimeError) as error:
        what = f"not every library to compare with can be used: {error}"
        raise EnvironmentFault(
            what, "peers", "pip install transformers, and --no-deps torchvision timm keras, beside the others"
        ) from None


def examine(place: Path) -> list[Facts]:
    found = installed()
    make: dict[str, Callable[[str], nn.Module]] = {
        "torchvision": found["torchvision"].models.get_model,
        "timm": found["timm"].create_model,
        "transformers": partial(of_transformers, found["transformers"]),
    }
    rows = []
    for library, names in OF_TORCH.items():
        for name in names:
            rows.append(beside_torch(library, name, make[library](name), place))
            print(rows[-1], flush=True)
            if library == "transformers":
                rows.append(out_to_transformers(found[library], name, place))
                print(rows[-1], flush=True)
    for name in OF_KERAS:
        rows += beside_keras(found["keras"], name, place)
        print(rows[-1], flush=True)
    return rows


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="make campaign peers", description=__doc__).parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        rows = examine(Path(place))
    near = [max(row[k] for k in ("evaluation", "training", "statistics") if k in row) <= TOLERANCE for row in rows]
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    facts = {"libraries": libraries, "images": IMAGES, "pixels": SIDE, "tolerance": TOLERANCE, "comparisons": rows}
    write_result("peers", facts, began)
    return require(sum(near), len(near), f"within {TOLERANCE:g} of the largest value")
