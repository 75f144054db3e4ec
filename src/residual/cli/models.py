"""`residual models`."""

from __future__ import annotations

import json as json_
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from residual.cli.text import Whole

_LARGEST = 1 << 14

if TYPE_CHECKING:
    from residual.models import Counts, NetworkSpec


def models(
    name: str | None = None,
    /,
    *,
    classes: Whole | None = None,
    channels: Whole | None = None,
    image_size: Whole | None = None,
    set: Annotated[list[str], Parameter(allow_repeating=True, negative=())] | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the networks with their parameters and multiply-adds; or one, layer by layer.

    Parameters
    ----------
    name
        A network, as resnet-20 or resnet20; without it, all of them.
    classes
        Classes to tell apart, if not those of the paper.
    channels
        Channels of an image, if not 3.
    image_size
        Side of the square images in pixels, if not the paper's.
    set
        Another part, as in `--set shortcut=B`; may be given several times.
    json
        JSON instead of a table: a list of objects, or one object with its `layers`.
    """
    from residual.errors import UsageError
    from residual.models import NETWORKS, find, variants

    if name is None:
        if set:
            raise UsageError(
                "--set needs the name of a network", "models", "residual models resnet-20 --set shortcut=B"
            )
        pairs: list[tuple[str, str | None]] = [*variants()]
    else:
        pairs = [(find(name).name, None)]
    changes = _changes(set or [])
    for option, number, least in (
        ("--classes", classes, 2),
        ("--channels", channels, 1),
        ("--image-size", image_size, 1),
    ):
        if number is not None and not least <= number <= _LARGEST:
            raise UsageError(f"{number} is out of range", option, f"choose a number between {least} and {_LARGEST}")
    found = []
    for known, shortcut in pairs:
        entry = NETWORKS[known]
        size = image_size if image_size is not None else entry.image_size
        spec = _spec(known, shortcut, classes or entry.classes, channels or entry.channels, changes)
        found.append((entry.dataset, size, spec, _count(spec, size)))
    if name is not None:
        _show(*found[0], as_json=json)
    elif json:
        print(json_.dumps([_row(dataset, size, spec, counts) for dataset, size, spec, counts in found]))
    else:
        _list([_row(dataset, size, spec, counts) for dataset, size, spec, counts in found])
    return 0


def _changes(texts: list[str]) -> dict[str, Any]:
    """The parts named with --set, each once and each one a part of a network."""
    from residual.errors import UsageError, nearest
    from residual.models import NetworkSettings
    from residual.training.recipe import parse_override

    known = [part for part in NetworkSettings.model_fields if part != "name"]
    found: dict[str, Any] = {}
    for part, value in (parse_override(text) for text in texts):
        if part not in known:
            raise UsageError(f"no such part: {part[:80]}", "--set", nearest(part[:80], known))
        if found.get(part, value) != value:
            raise UsageError(f"{part} is given twice", "--set", "give it once")
        found[part] = value
    return found


def _spec(name: str, shortcut: str | None, classes: int, channels: int, changes: dict[str, Any]) -> NetworkSpec:
    from pydantic import ValidationError

    from residual.errors import UsageError
    from residual.models import NetworkSettings, resolve

    values: dict[str, Any] = ({"shortcut": shortcut} if shortcut else {}) | changes
    try:
        return resolve(NetworkSettings.model_validate({"name": name, **values}), classes, channels)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'])} is {fault['input']!r:.80}: "
            + fault["msg"].replace("Input should", "must", 1)
            for fault in error.errors()
        ]
        raise UsageError("this network cannot be built", "--set", ". ".join(faults)) from None


def _count(spec: NetworkSpec, size: int) -> Counts:
    from residual.models import count

    return count(spec, size)


def _row(dataset: str, size: int, spec: NetworkSpec, counts: Counts) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dataset": dataset,
        "shortcut": spec.shortcut,
        "parameters": counts.parameters,
        "multiply_adds": counts.multiply_adds,
        "weighted_layers": counts.weighted_layers,
        "classes": spec.classes,
        "image_size": size,
    }


def _list(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from residual.cli.words import console

    table = Table(title="networks (multiply-adds of convolutions and fully connected layers, one image)")
    for column in (
        "name",
        "data set",
        "shortcut",
        "weighted layers",
        "parameters",
        "multiply-adds",
        "classes",
        "pixels",
    ):
        table.add_column(column, justify="left" if column in ("name", "data set", "shortcut") else "right")
    for row in rows:
        numbers = [f"{row[k]:,}" for k in ("weighted_layers", "parameters", "multiply_adds", "classes", "image_size")]
        table.add_row(row["name"], row["dataset"], row["shortcut"], *numbers)
    console().print(table)


def _show(dataset: str, size: int, spec: NetworkSpec, counts: Counts, as_json: bool) -> None:
    from rich.table import Table

    from residual.cli.words import console

    row = _row(dataset, size, spec, counts)
    if as_json:
        print(json_.dumps({**row, "network": spec.model_dump(mode="json"), "layers": counts.as_dict()["layers"]}))
        return
    _list([row])
    table = Table(title="layers")
    for column in ("layer", "kind", "output (C, H, W)", "parameters", "multiply-adds"):
        table.add_column(column, justify="right" if column in ("parameters", "multiply-adds") else "left")
    for layer in counts.layers:
        shape = " x ".join(str(n) for n in layer.shape)
        table.add_row(layer.name, layer.kind, shape, f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
    console().print(table)
