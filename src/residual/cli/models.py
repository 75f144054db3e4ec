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
    explain: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the networks with their parameters and multiply-adds; or one, layer by layer.

    Parameters
    ----------
    name
        A network, as resnet-20 or resnet20; or several, as 'resnet-*'; without it, all of them.
    classes
        Classes to tell apart, if not those of the paper.
    channels
        Channels of an image, if not 3.
    image_size
        Side of the square images in pixels, if not the paper's; a network for ImageNet gets the stem for it.
    set
        Another part, as in `--set shortcut=B`; may be given several times.
    explain
        Explain how the network differs from the paper's, and what is known about its parts.
    json
        JSON instead of a table: a list of objects, or one object with its `layers`.
    """
    from residual.errors import UsageError
    from residual.models import Entry, find, matching, variants

    several = name is None or any(letter in name for letter in "*?[")
    for option, given, example in (("--set", bool(set), "--set shortcut=B"), ("--explain", explain, "--explain")):
        if several and given:
            raise UsageError(f"{option} needs the name of a network", "models", f"residual models resnet-20 {example}")
    for option, number, least in (
        ("--classes", classes, 2),
        ("--channels", channels, 1),
        ("--image-size", image_size, 1),
    ):
        if number is not None and not least <= number <= _LARGEST:
            raise UsageError(f"{number} is out of range", option, f"choose a number between {least} and {_LARGEST}")
    pairs: list[tuple[Entry, str | None]] = []
    if name is None:
        pairs = [(find(known), shortcut) for known, shortcut in variants()]
    elif several:
        pairs = [(entry, shortcut) for entry in matching(name) for shortcut in entry.shortcuts]
    else:
        pairs = [(find(name), None)]
    found = []
    for entry, shortcut in pairs:
        texts = [*([f"shortcut={shortcut}"] if shortcut else []), *(set or [])]
        spec = _spec(entry.name, texts, classes or entry.classes, channels or entry.channels, image_size)
        found.append((entry, spec, _count(spec, image_size or entry.image_size)))
    rows = [_row(entry, spec, counts) for entry, spec, counts in found]
    if not several:
        _show(rows[0], found[0][1], found[0][2], explained=explain, as_json=json)
    elif json:
        print(json_.dumps(rows))
    else:
        _list(rows)
    return 0


def _spec(name: str, texts: list[str], classes: int, channels: int, image_size: int | None) -> NetworkSpec:
    """The network with the parts named with --set; every fault of them is told at once."""
    from residual.errors import ResidualError
    from residual.models.asked import named
    from residual.training.values import parse_override

    faults: list[str] = []
    found: list[tuple[str, Any]] = []
    for text in texts:
        try:
            found.append(parse_override(text))
        except ResidualError:
            faults.append(f"{text[:80]!r} has no form part=value")
    return named(name, found, classes, channels, image_size, faults, "--set")


def _count(spec: NetworkSpec, size: int) -> Counts:
    from residual.models import count

    return count(spec, size)


def _row(entry: Any, spec: NetworkSpec, counts: Counts) -> dict[str, Any]:
    # The source's error is that of the source's network and images alone.
    own = entry.spec(spec.shortcut if spec.shortcut in entry.shortcuts else None)
    same = spec == own and counts.image_size == (entry.image_size, entry.image_size)
    return {
        "name": spec.name,
        "dataset": entry.dataset,
        "shortcut": spec.shortcut,
        "parameters": counts.parameters,
        "multiply_adds": counts.multiply_adds,
        "weighted_layers": counts.weighted_layers,
        "activations": counts.activations,
        "activations_total": counts.activations_total,
        "memory_fixed": counts.memory_fixed,
        "memory_per_image": counts.memory_per_image,
        "classes": spec.classes,
        "image_size": counts.image_size[0],
        "stem": spec.stem,
        "error": entry.errors.get(spec.shortcut) if same else None,
    }


def _list(rows: list[dict[str, Any]]) -> None:
    from residual.cli.tables import say_table

    columns = dict.fromkeys(("name", "data set", "shortcut", "stem"), False)
    columns |= dict.fromkeys(("layers", "parameters", "multiply-adds", "classes", "pixels", "paper's error %"), True)
    numbers = ("weighted_layers", "parameters", "multiply_adds", "classes", "image_size")
    cells = []
    for row in rows:
        error = (row["error"] or "").split(" (")[0].split(",")[0].split(";")[0]
        words = (row["name"], row["dataset"], row["shortcut"], row["stem"])
        cells.append((*words, *(f"{row[number]:,}" for number in numbers), error))
    title = "networks (multiply-adds of convolutions and fully connected layers, one image)"
    given_up = ("classes", "pixels", "stem", "layers", "data set", "paper's error %", "multiply-adds")
    say_table(title, columns, cells, given_up=given_up, more=" (--json has all)")


def _show(row: dict[str, Any], spec: NetworkSpec, counts: Counts, *, explained: bool, as_json: bool) -> None:
    from residual.cli.tables import say_table
    from residual.models import explain

    explanation = explain(spec)
    if as_json:
        whole = {**row, "network": spec.model_dump(mode="json"), "layers": counts.as_dict()["layers"]}
        print(json_.dumps({**whole, **({"explanation": explanation.as_dict()} if explained else {})}))
        return
    _list([row])
    if explained:
        for line in explanation.lines():
            print(line)
        return
    for part, value in spec.model_dump(mode="json").items():
        print(f"{part} = {json_.dumps(value)}")
    print(
        f"training in float32 keeps {counts.memory_per_image / 1e6:,.1f} MB an image, "
        f"and {counts.memory_fixed / 1e6:,.1f} MB for weights, gradients and momentum"
    )
    columns = dict.fromkeys(("layer", "kind", "output (C, H, W)"), False)
    columns |= dict.fromkeys(("parameters", "multiply-adds", "activations"), True)
    cells = []
    for layer in counts.layers:
        shape = " x ".join(str(n) for n in layer.shape)
        figures = (layer.parameters, layer.multiply_adds, layer.activations)
        cells.append((layer.name, layer.kind, shape, *(f"{number:,}" for number in figures)))
    given_up = ("activations", "kind", "parameters")
    say_table("layers", columns, cells, folding=["layer"], given_up=given_up, more=" (--json has all)")
