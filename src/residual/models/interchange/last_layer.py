"""The last layer of a foreign file: in a sequence, as people put a dropout before it, or absent."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from torch import Tensor

from residual.errors import ModelError

_PLACE: Final = re.compile(r"fc\.\d{1,5}\.(weight|bias)")
_NAMES: Final = {
    **dict.fromkeys(("torchvision", "timm", "timm-d"), "fc.weight"),
    **dict.fromkeys(("keras", "keras-v2"), "predictions/kernel"),
    "torchvision-vgg": "classifier.6.weight",
    "timm-v2": "head.fc.weight",
    "cifar": "linear.weight",
    "transformers": "classifier.1.weight",
}
"""By the names of the families."""


def out_of_sequence(tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The tensors with `fc.1.weight` and its bias as `fc.weight` and `fc.bias`, and what was done.

    Only where nothing else of `fc` has tensors: what stands around it then has none, as a dropout, or an activation
    behind it, which no file tells.
    """
    places = {name: found[1] for name in tensors if (found := _PLACE.fullmatch(name))}
    inside = [name for name in tensors if name.startswith("fc.")]
    layers = {name.rpartition(".")[0] for name in inside}
    if len(layers) != 1 or len(places) != len(inside) or tensors.get(f"{(layer := layers.pop())}.weight") is None:
        return tensors, ()
    if tensors[f"{layer}.weight"].ndim != 2:
        return tensors, ()
    said = f"{layer} is the one layer of fc that has weights: taken as fc, and nothing else there changes an answer"
    return {f"fc.{places[name]}" if name in places else name: own for name, own in tensors.items()}, (said,)


def refuse_headless(names: Collection[str], families: Mapping[str, tuple[str, ...]], where: object) -> None:
    """Say what a file lacks that is of a family but for its last layer.

    Args:
        families: by their names the names of tensors by which each is known.

    Raises:
        ModelError: it lacks it, or has several in its stead.
    """
    lasts = [_NAMES[family] for family, example in families.items() if _lacks(names, _NAMES.get(family), example)]
    if not lasts:
        return
    several = sorted(name for name in names if "fc.weight" in lasts and name.startswith("fc."))
    if several:
        shown = ", ".join(f"{name:.40}" for name in several[:4]) + (", ..." if len(several) > 4 else "")
        raise ModelError(
            f"its last layer is made of several: {shown}", where, "networks here end with one linear layer"
        )
    what = f"a network without its last layer, {' or '.join(dict.fromkeys(lasts))}"
    remedy = "take weights that have it (of Keras those of include_top=True), for nothing else tells the classes"
    raise ModelError(what, where, remedy)


def _lacks(names: Collection[str], last: str | None, example: tuple[str, ...]) -> bool:
    """Whether these are the names of a network but for that last layer, and no other layer stands in its place."""
    if last is None or last in names:
        return False
    bare = tuple(name.removeprefix("resnet.") for name in example)  # of Transformers' networks without a last layer
    example = next((one for one in (example, bare) if all(name in names for name in one if name != last)), ())
    return bool(example) and {_root(name) for name in names} <= {_root(name) for name in example} | {"stem", "norm"}


def _root(name: str) -> str:
    """The letters with which a name begins: layer of layer1.0.conv1.weight, conv of conv2_block1_1_conv/kernel."""
    found = re.match("[a-z]*", name)
    return found[0] if found else ""
