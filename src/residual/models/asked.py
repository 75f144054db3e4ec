"""A network asked for by name, as a person or a program would: `build("resnet-50", classes=5, shortcut="A")`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from residual.errors import UsageError, is_whole, nearest, rule_of
from residual.models.catalogue import find, resolve
from residual.models.networks import ResidualNetwork
from residual.models.networks import build as build_spec
from residual.models.spec import NONE_IS_A_CHOICE, NetworkSettings, NetworkSpec

LARGEST = 1 << 14
"""Pixels of a side at most."""

OTHER_WORDS = {
    "num_classes": "classes",
    "n_classes": "classes",
    "in_chans": "channels",
    "in_channels": "channels",
    "img_size": "image_size",
    "drop_rate": "dropout",
    "pretrained": "residual.import_weights, as of torchvision:resnet50",
    "weights": "residual.import_weights, as of torchvision:resnet50",
    "checkpoint_path": "residual.import_weights",
}
"""What other libraries call it, and what it is here."""


def build(
    network: str | NetworkSettings | NetworkSpec,
    classes: int | None = None,
    *,
    channels: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    **parts: Any,
) -> ResidualNetwork:
    """A network with its initial weights: on the CPU, float32, in training mode; N x channels x H x W -> N x classes.

    Args:
        network: a name of the catalogue (`residual models`), settings, or a whole specification.
        classes, channels: those of the network's paper unless given; a specification has its own.
        image_size: the side of the images, or height and width: a network for ImageNet then gets the stem that suits
            them. Without it, the stem of its paper.
        seed: of the weights: same network, same seed, same weights, whatever was drawn before.
        parts: any part of the network, as in `shortcut="B"`, `dropout=0.1` or `depths=(2, 2, 2)`.

    Raises:
        UsageError: no such network or part, or parts that do not fit together, every fault at once.
    """
    if not is_whole(seed):
        raise UsageError(f"seed is {seed!r:.60}", "build", "give a whole number")
    seed = int(seed)  # numpy's is written otherwise, and would be another
    if image_size is not None:
        image_size = sides(image_size)
    if isinstance(network, NetworkSpec):
        if parts or image_size is not None or not (classes is None is channels):
            what = "a specification names every part, and others were given beside it"
            raise UsageError(what, "build", "leave them out, or name the network")
        return build_spec(network, seed)
    if isinstance(network, NetworkSettings):
        name, parts = network.name, network.model_dump(exclude={"name"}, exclude_none=True) | parts
    else:
        name = network
    entry = find(name)
    classes, channels = (
        own if asked is None else int(asked) if is_whole(asked) else asked  # numpy's numbers, too
        for own, asked in ((entry.classes, classes), (entry.channels, channels))
    )
    return build_spec(named(entry.name, parts.items(), classes, channels, image_size), seed)


def sides(image_size: object) -> tuple[int, int]:
    """(H, W) of images whose side is given, or both.

    Raises:
        UsageError: it is neither.
    """
    both = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(both) != 2 or not all(is_whole(side) and 0 < side <= LARGEST for side in both):
        remedy = f"give the side in pixels, or (height, width), from 1 to {LARGEST}"
        raise UsageError(f"image_size is {image_size!r:.60}", "image_size", remedy)
    return int(both[0]), int(both[1])


def named(
    name: str,
    parts: Iterable[tuple[str, Any]],
    classes: int,
    channels: int,
    image_size: int | tuple[int, int] | None,
    faults: Iterable[str] = (),
    where: str = "parts",
) -> NetworkSpec:
    """The network of that name with some parts put on it.

    Args:
        faults: what is known to be wrong with the parts already.

    Raises:
        UsageError: with every fault at once.
    """
    known = [part for part in NetworkSettings.model_fields if part != "name"]
    wrong, found = list(faults), dict[str, Any]()
    for part, value in parts:
        if part not in known:
            meant = f"here it is {OTHER_WORDS[part]}" if part in OTHER_WORDS else _nearest(part, known)
            wrong.append(f"no such part: {part[:80]}; {meant}")
        elif found.get(part, value) != value:
            wrong.append(f"{part} is given twice; give it once")
        else:
            found[part] = "none" if value is None and part in NONE_IS_A_CHOICE else value
    try:
        NetworkSettings.model_validate({"name": name, **found})
    except ValidationError as error:
        bad, inner = error.errors(), {fault["loc"][0] for fault in error.errors() if len(fault["loc"]) > 1}
        # Of a list with wrong entries pydantic also says that it has none.
        wrong += [_fault(fault) for fault in bad if len(fault["loc"]) > 1 or fault["loc"][0] not in inner]
        found = {part: value for part, value in found.items() if part not in {f["loc"][0] for f in bad}}
    try:
        spec = resolve(NetworkSettings.model_validate({"name": name, **found}), classes, channels, image_size)
    except UsageError as error:
        wrong.append(error.remedy)
    if wrong:
        raise UsageError("this network cannot be built", where, ". ".join(wrong))
    return spec


def _fault(fault: Any) -> str:
    """One of pydantic's faults in a line, with the nearest value where there is a list of them."""
    part, given = ".".join(str(p) for p in fault["loc"]), fault["input"]
    if fault["type"] == "literal_error":
        words = re.findall(r"'([^']*)'|\b(True|False)\b", fault["ctx"]["expected"])
        kinds = [text or switch.lower() for text, switch in words]
        return f"{part} is {given!r:.80}: no such kind; {_nearest(str(given), kinds)}"
    return f"{part} is {given!r:.80}: {rule_of(fault['type'], fault['msg'])}"


def _nearest(name: str, known: list[str]) -> str:
    text = name[:80].lower()
    alike = [one for one in known if one.lower() == text] or difflib.get_close_matches(text, known, n=1, cutoff=0.85)
    begun = alike or [one for one in known if text and one.lower().startswith(text)]
    return f"did you mean {begun[0]}?" if len(begun) == 1 else nearest(text, known)
