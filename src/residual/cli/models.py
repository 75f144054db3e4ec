"""`residual models`."""

from __future__ import annotations

import json as json_
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from residual.models import Counts, NetworkSpec


def models(
    name: str | None = None,
    /,
    *,
    classes: int | None = None,
    channels: int | None = None,
    image_size: int | None = None,
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
        pairs = variants()
    else:
        pairs = [(find(name).name, None)]  # type: ignore[list-item]
    found = []
    for known, shortcut in pairs:
        entry = NETWORKS[known]
        size = image_size if image_size is not None else entry.image_size
        spec = _spec(known, shortcut, classes or entry.classes, channels or entry.channels, set or [])
        found.append((entry.dataset, size, spec, _count(spec, size)))
    if name is not None:
        _show(*found[0], as_json=json)
    elif json:
        print(json_.dumps([_row(dataset, size, spec, counts) for dataset, size, spec, counts in found]))
    else:
        _list([_row(dataset, size, spec, counts) for dataset, size, spec, counts in found])
    return 0


def _spec(name: str, shortcut: str | None, classes: int, channels: int, changes: list[str]) -> NetworkSpec:
    from pydantic import ValidationError

    from residual.errors import UsageError, nearest
    from residual.models import NetworkSettings, resolve
    from residual.training.recipe import parse_override

    values: dict[str, Any] = {"shortcut": shortcut} if shortcut else {}
    values |= dict(parse_override(text) for text in changes)
    if classes < 2 or channels < 1:
        raise UsageError(f"{classes} classes of {channels} channels", "models", "at least 2 classes and 1 channel")
    try:
        return resolve(NetworkSettings.model_validate({"name": name, **values}), classes, channels)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UsageError(
                f"no such part: {path}", "--set", nearest(path, list(NetworkSettings.model_fields))
            ) from None
        raise UsageError(f"{path} = {first['input']!r}: {first['msg']}", "--set", "correct it") from None


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
